"""Switches on the listeners that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service

from oni.dispatcher import EventDispatcher
from oni.errors import SettingsError
from oni.interfaces import IChannels, IEventSources
from oni.listeners import Listeners, activate, flat
from oni.server._application import look_beside
from oni.server._settings import Settings

__all__ = ["ListenersService", "switch_on"]

_IN_CHANNELS = "oni.listeners.channel"


def switch_on(
    settings: Settings,
    resources: EventDispatcher,
    sources: IEventSources | None,
    channels: IChannels | None,
) -> Listeners:
    """Switch on the listeners.

    Args:
        settings: What is set.
        resources: Where events of resources are fired.
        sources: The event sources, if there are any.
        channels: The channels; a process that has none has no listeners that publish, either.

    Raises:
        SettingsError: A listener's own settings are wrong, or its module is not there.
        MissingExtraError: What it needs is not installed.
    """
    look_beside(settings)
    tables: Mapping[str, Mapping[str, Any]] = settings.listeners
    if channels is None:
        tables = {n: table for n, table in tables.items() if table["use"] != _IN_CHANNELS}
    extra = {"channels": channels, "dispatcher": resources}
    try:
        return activate(flat(tables), resources, sources, extra=extra)
    except SettingsError as error:
        raise SettingsError([_path(problem) for problem in error.problems]) from error


def _path(problem: str) -> str:
    """Name a setting as the file does."""
    return problem.removeprefix("event_")


class ListenersService(Service):
    """Closes the listeners, once nobody calls them any more.

    Args:
        close: Does it.
    """

    name = "listeners"

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close

    def stopService(self) -> None:
        """Close them, where this was started."""
        if self.running:
            super().stopService()
            self._close()
