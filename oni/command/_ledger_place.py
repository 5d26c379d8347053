"""Which ledger a command looks after, and how it is opened."""

from __future__ import annotations

import functools
import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from oni.command._failures import CommandError, NoAnswerError
from oni.command._options import read_settings
from oni.command._show import note, one_line
from oni.errors import LedgerBusyError, LedgerUnavailableError, OniError
from oni.interfaces import ILedgerStore
from oni.ledger import store_for

__all__ = ["LedgerPlace", "file_of", "ledger_options", "operator"]

_F = TypeVar("_F", bound=Callable[..., Any])
_LONGEST_NAME = 255  # bytes of who decides


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where a ledger is.

    Attributes:
        make: Makes its store; nothing is opened by that.
    """

    make: Callable[[], ILedgerStore] = field(repr=False)

    @contextmanager
    def open(self) -> Iterator[ILedgerStore]:
        """Open it while the block runs, and say in one line what is wrong with it.

        Raises:
            NoAnswerError: Its database does not answer.
            CommandError: It cannot be had, or cannot be used.
        """
        try:
            store = self.make()
            try:
                for warning in store.open():
                    note(f"warning: {warning}")
                yield store
            finally:
                store.close()
        except (LedgerUnavailableError, LedgerBusyError) as error:
            raise NoAnswerError(f"the ledger does not answer: {error}") from error
        except OniError as error:
            raise CommandError(str(error)) from error


def ledger_options(command: _F) -> _F:
    """Give a command the options that name a ledger; it is called with a ``place``."""

    @click.option(
        "--url",
        envvar="ONI_LEDGER_URL",
        show_envvar=True,
        metavar="URL",
        help="Where the ledger is, as [ledger] url has it. Others on this machine can see a "
        "password on a command line; in the environment or a settings file they cannot.",
    )
    @click.option(
        "--config",
        "-c",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="The settings file whose [ledger] it is.",
    )
    @click.option(
        "--namespace",
        default="oni",
        show_default=True,
        metavar="NAME",
        help="Which ledger of a Redis server, where no settings file says it.",
    )
    @click.pass_context
    @functools.wraps(command)
    def with_place(ctx: click.Context, /, *arguments: Any, **options: Any) -> Any:
        url, config, namespace = (options.pop(each) for each in ("url", "config", "namespace"))
        if config is None or ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE:
            place = _place(url, namespace)
        else:
            place = _place_of_settings(config)
        return ctx.invoke(command, *arguments, place=place, **options)

    return with_place  # type: ignore[return-value]


def _place(url: str | None, namespace: str) -> LedgerPlace:
    if not url:
        raise click.UsageError("say which ledger: --config, --url or ONI_LEDGER_URL")
    return LedgerPlace(lambda: _store(url, namespace))


def _place_of_settings(path: str) -> LedgerPlace:
    settings = read_settings(path)
    url = settings.ledger.url_in(settings.folder)
    if url is None and settings.sources.django_settings is not None:
        raise CommandError(
            f"{path}: its ledger is in a database of the Django project; name that by --url"
        )
    if url is None:
        raise CommandError(f"{path}: it has no ledger.url")
    return LedgerPlace(lambda: _store(url, settings.ledger.namespace))


def _store(url: str, namespace: str) -> ILedgerStore:
    """Make a store, where there is something to look at: a mistyped name makes no new file."""
    if url == "memory:":
        raise CommandError("a ledger in memory is seen by nobody but the process that has it")
    store = store_for(url, namespace)
    path = file_of(url)
    if path is not None and not os.path.exists(path):
        raise CommandError(
            f"{path}: there is no such file; a process that has this ledger makes it"
        )
    return store


def file_of(url: str) -> str | None:
    """Give the file that a ledger is in, None where it is in none. The URL is a right one."""
    if not url.startswith("sqlite"):
        return None
    import sqlalchemy as sa

    path = sa.make_url(url).database
    return path if path and path != ":memory:" else None


def operator(name: str | None) -> str:
    """Give the name under which a decision is kept: the login name, where none is said.

    Raises:
        UsageError: It cannot be kept.
    """
    if name is None:
        name = os.environ.get("SUDO_USER") or _login_name()
    if not name or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise click.UsageError(f"--who: {one_line(name)!r} is no name")
    return name


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # this user has no name
        return f"user {os.getuid()}"
