"""Forgetting what was done long ago, again and again."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerUnavailableError
from oni.server.sources._pruning import Pruning


class SomeLedger:
    """Prunes as many keys as the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []
        self.answers: list[Deferred[int]] = []

    def prune(self, older_than: float, limit: int) -> Deferred[int]:
        """Do it."""
        self.asked.append((older_than, limit))
        return self.answers.pop(0) if self.answers else succeed(0)


class PruningTests(SynchronousTestCase):
    """Pruning on a clock."""

    def setUp(self) -> None:
        """Begin."""
        self.clock = Clock()
        self.ledger: Any = SomeLedger()
        self.pruning = Pruning(self.ledger, 3600.0, self.clock, 600.0)

    def test_until_nothing_is_left(self) -> None:
        """It goes on while there are full groups, and says how many there were."""
        self.ledger.answers = [succeed(1000), succeed(1000), succeed(7)]
        with capturedLogs() as logged:
            self.pruning.startService()
        self.assertEqual([(3600.0, 1000)] * 3, self.ledger.asked)
        self.assertIn("2007 keys", formatEvent(logged[0]))
        self.clock.advance(599)
        self.assertEqual(3, len(self.ledger.asked))
        self.clock.advance(2)
        self.assertEqual(4, len(self.ledger.asked))

    def test_failure(self) -> None:
        """What fails is tried again next time."""
        self.ledger.answers = [fail(LedgerUnavailableError("gone")), fail(ZeroDivisionError())]
        with capturedLogs() as logged:
            self.pruning.startService()
        self.assertEqual(
            ["the ledger cannot be pruned: gone"], [formatEvent(each) for each in logged]
        )
        self.clock.advance(600)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.clock.advance(600)
        self.assertEqual(3, len(self.ledger.asked))

    def test_begun_again(self) -> None:
        """A second life waits for what the first one had under way, and prunes once at a time."""
        waiting: Deferred[int] = Deferred()
        self.ledger.answers = [waiting]
        self.pruning.startService()
        self.pruning.stopService()
        self.pruning.startService()
        self.assertEqual(1, len(self.ledger.asked))
        waiting.callback(3)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_stop(self) -> None:
        """It begins no more transactions and leaves no timer; a second life has its own."""
        waiting: Deferred[int] = Deferred()
        self.ledger.answers = [waiting]
        self.pruning.startService()
        self.pruning.stopService()
        waiting.callback(1000)
        self.assertEqual(1, len(self.ledger.asked))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.pruning.startService()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.pruning.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())
