"""The daemon's pulse: what happens at each tick of the reactor, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni.server._running_settings import RunningSettings
from oni.server.running._notify import Notify
from oni.server.running._ticks import Ticks
from oni.server.running._watchdog import Watchdog

__all__ = ["Pulse"]

_log = Logger()
_INTERVAL = 0.25  # seconds between two ticks
_EXTEND = 5.0  # seconds that are asked for, again and again, while the daemon stops


class Pulse(Service):
    """Measures how late the reactor is, feeds both watchdogs, and tells the supervisor.

    It is the first to start and the last to stop. A supervisor hears ``READY=1`` once, in a turn
    of the reactor in which the listeners, the backend and the ledger are open.

    Args:
        oni: The :class:`oni.server.Oni`.
        settings: What is watched.
        notify: Tells the supervisor.
        clock: The reactor.
        watchdog: Watches over the reactor; None for none.
        lost_threads: Counts the threads that were given up.
        on_hopeless: Is called, once, when too many of them are lost.
    """

    name = "pulse"

    def __init__(
        self,
        oni: Any,
        settings: RunningSettings,
        notify: Notify,
        clock: Any,
        watchdog: Watchdog | None,
        lost_threads: Callable[[], int],
        on_hopeless: Callable[[str], object],
    ) -> None:
        self._oni = oni
        self._settings = settings
        self._notify = notify
        self._clock = clock
        self._watchdog = watchdog
        self._lost_threads = lost_threads
        self._on_hopeless = on_hopeless
        self._ticks = Ticks(clock, _INTERVAL, self._tick)
        self._feeding: Ticks | None = None
        self._is_watching = self._is_hopeless = self._told_ready = False
        self._ends_at: float | None = None

    def startService(self) -> None:
        """Begin to tick when the reactor runs."""
        super().startService()
        self._ticks.start()
        if self._notify.watchdog is not None:
            self._feeding = Ticks(self._clock, self._notify.watchdog / 2, self._feed)
            self._feeding.start()

    def stopping(self, seconds: float) -> None:
        """Tell the supervisor that the end has begun, and takes so many seconds at most."""
        self._ends_at = self._clock.seconds() + seconds
        self._notify.tell(STOPPING=1, STATUS="Draining")
        self._extend()

    def stopService(self) -> Deferred[None] | None:
        """Tick no more."""
        super().stopService()
        self._ticks.stop()
        if self._feeding is not None:
            self._feeding.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._notify.close()
        return None

    def _tick(self, late: float) -> None:
        if self._watchdog is not None:
            if not self._is_watching:
                self._is_watching = True
                self._watchdog.start()  # now, in the reactor's thread
            self._watchdog.turn()
        self._oni.tally.lag.observe(late)
        if not self._told_ready and self._oni.condition.has_begun:
            self._told_ready = True
            self._notify.tell(READY=1, STATUS="Serving")
        if self._ends_at is not None:
            self._extend()
        lost = self._lost_threads()
        if lost > self._settings.max_lost_threads and not self._is_hopeless:
            self._is_hopeless = True
            self._on_hopeless(f"{lost} threads of blocking handlers never returned")

    def _feed(self, late: float) -> None:
        """Feed the supervisor's watchdog, if the dispatcher is in order, too."""
        self._oni.dispatcher.statistics()
        self._notify.tell(WATCHDOG=1)

    def _extend(self) -> None:
        """Ask for the time that is needed, and not for more than that."""
        left = (self._ends_at or 0.0) - self._clock.seconds()
        if left > 0:
            self._notify.tell(EXTEND_TIMEOUT_USEC=int(min(left + 1.0, _EXTEND) * 1e6))
