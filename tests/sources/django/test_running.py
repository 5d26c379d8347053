"""Delivery in a process: the ledger is opened when it can be, and closed before the end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    CallTimeoutError,
    LedgerUnavailableError,
    NotRunningError,
    StopTimeoutError,
    UnsafeLedgerError,
)
from oni.sources.django._running import RETRY, Running


class Reactor(Clock):
    """A clock that can be told to stop."""

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> None:
        """Remember what runs before the end."""
        assert (phase, event) == ("before", "shutdown")
        self.stop = function


class Part:
    """Event sources, or a relay.

    Attributes:
        problem: What the next start fails with.
        asked: What was asked of it.
    """

    def __init__(self) -> None:
        self.problem: Exception | Deferred[None] | None = None
        self.asked: list[Any] = []
        self.is_started = False

    def start(self) -> Deferred[None]:
        """Start, or fail to."""
        self.asked.append("start")
        if isinstance(self.problem, Deferred):
            return self.problem
        if self.problem is not None:
            return fail(self.problem)
        self.is_started = True
        return succeed(None)

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Stop, or fail to."""
        self.asked.append(("stop", timeout))
        return fail(self.problem) if isinstance(self.problem, Exception) else succeed(None)


class RunningTests(SynchronousTestCase):
    """``Running`` on a clock."""

    def setUp(self) -> None:
        """Have event sources and a relay."""
        self.reactor = Reactor()
        self.sources, self.relay = Part(), Part()
        parts: Any = (self.sources, [self.relay])
        self.running = Running(*parts, 7.0, self.reactor)

    def test_opened(self) -> None:
        """Event sources come first, then relays; whoever waits goes on."""
        self.running.begin()
        self.assertEqual((self.sources.asked, self.relay.asked), (["start"], ["start"]))
        self.running.wait()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_tried_again(self) -> None:
        """A ledger that is away is tried again, and meanwhile whoever waits is told."""
        self.sources.problem = LedgerUnavailableError("away")
        self.running.begin()
        for _ in range(2):
            with self.assertRaisesRegex(LedgerUnavailableError, "away"):
                self.running.wait()
            self.reactor.advance(RETRY)
        self.assertEqual(self.relay.asked, [])
        self.sources.problem = None
        self.reactor.advance(RETRY)
        self.running.wait()
        self.assertIsNone(self.running.error)
        self.assertEqual(self.relay.asked, ["start"])

    def test_a_relay_that_fails(self) -> None:
        """It keeps nobody from the ledger, and is tried again."""
        self.relay.problem = LedgerUnavailableError("away")
        self.running.begin()
        self.running.wait()
        self.relay.problem = None
        self.reactor.advance(RETRY)
        self.assertEqual(self.relay.asked, ["start", "start"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_relay_that_hangs(self) -> None:
        """It keeps no other one from its outbox, and the process not from its end."""
        other = Part()
        self.relay.problem = Deferred()
        parts: Any = (self.sources, [self.relay, other])
        running = Running(*parts, 7.0, self.reactor)
        running.begin()
        running.wait()
        self.assertEqual(other.asked, ["start"])
        self.relay.problem.addErrback(lambda _: None)  # it is cancelled
        self.successResultOf(self.reactor.stop())

    def test_unsafe(self) -> None:
        """What waiting does not mend is told."""
        told: list[str] = []
        self.running.on_unsafe = lambda: told.append("unsafe")
        self.sources.problem = LedgerUnavailableError("away")
        self.running.begin()
        self.assertEqual(told, [])
        self.sources.problem = UnsafeLedgerError(["no tables"])
        self.reactor.advance(RETRY)
        self.assertEqual(told, ["unsafe"])

    def test_stop(self) -> None:
        """The relays end first; handlers have their time."""
        self.running.begin()
        self.successResultOf(self.reactor.stop())
        self.assertEqual(self.relay.asked[-1], ("stop", None))
        self.assertEqual(self.sources.asked[-1], ("stop", 7.0))
        self.assertFalse(self.running.gave_up)

    def test_stop_while_it_opens(self) -> None:
        """It waits for no ledger that does not open, and lets nobody wait for it."""
        self.sources.problem = Deferred()
        self.running.begin()
        self.successResultOf(self.reactor.stop())
        with self.assertRaises(NotRunningError):
            self.running.wait()
        self.reactor.advance(RETRY)
        self.assertEqual(self.sources.asked, ["start", ("stop", 7.0)])

    def test_waiting_too_long(self) -> None:
        """Whoever has no more time is told."""
        self.sources.problem = Deferred()
        self.running.begin()
        with self.assertRaises(CallTimeoutError):
            self.running.wait(0.001)

    def test_stop_while_it_is_away(self) -> None:
        """Nothing is tried any more."""
        self.sources.problem = LedgerUnavailableError("away")
        self.running.begin()
        self.sources.problem = None
        self.successResultOf(self.reactor.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_handlers_that_hang(self) -> None:
        """That handlers were given up is known afterwards."""
        self.running.begin()
        self.sources.problem = StopTimeoutError(7.0, [])
        self.successResultOf(self.reactor.stop())
        self.assertTrue(self.running.gave_up)

    def test_a_stop_that_fails(self) -> None:
        """The reactor stops in any case, and the failure is logged."""
        self.running.begin()
        self.sources.problem = ValueError("a bug")
        self.successResultOf(self.reactor.stop())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
