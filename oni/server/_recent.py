"""Channels that somebody has just left, and may come back to."""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oni.interfaces import IChannel

__all__ = ["MAX_RECENT", "RecentChannels"]

#: So many are kept, at most; then the one that was left first goes. One takes less than 1 kB.
MAX_RECENT = 10_000


class RecentChannels:
    """Keeps the streams of channels whose positions clients know: these stay valid for a while.

    A channel in memory that nobody hears and that has no history would begin another life; who
    comes back would be told of a gap, also where nothing is missing. The channel itself goes, with
    its ring and its feed: whoever comes back gets another one, which goes on with the stream.

    Args:
        clock: The time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[object, float]] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self._kept)

    def keep(self, channel: IChannel, seconds: float) -> None:
        """Keep a channel's stream for so many seconds from now, unless too many come then.

        Where streams live by their own rules, there is nothing to keep.
        """
        held = channel.hold()
        if held is None:
            return
        self._kept[channel.name] = (held, self._clock.seconds() + seconds)
        self._kept.move_to_end(channel.name)
        if len(self._kept) > MAX_RECENT:
            self._kept.popitem(last=False)
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._expire)

    def clear(self) -> None:
        """Keep nothing any more."""
        self._kept.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._kept:
            name, (_, until) = next(iter(self._kept.items()))
            if until > now:
                self._timer = self._clock.callLater(until - now, self._expire)
                return
            del self._kept[name]
