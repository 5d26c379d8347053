"""Find the application that the settings name: its ``configure`` functions and its ZCML file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Literal

from oni.errors import SettingsError
from oni.server._settings import Settings
from oni.server._tables import suggest

__all__ = ["Application", "find_application", "find_for_sources", "look_beside"]


@dataclass(frozen=True, slots=True)
class Application:
    """What the daemon runs besides itself.

    Attributes:
        configure: Registers the application's handlers, or None.
        zcml: The absolute path of a ZCML file to load, or None.
        configure_sources: Registers group handlers and sources, or None.
    """

    configure: Callable[[Any], object] | None = None
    zcml: str | None = None
    configure_sources: Callable[[Any], object] | None = None


def find_application(settings: Settings) -> Application:
    """Import the configure functions' modules, and look for the ZCML file.

    The settings file's folder joins the end of ``sys.path``, so that a module may lie there.

    Raises:
        SettingsError: There is no such module, function or file.
        Exception: Whatever importing the module raises.
    """
    look_beside(settings)
    problems: list[str] = []
    application = Application(
        _find_function(settings, "app.configure", settings.app.configure, problems),
        _find_zcml(settings, problems),
        _find_function(settings, "sources.configure", settings.sources.configure, problems),
    )
    _find_function(settings, "sources.instances", settings.sources.instances, problems)
    _find_django(settings, problems)
    if problems:
        raise SettingsError(problems)
    return application


def find_for_sources(
    settings: Settings, name: Literal["configure", "instances"]
) -> Callable[[Any], Any] | None:
    """Find one function that ``[sources]`` names, and nothing else.

    Args:
        settings: What is set.
        name: By which key it is named.

    Raises:
        SettingsError: There is no such module or function.
        Exception: Whatever importing the module raises.
    """
    look_beside(settings)
    problems: list[str] = []
    said = getattr(settings.sources, name)
    found = _find_function(settings, f"sources.{name}", said, problems)
    if problems:
        raise SettingsError(problems)
    return found


def look_beside(settings: Settings) -> None:
    """Let modules be found that lie beside the settings file."""
    if settings.folder and settings.folder not in sys.path:
        sys.path.append(settings.folder)


def _find_zcml(settings: Settings, problems: list[str]) -> str | None:
    if settings.zca.zcml is None:
        return None
    path = os.path.abspath(os.path.join(settings.folder or "", settings.zca.zcml))
    if not os.path.isfile(path):
        problems.append(f"zca.zcml: there is no file {path}")
    return path


def _find_function(
    settings: Settings, path: str, said: str | None, problems: list[str]
) -> Callable[[Any], object] | None:
    if said is None:
        return None
    module_name, _, names = said.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not _is_part_of(error.name, module_name):
            raise
        where = f" or in {settings.folder}" if settings.folder else ""
        problems.append(f"{path}: there is no module {error.name!r} on Python's path{where}")
        return None
    for name in names.split("."):
        if not hasattr(found, name):
            meant = suggest(name, dir(found))
            problems.append(f"{path}: {module_name} has no {name!r}{meant}")
            return None
        found = getattr(found, name)
    if not callable(found) or iscoroutinefunction(found):
        problems.append(f"{path}: {names!r} of {module_name} is not a plain function")
        return None
    return found  # type: ignore[no-any-return]


def _find_django(settings: Settings, problems: list[str]) -> None:
    """Look whether a project's settings are there, without loading them."""
    module = settings.sources.django_settings
    try:
        found = module is None or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # what it would be in
        found = False
    if not found:
        problems.append(f"sources.django_settings: there is no module {module!r}")


def _is_part_of(missing: str | None, module_name: str) -> bool:
    """Tell a module that is missing itself from one that misses another."""
    return missing is not None and f"{module_name}.".startswith(f"{missing}.")
