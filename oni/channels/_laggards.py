"""Who lags for too long, where a channel disconnects such readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from oni._clock import Clock
from oni.channels._ring import Ring

if TYPE_CHECKING:
    from oni.channels._subscription import Subscription

__all__ = ["Laggards"]

_MARKS = 4  # how often within the limit is looked at who lags


class Laggards:
    """Notes where a stream stands, and finds who stands behind that after some seconds.

    Args:
        ring: The stream's newest part.
        limit: How many seconds a reader may be behind.
        clock: The time.
        readers: Gives the subscriptions.
        tell: Is called with each that has been behind for that long, each time it is looked at.
    """

    __slots__ = ("_check", "_clock", "_limit", "_marks", "_readers", "_ring", "_tell")

    def __init__(
        self,
        ring: Ring,
        limit: float,
        clock: Clock,
        readers: Callable[[], Iterable[Subscription]],
        tell: Callable[[Subscription], object],
    ) -> None:
        self._ring = ring
        self._limit = limit
        self._clock = clock
        self._readers = readers
        self._tell = tell
        self._marks: deque[tuple[float, int, int]] = deque()
        self._check: IDelayedCall | None = None

    def watch(self) -> None:
        """Look, for as long as anybody is behind."""
        if self._check is None:
            self._look()

    def stop(self) -> None:
        """Look no more."""
        self._marks.clear()
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _look(self) -> None:
        self._check = None
        now, ring = self._clock.seconds(), self._ring
        self._marks.append((now, ring.life, ring.top))
        due = None
        while self._marks and now - self._marks[0][0] >= self._limit:
            due = self._marks.popleft()
        if due is not None:
            for subscription in tuple(self._readers()):
                place = (subscription.life, subscription.offset)
                if subscription.begun and place < due[1:]:
                    self._tell(subscription)
        if ring.readers:
            self._check = self._clock.call_later(self._limit / _MARKS, self._look)
        else:
            self._marks.clear()
