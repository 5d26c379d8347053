"""Feeds that nobody trusts: those that went silent, and all of them when the backend failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from oni._clock import Clock
from oni.channels._feed import Feed
from oni.interfaces import IChannelBackend

__all__ = ["Repairs"]

_log = Logger()

_COMPARE_EVERY = 40.0  # seconds; Centrifugo's ClientChannelPositionCheckDelay
_AT_ONCE = 100  # channels in one reactor turn


class Repairs:
    """Looks after the feeds of all channels, some of them in each reactor turn.

    Args:
        backend: The backend.
        clock: The time.
        names: Gives the names of the channels that are followed.
        feed: Gives a channel's feed, None where the channel is gone.
    """

    def __init__(
        self,
        backend: IChannelBackend,
        clock: Clock,
        names: Callable[[], Iterable[str]],
        feed: Callable[[str], Feed | None],
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._names = names
        self._feed = feed
        self._comparison: IDelayedCall | None = None
        self._repair: IDelayedCall | None = None

    def watch(self) -> None:
        """Compare where quiet feeds stand with where their streams do, from now on."""
        if self._comparison is None:
            self._comparison = self._clock.call_later(_COMPARE_EVERY, self._compare, ())

    def doubt(self, channel: str | None = None) -> None:
        """Trust no feed (or not this one) any more."""
        for name in self._names() if channel is None else (channel,):
            feed = self._feed(name)
            if feed is not None:
                feed.doubt()

    def repair(self) -> None:
        """Follow those that are not trusted."""
        if self._repair is not None:
            self._repair.cancel()
        self._repair_some(tuple(self._names()))

    def stop(self) -> None:
        """Do nothing more."""
        for timer in (self._comparison, self._repair):
            if timer is not None:
                timer.cancel()
        self._comparison = self._repair = None

    def _repair_some(self, names: Sequence[str]) -> None:
        self._repair = None
        for name in names[:_AT_ONCE]:
            feed = self._feed(name)
            if feed is not None:
                feed.repair()
        if len(names) > _AT_ONCE:
            self._repair = self._clock.call_later(0, self._repair_some, names[_AT_ONCE:])

    def _compare(self, names: Sequence[str]) -> None:
        """Ask where quiet channels stand: a publication that was lost may be the last one."""
        self._comparison = None
        if not names:
            names = tuple(self._names())
        if not names:
            return
        for name in names[:_AT_ONCE]:
            feed = self._feed(name)
            if feed is not None and feed.is_quiet:
                top = self._backend.top(name)
                top.addCallback(feed.compare)
                top.addErrback(lambda failure: _log.warn("no position: {f}", f=failure.value))
        rest = names[_AT_ONCE:]
        delay = 0 if rest else _COMPARE_EVERY
        self._comparison = self._clock.call_later(delay, self._compare, rest)
