"""Many timers of one length, on one delayed call: a connection costs no timer of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oni._pace import Pace
from oni.server._end import End
from oni.server._expiries import Expiries
from oni.server._settings import ServerSettings

__all__ = ["MAX_CALLS", "SessionTimers", "Timer", "Timers"]

#: So many timers end in one reactor turn, at most; the next ones in the next.
MAX_CALLS = 500

_GRAIN = 0.05  # seconds that a timer may be late, so that those of that time end together


class Timer(End):
    """One end, as long after its beginning as all of its timers'."""

    __slots__ = ("at",)

    def __init__(self, timers: Timers, at: float, call: Callable[[], object]) -> None:
        self._waiting = timers
        self._call = call
        self.at = at


class Timers:
    """Timers that all take the same time, so that they end in the order of their beginning.

    Args:
        reactor: The clock.
        seconds: How long each of them takes.
    """

    def __init__(self, reactor: IReactorTime, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._due: deque[Timer] = deque()
        self._call: IDelayedCall | None = None
        self._is_ending = False

    def __len__(self) -> int:
        """Count those that wait, among them cancelled ones whose time has not come."""
        return len(self._due)

    def add(self, call: Callable[[], object]) -> Timer:
        """Call something after the time."""
        timer = Timer(self, self._reactor.seconds() + self._seconds, call)
        self._due.append(timer)
        if self._call is None and not self._is_ending:
            self._call = self._reactor.callLater(self._seconds, self._end_due)
        return timer

    def tidy(self) -> None:
        """Forget the first ones as far as they are over."""
        due = self._due
        while due and due[0]._call is None:
            due.popleft()
        if not due and self._call is not None:
            self._call.cancel()
            self._call = None

    def _end_due(self) -> None:
        self._call = None
        self._is_ending = True
        due, now, number = self._due, self._reactor.seconds(), 0
        try:
            while due and number < MAX_CALLS and (due[0].is_over or due[0].at <= now):
                number += 1
                due.popleft().come()
        finally:
            self._is_ending = False
            if due:
                left = due[0].at - now
                wait = max(left, _GRAIN) if left > 0 else 0.0
                self._call = self._reactor.callLater(wait, self._end_due)


class SessionTimers:
    """What sessions wait for, all of them together.

    Attributes:
        reactor: The clock.
        stale: Until the connect must have come.
        pings: Until the next ping.
        pongs: Until a ping must have been answered.
        commands: How fast each may send them.
        expiries: Until sessions and subscriptions that are not refreshed end.
    """

    __slots__ = ("commands", "expiries", "pings", "pongs", "reactor", "stale")

    def __init__(self, reactor: IReactorTime, settings: ServerSettings) -> None:
        """Begin without sessions.

        Args:
            reactor: The clock.
            settings: The times.
        """
        self.reactor = reactor
        self.stale = Timers(reactor, settings.connect_timeout)
        self.pings = Timers(reactor, settings.ping_interval)
        self.pongs = Timers(reactor, settings.pong_timeout)
        rate = settings.max_commands_per_second
        self.commands = Pace(rate, 2 * rate)
        self.expiries = Expiries(reactor)
