"""A call at an interval that no exception ends."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Ticks"]

_log = Logger()


class Ticks:
    """Calls something at an interval, told how late it is.

    Twisted's ``LoopingCall`` ends for good when what it calls raises anything.

    Args:
        clock: The reactor.
        interval: Seconds from one call's time to the next one's.
        call: Is called with the seconds that it comes too late.
    """

    def __init__(
        self, clock: IReactorTime, interval: float, call: Callable[[float], object]
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._call = call
        self._next: IDelayedCall | None = None
        self._due = 0.0

    def start(self) -> None:
        """Call for the first time in the reactor's next turn."""
        self._arm(0.0)

    def stop(self) -> None:
        """Call no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _arm(self, delay: float) -> None:
        self._due = self._clock.seconds() + delay
        self._next = self._clock.callLater(delay, self._tick)

    def _tick(self) -> None:
        late = max(self._clock.seconds() - self._due, 0.0)
        self._arm(self._interval)
        try:
            self._call(late)
        except BaseException:  # noqa: BLE001 - nothing may end the ticks
            _log.failure("a call at an interval failed")
