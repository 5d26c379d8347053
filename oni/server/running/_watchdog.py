"""Notices, from a thread of its own, that the reactor does not turn, and says what blocks it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger

from oni.server.running._stacks import culprit, stack_lines

__all__ = ["Watchdog"]

_log = Logger()
_LOOKS = 5  # within the time that is allowed


class Watchdog:
    """Looks whether the reactor has turned, again and again.

    A stall is told once, with every thread's stack; its end is told, too. Time in which this
    thread itself could not run (the process was stopped, or the machine) does not count.

    Args:
        limit: Seconds without a turn after which it is a stall.
        on_stall: Is called in the watchdog's thread when one has been told.
        seconds: Gives the time; it must not jump.
    """

    def __init__(
        self,
        limit: float,
        on_stall: Callable[[], object],
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._limit = limit
        self._on_stall = on_stall
        self._seconds = seconds
        self._turned = self._looked = seconds()
        self._stalled_since: float | None = None
        self._watched: int | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Watch over the thread that calls this."""
        self.turn()
        self._looked = self._seconds()
        self._watched = threading.get_ident()
        self._ended.clear()
        threading.Thread(target=self._run, name="oni-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._ended.set()

    def turn(self) -> None:
        """Note that the reactor turns."""
        self._turned = self._seconds()

    def look(self) -> None:
        """Look once."""
        now = self._seconds()
        if now - self._looked > self._limit / 2:
            # We have not run ourselves: what we would accuse has not, either.
            self._turned = max(self._turned, now)
        self._looked = now
        turned, since = self._turned, self._stalled_since
        if since is not None and turned > since:
            self._stalled_since = None
            _log.warn("the reactor turns again, after {seconds:.1f} s", seconds=turned - since)
        elif since is None and now - turned >= self._limit:
            self._stalled_since = turned
            self._tell(now - turned)
            self._on_stall()

    def _tell(self, seconds: float) -> None:
        blocks = culprit(self._watched) if self._watched is not None else "nobody knows what"
        _log.critical(
            "the reactor has not turned for {seconds:.1f} s: it is blocked in {function}",
            seconds=seconds,
            function=blocks,
            log_lines=stack_lines(),
        )

    def _run(self) -> None:
        while not self._ended.wait(self._limit / _LOOKS):
            self.look()
