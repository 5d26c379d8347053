"""Looking at a ledger: how often, what is known then, and what happens when it does not answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerUnavailableError
from oni.server.sources._health import LedgerHealth
from oni.server.sources._watch import LedgerWatch


class SomeLedger:
    """Answers as the test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Deferred[Any] = succeed({"pending": 2})

    def count(self) -> Deferred[Any]:
        """Count."""
        self.asked += 1
        return self.answer

    def lag(self) -> Deferred[float]:
        """Say it."""
        return succeed(7.5)


class WatchTests(SynchronousTestCase):
    """A watch on a clock."""

    def setUp(self) -> None:
        """Begin."""
        self.clock = Clock()
        self.ledger = SomeLedger()
        self.health = LedgerHealth()
        self.health.answers()
        self.watch = LedgerWatch(self.ledger, self.health, self.clock, 15.0)  # type: ignore[arg-type]

    def test_figures(self) -> None:
        """What it saw last is there; before that nothing is."""
        self.assertEqual(({}, None), (self.watch.counts, self.watch.lag))
        self.watch.startService()
        self.assertEqual(({"pending": 2}, 7.5), (self.watch.counts, self.watch.lag))

    def test_again_and_again(self) -> None:
        """It looks at once, and then at its interval."""
        self.watch.startService()
        self.clock.advance(14.9)
        self.assertEqual(1, self.ledger.asked)
        self.clock.advance(0.2)
        self.assertEqual(2, self.ledger.asked)

    def test_a_slow_look(self) -> None:
        """Where a look takes long there is more time between two of them."""
        self.ledger.answer = Deferred()
        self.watch.startService()
        self.clock.advance(4)
        self.ledger.answer.callback({"pending": 3})
        self.clock.advance(79)
        self.assertEqual(1, self.ledger.asked)
        self.ledger.answer = succeed({})
        self.clock.advance(2)
        self.assertEqual(2, self.ledger.asked)

    def test_failure(self) -> None:
        """What it fails with is told; the next look may be better, and the figures stay."""
        self.watch.startService()
        self.ledger.answer = fail(LedgerUnavailableError("gone"))
        self.clock.advance(15)
        self.assertEqual("the ledger does not answer", self.health.problem)
        self.assertEqual({"pending": 2}, self.watch.counts)
        self.ledger.answer = succeed({"pending": 4})
        self.clock.advance(15)
        self.assertEqual(("", {"pending": 4}), (self.health.problem, self.watch.counts))

    def test_mistake(self) -> None:
        """What nobody expected is logged with its traceback."""
        self.ledger.answer = fail(ZeroDivisionError())
        self.watch.startService()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual("the ledger does not answer", self.health.problem)

    def test_silence(self) -> None:
        """No answer at all is told after a while; a late one is welcome."""
        self.ledger.answer = Deferred()
        self.watch.startService()
        self.clock.advance(9.9)
        self.assertEqual("", self.health.problem)
        self.clock.advance(0.2)
        self.assertEqual("the ledger does not answer", self.health.problem)
        self.ledger.answer.callback({})
        self.assertEqual("", self.health.problem)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_stop(self) -> None:
        """After the end no timer is left, and a late answer changes nothing."""
        self.ledger.answer = Deferred()
        self.watch.startService()
        self.watch.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.ledger.answer.callback({"pending": 9})
        self.assertEqual({}, self.watch.counts)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_failure_after_the_end(self) -> None:
        """Nor does a late failure."""
        self.ledger.answer = Deferred()
        self.watch.startService()
        self.watch.stopService()
        self.ledger.answer.errback(LedgerUnavailableError("closed"))
        self.assertEqual("", self.health.problem)
