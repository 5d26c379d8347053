"""Looks at a ledger now and then: whether it answers, and how much it has to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import OniError
from oni.interfaces import ILedger
from oni.server.sources._health import LedgerHealth
from oni.values import DeliveryState

__all__ = ["LedgerWatch"]

_log = Logger()
_PATIENCE = 10.0  # seconds in which an answer is expected
_SHARE = 20  # a look may take one part of so many of the time


class LedgerWatch(Service):
    """Counts what is in the ledger, for ``/metrics``, and tells its health.

    Counting reads every delivery's state: where that takes long, it is done less often.

    Args:
        ledger: The ledger, which is open.
        health: Is told whether it answers.
        clock: The reactor.
        interval: Seconds from the end of one look to the next one.

    Attributes:
        counts: How many deliveries there were in each state; empty before the first answer.
        lag: For how many seconds the first of them had been due; None before the first answer.
    """

    name = "ledger watch"

    def __init__(
        self, ledger: ILedger, health: LedgerHealth, clock: IReactorTime, interval: float
    ) -> None:
        self.counts: Mapping[DeliveryState, int] = {}
        self.lag: float | None = None
        self._ledger = ledger
        self._health = health
        self._clock = clock
        self._interval = interval
        self._next: IDelayedCall | None = None
        self._turn = 0

    def startService(self) -> None:
        """Look at once."""
        super().startService()
        self._look()

    def stopService(self) -> None:
        """Look no more; an answer that still comes is of no interest."""
        super().stopService()
        self._turn += 1
        self._disarm()

    def _look(self) -> None:
        self._turn += 1
        self._arm(_PATIENCE, self._health.fails, f"it has said nothing for {_PATIENCE:g} s")
        questions: list[Deferred[Any]] = [self._ledger.count(), self._ledger.lag()]
        asked = gatherResults(questions, consumeErrors=True)
        turn, begun = self._turn, self._clock.seconds()
        asked.addCallbacks(self._answered, self._failed, (turn,), errbackArgs=(turn,))
        asked.addCallback(lambda _: self._wait(turn, self._clock.seconds() - begun))

    def _answered(self, found: list[Any], turn: int) -> None:
        if turn == self._turn:
            self.counts, self.lag = found
            self._health.answers()

    def _failed(self, failure: Failure, turn: int) -> None:
        if turn != self._turn:
            return
        if isinstance(failure.value, FirstError):
            failure = failure.value.subFailure
        if not failure.check(OniError):
            _log.failure("the ledger cannot be looked at", failure)
        self._health.fails(failure.value)

    def _wait(self, turn: int, took: float) -> None:
        if self.running and turn == self._turn:
            self._arm(max(self._interval, _SHARE * took), self._look)

    def _arm(self, seconds: float, call: Any, *args: Any) -> None:
        self._disarm()
        self._next = self._clock.callLater(seconds, self._ring, call, args)

    def _disarm(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _ring(self, call: Any, args: Any) -> None:
        self._next = None
        call(*args)
