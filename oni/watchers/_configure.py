"""Which watcher a process has: said by its settings, found by its name."""

from __future__ import annotations

import configparser
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.logger import Logger
from zope.interface.interfaces import IComponents

from oni.errors import MissingExtraError, SettingsError, WatcherNameError
from oni.interfaces import IModelEventWatcher
from oni.watchers._base import BaseModelEventWatcher, CompositeModelEventWatcher
from oni.watchers._methods import MethodModelEventWatcher, has_methods

__all__ = [
    "configure_model_watcher",
    "flat_settings",
    "get_model_watcher",
    "listed",
    "make_model_watcher",
    "make_watcher",
    "settings_from_ini",
    "tasks_of",
]

_log = Logger()

_KEY = ".imodeleventwatcher"

_chosen: list[Any] = []  # the process's one; a list, so that it is never half changed


def settings_from_ini(path: str | Path, section: str | None = None) -> dict[str, str]:
    """Read settings from a file in the form of Pyramid's ``production.ini``.

    Args:
        path: The file.
        section: Whose settings. None: those of every section, later ones before earlier ones. In
            either case those of ``[DEFAULT]`` hold where nothing else is said.

    Raises:
        OSError: It cannot be read.
        configparser.Error: It is no such file, or has no such section.
    """
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=("=",), strict=False, default_section=""
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    with open(path, encoding="utf-8") as file:
        parser.read_file(file)
    if section is not None and not parser.has_section(section):
        raise configparser.NoSectionError(section)
    sections = parser.sections() if section is None else [section]
    # What the others say goes before what [DEFAULT] says, wherever it stands.
    first = [name for name in parser.sections() if name == configparser.DEFAULTSECT]
    named = first + [name for name in sections if name not in first]
    return {name: value for each in named for name, value in parser[each].items()}


def configure_model_watcher(
    registry: Any, task_name: str, settings: Mapping[str, Any] | None = None
) -> Any:
    """Choose this process's watcher, as the settings say for its name.

    ``<task_name>.imodeleventwatcher`` names one or more watchers, each ``package.module.Name``: a
    class or another callable, which is called with the settings and the task's name where it has
    a method ``from_settings`` for that, else with nothing. Several stand on lines of their own, or
    with commas or spaces between. In TOML it is a table ``[watchers]``, with a name or a list of
    them, or a table of the task's keys, for each task. What is no
    :class:`oni.interfaces.IModelEventWatcher` but has methods like ``processPostCreated`` is
    called by these, see :class:`MethodModelEventWatcher`.

    Args:
        registry: A component registry: each watcher is registered in it as a utility of its
            dotted name, and the one that is chosen without a name.
        task_name: What this process is called in the settings.
        settings: The settings. None: ``registry.settings``, as Pyramid's have them.

    Returns:
        The watcher, which :func:`get_model_watcher` gives from now on. Several are one
        :class:`CompositeModelEventWatcher`.

    Raises:
        WatcherNameError: The settings do not know the task, or name something that cannot be
            found, or is no watcher.
    """
    components = IComponents(registry)
    said = getattr(registry, "settings", None) if settings is None else settings
    made = _all_of(task_name, said or {})
    chosen = _one([watcher for _, watcher in made])
    for name, watcher in made:
        components.registerUtility(watcher, IModelEventWatcher, name)
    components.registerUtility(chosen, IModelEventWatcher)
    _chosen[:] = [chosen]
    return chosen


def make_model_watcher(task_name: str, settings: Mapping[str, Any]) -> Any:
    """Make the watcher that settings name for a process, as :func:`configure_model_watcher` does.

    It becomes nobody's: it is neither registered nor what :func:`get_model_watcher` gives.

    Raises:
        WatcherNameError: See there.
    """
    return _one([watcher for _, watcher in _all_of(task_name, settings)])


