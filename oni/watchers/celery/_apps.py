"""The Celery app that sender and receiver talk through: the user's own, or one made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.connection import Connection
from twisted.logger import Logger

from oni.errors import MissingExtraError, SettingsError

__all__ = [
    "BROKER",
    "app_for",
    "own_settings",
    "prepare_worker",
    "read_address",
    "read_seconds",
    "read_truth",
    "settings_of",
]

_log = Logger()

QUEUE = "oni"
"""The queue of an app that is made here."""

FOLDER = "oni-broker"
"""Where messages lie when no broker is said: below the folder that the process works in."""

_OF_REDIS = ("redis", "rediss", "sentinel")  # schemes


def app_for(app: Any, broker: str | None, folder: str | None, queue: str | None) -> Any:
    """Give the app; nothing is connected yet.

    Args:
        app: The user's own. None: one is made of what follows.
        broker: The broker's address, any that Celery knows. None: files in a folder, for those
            who try it.
        folder: That folder. None: :data:`FOLDER`.
        queue: The queue that an app that is made has. None: :data:`QUEUE`.

    Raises:
        ValueError: More than one of app, broker and folder is given, or the address is none.
        MissingExtraError: The broker is a Redis, whose client is not installed.
        ImportError: What Celery needs for another broker is not installed.
    """
    if sum(each is not None for each in (app, broker, folder)) > 1:
        raise ValueError("an app has its broker, and a broker needs no folder: give one of them")
    if app is not None:
        return app
    if broker is not None:
        _check(broker)
    made = Celery("oni", broker=broker or "filesystem://", set_as_current=False)
    made.conf.task_default_queue = queue or QUEUE
    if broker is None:
        made.conf.broker_transport_options = _files(Path(folder or FOLDER).absolute())
    return made


def _check(broker: str) -> None:
    scheme = broker.partition(":")[0]
    if scheme.partition("+")[0] in _OF_REDIS:
        try:
            import_module("redis")  # without it what kombu raises does not tell what is missing
        except ImportError as error:
            raise MissingExtraError(f"a broker at {scheme}:", "redis", error) from error
    try:
        Connection(broker).transport  # noqa: B018 - nothing is connected
    except (KeyError, TypeError, ValueError):
        # What is wrong may have a password in it, and so may the error.
        raise ValueError(
            "it is no broker's address that Celery knows. In a password / : @ # ? and % are "
            "written %2F %3A %40 %23 %3F and %25"
        ) from None


def _files(folder: Path) -> dict[str, Any]:
    queue, control = folder / "queue", folder / "control"
    for each in (queue, control):
        each.mkdir(parents=True, exist_ok=True)
    _log.warn(
        "No broker is said: messages go through the folder {folder}. A worker that is killed "
        "loses what it had taken from there",
        folder=str(folder),
    )
    return {"data_folder_in": str(queue), "data_folder_out": str(queue), "control_folder": control}


# --- What a worker needs, where its user has not said otherwise


def prepare_worker(app: Any, visibility_timeout: float) -> None:
    """Let an app's workers lose nothing, as far as its user has not said otherwise.

    Args:
        app: The app; it may have its configuration already, or later.
        visibility_timeout: Seconds after which Redis gives a message to another worker.
    """
    ours = {
        "worker_prefetch_multiplier": 1,
        # Those that wait for another attempt lie in the worker's memory.
        "worker_eta_task_limit": 1000,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    }
    redis = {
        "visibility_timeout": visibility_timeout,
        "unacked_restore_throttle": 1,  # look every 10 seconds, and not every 100
    }

    def fill(source: Any, **_: object) -> None:
        *said, defaults = source.maps
        for name, value in ours.items():
            # A setting may also stand there under an old name.
            if source[name] == defaults[name] and not any(name in each for each in said):
                source[name] = value
        source.broker_transport_options = {**redis, **(source.broker_transport_options or {})}

    if app.configured:
        fill(app.conf)
    else:
        app.on_after_configure.connect(fill, weak=False)


# --- Settings


def own_settings(
    settings: Mapping[str, Any], task_name: str, known: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    """Give what the settings say of a process's broker: ``<task_name>.celery.<name>``.

    In TOML these are a table ``[watchers.<task_name>.celery]``.

    Args:
        settings: All of them.
        task_name: The process's name.
        known: What reads each one: it gives what a value means, or raises a ValueError that says
            what it should be.

    Raises:
        SettingsError: One is wrong, or there is none of this name.
    """
    prefix = f"{task_name}.celery."
    said = {
        key.removeprefix(prefix): value
        for key, value in settings.items()
        if key.startswith(prefix)
    }
    table = settings.get(f"{task_name}.celery")
    if isinstance(table, Mapping):
        said |= table
    found = {}
    problems = []
    for name, value in said.items():
        if name not in known:
            names = ", ".join(known)
            problems.append(f"{prefix}{name}: there is no such setting; there are {names}")
            continue
        try:
            found[name] = known[name](value)
        except ValueError as error:
            problems.append(f"{prefix}{name}: {error}")
    if problems:
        raise SettingsError(problems)
    return found


@contextmanager
def settings_of(task_name: str) -> Iterator[None]:
    """Say of which settings it is what is found wrong in the block."""
    try:
        yield
    except ValueError as error:
        raise SettingsError([f"{task_name}.celery: {error}"]) from error


def read_text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"it is a text, not {value!r}")
    return value


def read_address(value: Any) -> str:
    """Read a broker's or a ledger's address. What is wrong may have a password in it."""
    if not isinstance(value, str) or ("://" not in value and value != "memory:"):
        raise ValueError("it is an address, like redis://127.0.0.1:6379/0")
    return value


def read_broker(value: Any) -> str:
    """Read a broker's address."""
    found = read_address(value)
    _check(found)
    return found


def read_seconds(value: Any) -> float:
    """Read a number of seconds."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = 0.0
    if isinstance(value, bool) or not 0 < found < inf:
        raise ValueError(f"it is a number of seconds, not {value!r}")
    return found


def read_truth(value: Any) -> bool:
    """Read a yes or a no."""
    if isinstance(value, bool):
        return value
    if str(value).lower() not in ("true", "false"):
        raise ValueError(f"it is true or false, not {value!r}")
    return str(value).lower() == "true"


def read_app(value: Any) -> Any:
    """Find an app by its name: ``package.module.app``."""
    module, _, name = str(value).rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no app {value!r}: {error}") from error
    if not isinstance(found, Celery):
        raise ValueError(f"it is a Celery app, and {value!r} is a {type(found).__name__}")
    return found


BROKER: Mapping[str, Callable[[Any], Any]] = {
    "app": read_app,
    "broker": read_broker,
    "folder": read_text,
    "queue": read_text,
    "timeout": read_seconds,
}
"""What sender and receiver have in common."""
