"""Lets the watchers hear that the settings name."""

from __future__ import annotations

from oni.errors import OniError, SettingsError
from oni.interfaces import IEventSources
from oni.server._application import look_beside
from oni.server._settings import Settings
from oni.server._watchers_settings import watched_models
from oni.sources import EventSources
from oni.watchers import watch_configured

__all__ = ["check_watchers", "let_watchers_hear"]


def check_watchers(settings: Settings) -> None:
    """Make the watchers that name models, and forget them.

    Raises:
        SettingsError: One cannot be found, is no watcher, cannot hear so, or its own settings are
            wrong; all that is wrong is said.
    """
    let_watchers_hear(settings, EventSources())


def let_watchers_hear(settings: Settings, sources: IEventSources | None) -> None:
    """Let each watcher hear of its models, by the sources' ledger.

    Args:
        settings: What is set.
        sources: The event sources. Settings that name models have some.

    Raises:
        SettingsError: See :func:`check_watchers`.
    """
    look_beside(settings)
    problems: list[str] = []
    for name, table in watched_models(settings.watchers).items():
        try:
            watch_configured(sources, {"watchers": {name: table}})
        except SettingsError as error:
            problems += [f"watchers.{problem}" for problem in error.problems]
        except OniError as error:
            problems.append(f"watchers.{name}: {error}")
    if problems:
        raise SettingsError(problems)
