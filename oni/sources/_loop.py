"""Looks for deliveries that are due: when woken, when one has ended, and now and then anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni._clock import Clock
from oni.errors import NotRunningError
from oni.interfaces import ILedger
from oni.sources._deliveries import Deliveries
from oni.sources._outage import OUTAGES, Outage

__all__ = ["GROUP", "Loop"]

_log = Logger()

GROUP = 64
"""So many deliveries are claimed at once, at most."""


class Loop:
    """Claims as much as may be under way, for as long as something is due.

    Everything here is called in the reactor's thread.

    Args:
        ledger: Where deliveries are claimed.
        deliveries: Who takes them.
        names: Gives the handlers by name.
        clock: For the waiting.
        outage: What is done while the ledger is away.
        concurrency: So many may be under way. Each handler may have one beyond that, so that
            those that take long cannot keep all others waiting.
        poll: Seconds from one look to the next, more or less, when nothing happens.
        random: Gives numbers from 0 to 1.
        counted: Where looks are counted.
    """

    def __init__(
        self,
        ledger: ILedger,
        deliveries: Deliveries,
        names: Callable[[], Mapping[str, Any]],
        clock: Clock,
        outage: Outage,
        concurrency: int,
        poll: float,
        random: Callable[[], float],
        counted: dict[str, int],
    ) -> None:
        self._ledger = ledger
        self._deliveries = deliveries
        self._names = names
        self._clock = clock
        self._outage = outage
        self._concurrency = concurrency
        self._poll = poll
        self._random = random
        self._counted = counted
        self._is_on = False
        self._is_looking = False
        self._is_wanted = False  # something happened since the last claim
        self._failed = 0
        self._timer: IDelayedCall | None = None
        self._idle: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._is_on = True
        self.look()

    def stop(self) -> Deferred[None]:
        """Look no more.

        Returns:
            A Deferred that fires when no claim is on its way.
        """
        self._is_on = False
        self._cancel()
        self._idle = Deferred()
        if not self._is_looking:
            self._idle.callback(None)
        return self._idle

    def look(self) -> None:
        """Look in the next turn, with all who want so in this one."""
        self._is_wanted = True
        if self._is_on and not self._is_looking and not self._failed:
            self._in(0.0)

    def _in(self, seconds: float) -> None:
        self._cancel()
        self._timer = self._clock.call_later(seconds, self._begin)

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _begin(self) -> None:
        self._is_looking = True
        Deferred.fromCoroutine(self._look()).addErrback(self._broken).addCallback(self._pause)

    def _pause(self, seconds: float) -> None:
        self._is_looking = False
        if self._idle is not None and not self._is_on:
            self._idle.callback(None)
        elif self._is_on:
            self._in(seconds)

    def _broken(self, failure: Failure) -> float:
        # Whatever it is: a loop that ends for good would let everything lie.
        if not failure.check(NotRunningError):
            _log.failure("Looking for deliveries failed", failure=failure)
        return self._later()

    async def _look(self) -> float:
        """Claim until nothing is due, or no more may be under way.

        Returns:
            After how many seconds to look again.
        """
        while self._is_on:
            self._is_wanted = False
            names, limit = self._wanted()
            if not limit:
                break
            self._counted["looks"] += 1
            try:
                claims = await self._ledger.claim(names, limit)
            except OUTAGES as error:
                self._outage.begin(error)
                return self._later()
            self._failed = 0
            self._outage.end()
            if self._has_stopped():
                await self._outage.insist(partial(self._ledger.release, claims))
                break
            if not self._deliveries.take(claims) and not self._is_wanted:
                break
        return self._poll * (0.5 + self._random())

    def _has_stopped(self) -> bool:
        return not self._is_on

    def _wanted(self) -> tuple[list[str], int]:
        names = list(self._names())
        free = min(GROUP, self._concurrency - len(self._deliveries))
        if free <= 0:
            names = self._deliveries.idle(names)
            free = min(GROUP, len(names))
        return names, free if names else 0

    def _later(self) -> float:
        self._failed += 1
        return self._outage.wait(self._failed)
