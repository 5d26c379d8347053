"""All channels of a process, one object per name."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakValueDictionary

from zope.interface import implementer

from oni.channels._channel import Channel
from oni.channels._names import check_name
from oni.interfaces import IChannels

__all__ = ["Channels"]


def _new_epoch() -> str:
    return secrets.token_urlsafe(6)


@implementer(IChannels)
class Channels:
    """Makes each channel at its first use, and lets it go when nobody needs it.

    A channel lives as long as it has subscribers or somebody holds it. Its next life is another
    stream, with an epoch of its own.
    """

    def __init__(self, new_epoch: Callable[[], str] = _new_epoch) -> None:
        """Begin without channels.

        Args:
            new_epoch: Gives each stream's epoch, never the same twice.
        """
        self._new_epoch = new_epoch
        self._channels: WeakValueDictionary[str, Channel] = WeakValueDictionary()
        self._in_use: set[Channel] = set()

    def get(self, name: str) -> Channel:
        """See :class:`oni.interfaces.IChannels`."""
        channel = self._channels.get(name) if isinstance(name, str) else None
        if channel is None:
            channel = Channel(check_name(name), self._new_epoch(), self._note_use)
            self._channels[name] = channel
        return channel

    def names(self) -> Sequence[str]:
        """See :class:`oni.interfaces.IChannels`."""
        return sorted(self._channels.keys())

    def statistics(self) -> Mapping[str, int]:
        """Give the gauges ``channels`` and ``subscriptions``."""
        return {
            "channels": len(self._channels),
            "subscriptions": sum(channel.subscribers for channel in self._in_use),
        }

    def _note_use(self, channel: Channel, used: bool) -> None:
        if used:
            self._in_use.add(channel)
        else:
            self._in_use.discard(channel)
