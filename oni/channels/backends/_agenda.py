"""When to look at which stream: one timer for all that expires."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from twisted.internet.interfaces import IDelayedCall

from oni._clock import Clock

__all__ = ["Agenda"]

_TICK = 0.25  # seconds between two looks, at least


class Agenda:
    """Names by the times at which somebody looks at them.

    Args:
        clock: The time.
        look: Is called with each name, and the time for which it was noted, when that has come.
    """

    def __init__(self, clock: Clock, look: Callable[[str, float], object]) -> None:
        self._clock = clock
        self._look = look
        self._due: list[tuple[float, str]] = []
        self._timer: IDelayedCall | None = None

    def note(self, name: str, when: float) -> None:
        """Look at this name then."""
        heappush(self._due, (when, name))
        self._sleep()

    def clear(self) -> None:
        """Look at nothing more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sleep(self) -> None:
        if self._timer is None and self._due:
            delay = max(self._due[0][0] - self._clock.seconds(), _TICK)
            self._timer = self._clock.call_later(delay, self._wake)
        elif self._timer is not None and self._due[0][0] < self._timer.getTime() - _TICK:
            self._timer.cancel()
            self._timer = None
            self._sleep()

    def _wake(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._due and self._due[0][0] <= now:
            when, name = heappop(self._due)
            self._look(name, when)
        self._sleep()
