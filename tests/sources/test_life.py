"""Starts and stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.logger import capturedLogs

from oni.errors import (
    InvalidTimeoutError,
    NotRunningError,
    StopTimeoutError,
    UnsafeLedgerError,
)
from oni.ledger import Ledger
from oni.sources import EventSources, event
from oni.values import Event, Phase
from tests.ledger.threads import AtOnce, WhenTold
from tests.sources.house import SourcesTestCase


class LifeTests(SourcesTestCase):
    """From a start to a stop, and again."""

    def hang(self, event: Event) -> Deferred[None]:
        """Wait until a test says so."""
        self.waiting: Deferred[None] = Deferred(lambda _: self.called.append("cancelled"))
        return self.waiting

    def process(self, *ids: int, sources: EventSources | None = None) -> Deferred[Any]:
        """Begin to process events."""
        sources = sources or self.sources
        processed = sources.process_events([event("g", id) for id in ids])
        processed.addErrback(lambda failure: failure.trap(NotRunningError))
        self.clock.settle()
        return processed

    def test_twice(self) -> None:
        """A second start and a second stop change nothing; another start is another life."""
        self.start()
        self.start()
        self.sources.register_group_handler("", self.note(), name="n")
        self.process(1)
        self.get(self.sources.stop())
        self.get(self.sources.stop())
        self.start()
        self.process(1, 2)
        self.assertEqual(self.called, ["1:g1", "1:g2"])
        self.assertEqual(self.sources.statistics()["completed"], 2)

    def test_ledger_does_not_open(self) -> None:
        """The start fails as the ledger does, and may be tried again."""

        def refuse() -> Sequence[str]:
            raise UnsafeLedgerError(["it forgets"])

        opens, self.store.open = self.store.open, refuse  # type: ignore[method-assign]
        self.refuse(self.sources.start(), UnsafeLedgerError)
        self.assertFalse(self.sources.is_started)
        self.store.open = opens  # type: ignore[method-assign]
        self.start()
        self.assertTrue(self.sources.is_started)

    def test_stopped_before_it_is_open(self) -> None:
        """A ledger that opens after the stop is closed again, and nothing lives on."""
        threads: list[WhenTold] = []

        def make_threads(name: str, size: int) -> Any:
            threads.append(WhenTold())
            return threads[-1]

        ledger = Ledger(self.store, interval=None, reactor=self.clock, make_threads=make_threads)
        sources = EventSources(ledger, reactor=self.clock, make_pool=lambda size: self.pool)
        sources.register_group_handler("", self.note(), name="n")
        both = [sources.start(), sources.start()]
        stopped = sources.stop()
        for _ in range(3):
            self.clock.settle()
            for each in threads:
                each.go()
        self.get(stopped)
        for started in both:
            self.refuse(started, NotRunningError)
        self.assertFalse(sources.is_started)
        self.refuse(ledger.count(), NotRunningError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_started_while_it_starts(self) -> None:
        """Whoever starts them, too, is told when they are open."""
        threads: list[WhenTold] = []

        def make_threads(name: str, size: int) -> Any:
            threads.append(WhenTold())
            return threads[-1]

        ledger = Ledger(self.store, interval=None, reactor=self.clock, make_threads=make_threads)
        sources = EventSources(ledger, reactor=self.clock, make_pool=lambda size: self.pool)
        both = [sources.start(), sources.start()]
        self.clock.settle()
        for started in both:
            self.assertNoResult(started)
        threads[0].go()
        for started in both:
            self.get(started)
        self.assertTrue(sources.is_started)

    def test_started_while_it_stops(self) -> None:
        """They start again when the stop is over, though another stop was refused meanwhile."""
        self.start()
        self.sources.register_group_handler("", self.hang, name="n")
        self.process(1)
        stopped = self.sources.stop()
        self.refuse(self.sources.stop(), NotRunningError)
        started = self.sources.start()
        self.clock.settle()
        self.assertNoResult(started)
        self.waiting.callback(None)
        self.get(stopped)
        self.get(started)
        self.assertTrue(self.sources.is_started)
        self.process(2)
        self.waiting.callback(None)
        self.clock.settle()
        self.assertEqual(self.states("1:g2"), {"n": "done"})

    def test_nothing_is_left(self) -> None:
        """After a stop nothing is to be done any more, and the threads have ended."""
        self.start()
        self.sources.register_group_handler("", self.note(), name="n")
        self.process(1)
        self.get(self.sources.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.pool.is_stopped)
        self.assertEqual(self.sources.statistics()["under_way"], 0)

    def test_stop_waits(self) -> None:
        """What runs is waited for; nothing new begins meanwhile."""
        self.start()
        self.sources.register_group_handler("", self.hang, name="n")
        self.process(1)
        stopped = self.sources.stop()
        self.clock.pass_time(100)
        self.assertNoResult(stopped)
        with self.store.transaction() as transaction:
            self.sources.admit_within(transaction.connection, [event("g", 2)])
        self.sources.wake()
        self.clock.pass_time(10)
        self.assertEqual(self.states("1:g2"), {"n": "pending"})
        self.refuse(self.sources.process_events([event("g", 3)]), NotRunningError)
        self.refuse(self.sources.stop(), NotRunningError)
        self.waiting.callback(None)
        self.get(stopped)
        self.assertEqual(self.states("1:g1"), {"n": "done"})

    def test_hold(self) -> None:
        """Held, they begin nothing by themselves, but what somebody waits for; then they stop."""
        self.sources.hold()  # which is nothing where they have not started
        self.start()
        self.sources.register_group_handler("", self.note(), name="n")
        self.clock.settle()
        self.sources.hold()
        self.get(self.sources.only_new_events([event("g", 1)]))
        self.clock.pass_time(10)
        self.assertEqual(self.states("1:g1"), {"n": "pending"})
        self.process(2)
        self.assertEqual(self.called, ["1:g2"])
        self.get(self.sources.stop())
        self.start()
        self.clock.settle()
        self.assertEqual(self.called, ["1:g2", "1:g1"])

    def test_wrong_time_limit(self) -> None:
        """A time limit that is none is refused."""
        for timeout in (0, -1, float("inf")):
            self.assertRaises(InvalidTimeoutError, self.sources.stop, timeout)

    def test_time_limit(self) -> None:
        """What still runs then is given up and has failed, and the error names it."""
        self.start()
        self.sources.register_group_handler("", self.hang, name="n")
        self.process(1)
        stopped = self.sources.stop(8)
        self.clock.pass_time(6)
        self.assertNoResult(stopped)
        self.clock.pass_time(2)
        error = self.refuse(stopped, StopTimeoutError)
        self.assertIn("n (registered at", str(error))
        self.assertEqual(self.called, ["cancelled"])
        record = self.show("1:g1")
        self.assertEqual((record.state, record.attempts), ("pending", 1))
        self.assertIn("given up before it ended", record.last_error)
        self.assertFalse(self.sources.is_started)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flushLoggedErrors(CancelledError)

    def show(self, key: str) -> Any:
        """Give the only delivery of a key."""
        with self.store.transaction(read=True) as transaction:
            record = transaction.show(key)
        assert record is not None
        (delivery,) = record.deliveries
        return delivery

    def test_what_waits_for_a_thread_is_given_back(self) -> None:
        """It was never begun: it is no attempt, and others find it at once."""
        self.start()
        self.pool.is_free = False
        self.sources.register_group_handler("", self.note(), name="n", threaded=True)
        self.process(1, 2)
        end = self.pool.begin()
        stopped = self.sources.stop(5)
        self.clock.settle()
        self.assertNoResult(stopped)
        end()
        self.get(stopped)
        rows = sorted((row.state, row.attempts) for row in self.store.rows.values())
        self.assertEqual(rows, [("done", 1), ("pending", 0)])
        self.assertEqual(self.sources.statistics()["released"], 1)

    def test_a_thread_that_hangs(self) -> None:
        """A stop ends in time, whatever a thread does."""
        self.start()
        self.pool.is_free = False
        self.sources.register_group_handler("", self.note(), name="n", threaded=True)
        self.process(1)
        self.pool.begin()
        stopped = self.sources.stop(4)
        self.clock.pass_time(4)
        self.refuse(stopped, StopTimeoutError)
        self.assertEqual(self.show("1:g1").state, "pending")
        self.flushLoggedErrors(CancelledError)

    def test_what_is_about_to_begin_is_given_back(self) -> None:
        """So is what has still to be looked up before it may begin."""
        sources = self.make(phases=[Phase("a", on_error="abort"), "b"])
        self.start(sources)
        sources.register_group_handler("", self.note(), name="n", phase="b")
        asked: Deferred[Any] = Deferred()
        show, sources.ledger.show = sources.ledger.show, lambda key: asked
        self.process(1, sources=sources)
        stopped = sources.stop(5)
        self.clock.settle()
        sources.ledger.show = show
        asked.callback(self.get(show("1:g1")))
        self.get(stopped)
        self.assertEqual((self.show("1:g1").state, self.show("1:g1").attempts), ("pending", 0))
        self.assertEqual(self.called, [])

    def test_a_transaction_that_hangs(self) -> None:
        """Nothing can interrupt a transaction: the stop ends in time without it."""
        calls: list[tuple[Any, Deferred[Any]]] = []

        class Hangs:
            def run(self, function: Any) -> Deferred[Any]:
                calls.append((function, Deferred()))
                return calls[-1][1]

            def stop(self) -> Deferred[None]:
                return Deferred()

        def make_threads(name: str, size: int) -> Any:
            return Hangs() if name == "worker" else AtOnce()

        ledger = Ledger(self.store, interval=None, reactor=self.clock, make_threads=make_threads)
        sources = EventSources(ledger, reactor=self.clock, make_pool=lambda size: self.pool)
        sources.register_group_handler(
            "", lambda event, transaction: None, name="n", on_crash="transaction"
        )
        self.start(sources)
        with self.store.transaction() as transaction:
            sources.admit_within(transaction.connection, [event("g", 1)])
        sources.wake()
        self.clock.settle()
        self.assertEqual(len(calls), 1)
        stopped = sources.stop(4)
        with capturedLogs() as logs:
            self.clock.pass_time(4.5)
            self.refuse(stopped, StopTimeoutError)
        self.assertIn("did not close in time", logs[-1]["log_format"])
        self.assertEqual(self.show("1:g1").state, "running")
        function, done = calls[0]
        execute(function).chainDeferred(done)
        self.clock.settle()
        self.assertEqual(self.show("1:g1").state, "done")

    def test_ledger_is_away_at_the_end(self) -> None:
        """What cannot be told any more is left to the lease, and the stop ends in time."""
        self.start()
        self.sources.register_group_handler("", self.hang, name="n")
        self.process(1)
        self.store.is_away = True
        self.waiting.callback(None)
        stopped = self.sources.stop(4)
        self.clock.pass_time(4)
        self.refuse(stopped, StopTimeoutError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.store.is_away = False
        self.assertEqual(self.show("1:g1").state, "running")

    def test_stopped_when_nobody_waits(self) -> None:
        """That nothing more is run for somebody who has given up is no error to be logged."""
        self.start()
        self.sources.register_group_handler("", self.hang, name="n")
        processed = self.sources.process_events([event("g", 1)])
        self.clock.settle()
        processed.cancel()
        self.failureResultOf(processed, CancelledError)
        stopped = self.sources.stop()
        self.clock.settle()
        self.waiting.callback(None)
        self.get(stopped)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_stop_that_nobody_waits_for(self) -> None:
        """Who cancels a stop does not keep it from its end."""
        self.start()
        self.sources.register_group_handler("", self.hang, name="n")
        self.process(1)
        stopped = self.sources.stop()
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        self.waiting.callback(None)
        self.clock.settle()
        self.assertFalse(self.sources.is_started)
        self.assertEqual(self.show("1:g1").state, "done")

    def test_statistics(self) -> None:
        """They are there before the start, and of the same names after it."""
        before = self.sources.statistics()
        self.start()
        self.assertEqual(before.keys(), self.sources.statistics().keys())
        self.assertEqual(set(before.values()), {0})
