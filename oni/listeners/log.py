"""A listener that logs: ``event_listeners.NAME.use = oni.listeners.log``."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogLevel

from oni.errors import SettingsError
from oni.listeners._base import ListenerBase, own_settings
from oni.listeners.events import ResourceEvent

__all__ = ["Listener", "load_from_config"]


class Listener(ListenerBase):
    """Logs what has become of which records, and nothing of what is in them.

    Args:
        level: The level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``.
    """

    _log = Logger(namespace="oni.listeners.log")

    def __init__(self, level: str = "info") -> None:
        self._level = LogLevel.levelWithName(level)

    def __call__(self, event: ResourceEvent) -> None:
        """Log an event."""
        ids = ", ".join(str(each["id"]) for each in event.impacted[:_FEW])
        more = len(event.impacted) - _FEW
        self._log.emit(
            self._level,
            "{action} {resource} {ids} by {user}",
            action=event.action,
            resource=event.resource_name,
            ids=ids + (f" and {more} more" if more > 0 else ""),
            user=event.payload.get("user_id") or "nobody known",
        )


_FEW = 5


def load_from_config(config: Any, prefix: str) -> Listener:
    """Make one; its own setting is ``level``."""
    own = own_settings(config, prefix)
    level = str(own.pop("level", "info"))
    names = sorted(constant.name for constant in LogLevel.iterconstants())
    problems = [f"{prefix}{name}: there is no such setting" for name in own]
    if level not in names:
        problems.append(f"{prefix}level: it is one of {', '.join(names)}, not {level!r}")
    if problems:
        raise SettingsError(problems)
    return Listener(level)