def _all_of(task_name: str, settings: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    """Make a process's watchers; give each with its dotted name."""
    said = flat_settings(settings)
    known = _named(said)
    if task_name not in known:
        tasks = ", ".join(sorted(known)) or "none"
        reason = f"the settings name no watcher for this process; they know {tasks}"
        raise WatcherNameError(task_name, reason, sorted(known))
    return [(name, _made(name, said, task_name)) for name in known[task_name]]


def get_model_watcher() -> Any:
    """Give this process's watcher.

    Before :func:`configure_model_watcher` was called that is one that only logs, and it is said
    once.
    """
    if not _chosen:
        _log.warn(
            "No model watcher is configured: changes are only logged. "
            "configure_model_watcher(registry, task_name) chooses one"
        )
        _chosen[:] = [BaseModelEventWatcher()]
    return _chosen[0]


def make_watcher(settings: Mapping[str, Any], task_name: str, key: str) -> Any:
    """Make the watcher, or watchers, that a key of a task's names: for a watcher around it.

    Raises:
        WatcherNameError: The settings have no such key, or it names what is no watcher.
    """
    names = listed(settings, f"{task_name}.{key}")
    if not names:
        raise WatcherNameError(f"{task_name}.{key}", "the settings have to name a watcher there")
    return _one([_made(name, settings, task_name) for name in names])


def _one(watchers: Sequence[Any]) -> Any:
    return watchers[0] if len(watchers) == 1 else CompositeModelEventWatcher(*watchers)


def flat_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give settings with what the table ``watchers`` has, if it is there, in the other form."""
    table = settings.get("watchers")
    if not isinstance(table, Mapping):
        return settings
    flat = dict(settings)
    for task, value in table.items():
        said = value if isinstance(value, Mapping) else {_KEY.removeprefix("."): value}
        flat |= {f"{task}.{key}": each for key, each in said.items()}
    return flat


def tasks_of(settings: Mapping[str, Any]) -> Iterable[str]:
    """Name the processes that settings say something of, also if that is no watcher."""
    keys = (key for key in flat_settings(settings) if key.endswith(_KEY))
    table = settings.get("watchers")
    tables = table if isinstance(table, Mapping) else ()
    return dict.fromkeys([*(key.removesuffix(_KEY) for key in keys), *tables])


def _named(settings: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Give the names of watchers by task."""
    found = {
        key.removesuffix(_KEY): listed(settings, key) for key in settings if key.endswith(_KEY)
    }
    return {task: names for task, names in found.items() if names}


def listed(settings: Mapping[str, Any], key: str) -> Sequence[str]:
    """Give the names that stand under a key: in one text, or in a list.

    Raises:
        WatcherNameError: Something else stands there.
    """
    value = settings.get(key, ())
    if isinstance(value, str):
        return value.replace(",", " ").split()
    names = list(value) if isinstance(value, list | tuple) else [value]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise WatcherNameError(key, f"expected a name, or a list of names, not {name!r}")
    return [name.strip() for name in names]


def _made(name: str, settings: Mapping[str, Any], task_name: str) -> Any:
    make = _find(name)
    from_settings: Callable[..., Any] | None = getattr(make, "from_settings", None)
    try:
        made = make() if from_settings is None else from_settings(settings, task_name)
    except (SettingsError, MissingExtraError, WatcherNameError):
        raise
    except Exception as error:
        raise WatcherNameError(name, f"it cannot be made: {_said(error)}") from error
    if IModelEventWatcher.providedBy(made):
        return made
    if has_methods(made):
        return MethodModelEventWatcher(made)
    raise WatcherNameError(
        name, "it is no IModelEventWatcher, and has no methods like processPostCreated"
    )


def _find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except MissingExtraError:
        raise
    except Exception as error:  # a module may raise anything
        raise WatcherNameError(name, f"it cannot be found: {_said(error)}") from error


def _said(error: Exception) -> str:
    if isinstance(error, ImportError | AttributeError | TypeError | ValueError):
        return str(error)
    return f"{type(error).__name__}: {error}"
