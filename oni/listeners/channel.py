"""A listener that publishes to channels: ``event_listeners.NAME.use = oni.listeners.channel``."""

from __future__ import annotations

from string import Formatter
from typing import Any

from twisted.internet.defer import Deferred
from zope.component import getGlobalSiteManager

from oni.errors import SettingsError
from oni.interfaces import IChannels
from oni.listeners._base import ListenerBase, own_settings
from oni.listeners._settings import truth
from oni.listeners.events import ResourceEvent

__all__ = ["Listener", "load_from_config"]


class Listener(ListenerBase):
    """Publishes each event on a channel, so that every subscriber of it hears.

    The publication's event is ``<resource_name>_<action>``; its data are the payload, and with
    ``records`` the impacted records, too: only where every subscriber may see them.

    Args:
        channel: The channel's name; ``{resource_name}``, ``{action}`` and every other name of the
            payload stand for its value.
        channels: Where it comes from. None: this process's utility ``IChannels``.
        records: Whether the records are published.
    """

    in_reactor = True

    def __init__(self, channel: str, channels: Any = None, records: bool = False) -> None:
        self._channel = channel
        self._channels = channels
        self._records = records

    def __call__(self, event: ResourceEvent) -> Deferred[Any]:
        """Publish an event; the Deferred fires when it is kept."""
        channels = self._channels
        if channels is None:
            channels = getGlobalSiteManager().getUtility(IChannels)
        name = self._channel.format(**event.payload)
        data: dict[str, Any] = {"payload": dict(event.payload)}
        if self._records:
            data["impacted_records"] = [dict(record) for record in event.impacted_records]
        kind = f"{event.resource_name}_{event.action}"
        published: Deferred[Any] = channels.get(name).publish(kind, data)
        return published


def load_from_config(config: Any, prefix: str) -> Listener:
    """Make one; its own settings are ``channel``, which is needed, and ``records``."""
    own = own_settings(config, prefix)
    channel = own.pop("channel", "")
    said = own.pop("records", False)
    records = truth(said)
    problems = [f"{prefix}{name}: there is no such setting" for name in own]
    if not isinstance(channel, str) or not channel:
        problems.append(f"{prefix}channel: it must name the channel")
    elif not _is_pattern(channel):
        problems.append(
            f"{prefix}channel: in braces stands a name of the payload, not {channel!r}"
        )
    if records is None:
        problems.append(f"{prefix}records: it is true or false, not {said!r}")
    if problems:
        raise SettingsError(problems)
    given = config if hasattr(config, "get") else config.get_settings()
    return Listener(channel, given.get("oni.channels"), bool(records))


def _is_pattern(channel: str) -> bool:
    """Say whether in each pair of braces there is a plain name."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(channel) if name is not None]
    except ValueError:
        return False
    return all(name and not name.isdigit() and not set(name) & set(".[") for name in names)
