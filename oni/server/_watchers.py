"""Lets the watchers hear that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oni.errors import MissingExtraError, SettingsError, WatcherNameError
from oni.interfaces import IEventSources
from oni.server._application import look_beside
from oni.server._settings import Settings
from oni.server._watchers_settings import watched_models
from oni.watchers import make_model_watcher, watch_configured

__all__ = ["check_watchers", "let_watchers_hear"]


def check_watchers(settings: Settings) -> None:
    """Make the watchers that name models, and forget them.

    Raises:
        SettingsError: One cannot be found, is no watcher, or its own settings are wrong; all that
            is wrong is said.
    """
    _for_each(settings, lambda name, table: make_model_watcher(name, table))


def let_watchers_hear(settings: Settings, sources: IEventSources | None) -> None:
    """Let each watcher hear of its models, by the sources' ledger.

    Args:
        settings: What is set.
        sources: The event sources; nobody hears where there are none.

    Raises:
        SettingsError: See :func:`check_watchers`.
    """
    if sources is not None:
        _for_each(settings, lambda name, table: watch_configured(sources, table))


def _for_each(settings: Settings, use: Callable[[str, Mapping[str, Any]], object]) -> None:
    """Use every table that is for this program, and say all that is wrong with them."""
    look_beside(settings)
    problems: list[str] = []
    for name, table in watched_models(settings.watchers).items():
        try:
            use(name, {"watchers": {name: table}})
        except SettingsError as error:
            problems += [f"watchers.{problem}" for problem in error.problems]
        except (WatcherNameError, MissingExtraError) as error:
            problems.append(f"watchers.{name}: {error}")
    if problems:
        raise SettingsError(problems)
