"""Time limits of handlers and phases, on a clock that the test moves."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import LogLevel
from twisted.python import threadable

from oni.dispatcher import ThreadLimit, in_thread
from oni.errors import EventAbortedError, HandlerTimeoutError, InvalidTimeoutError
from oni.twisted_event_dispatcher import Phase
from tests.blocking.pump import Pump
from tests.dispatcher.running import RunningCase


class HandlerTests(RunningCase):
    """A handler's time limit."""

    def test_recorded_at_once(self) -> None:
        """The handler is cancelled and recorded as failed, and the event goes on."""
        gates = self.wait("slow", timeout=2)
        self.hear("after", "after")
        done = self.start()
        self.clock.advance(1.9)
        self.assertEqual(self.heard, ["slow"])
        self.clock.advance(0.2)
        self.assertEqual(self.heard, ["slow", "after"])
        [failure] = self.successResultOf(done).failures
        error = failure.value
        self.assertIsInstance(error, HandlerTimeoutError)
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual((error.phase, error.seconds), ("during", 2))
        self.assertIn("RunningCase.wait.<locals>.handler", error.handler)
        self.assertTrue(gates[0].called)
        self.assertEqual(len(self.flush(HandlerTimeoutError)), 1)

    def test_others_are_not_cancelled(self) -> None:
        """The other handlers of its phase go on."""
        self.wait("slow", timeout=1)
        gates = self.wait("other")
        done = self.start()
        self.clock.advance(1)
        self.assertNoResult(done)
        gates[0].callback("value")
        self.assertEqual(self.successResultOf(done).values, ("value",))
        self.flush(HandlerTimeoutError)

    def test_in_time(self) -> None:
        """A handler that ends in time leaves no timer, one that ends at once never has one."""
        gates = self.wait(timeout=1)
        self.add(lambda event: None, timeout=1)
        self.add(lambda event: succeed(None), timeout=1)
        done = self.start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        gates[0].callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.successResultOf(done).failures, ())

    def test_cancelled_event(self) -> None:
        """Cancelling the event ends the time limits of its handlers."""
        self.wait(timeout=1)
        done = self.start()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_call(self) -> None:
        """The limit is for each call, from its start."""
        gates = self.wait("gate", timeout=2)
        first, second = self.start(), self.start()
        self.clock.advance(1.5)
        gates[0].callback(None)
        self.successResultOf(first)
        self.clock.advance(1.5)
        self.assertNoResult(second)
        self.clock.advance(1)
        self.assertEqual(len(self.successResultOf(second).failures), 1)
        self.flush(HandlerTimeoutError)

    def test_coroutine(self) -> None:
        """A coroutine is cancelled where it waits."""

        async def handler(event: Any) -> None:
            try:
                await Deferred()
            except CancelledError:
                self.heard.append("cancelled")
                raise

        self.add(handler, timeout=1)
        done = self.start()
        self.clock.advance(1)
        self.assertEqual(self.heard, ["cancelled"])
        self.assertEqual(len(self.successResultOf(done).failures), 1)
        self.flush(HandlerTimeoutError)

    def test_late_result_is_dropped(self) -> None:
        """What a handler that was given up does later changes no result."""
        again: Deferred[None] = Deferred()

        async def handler(event: Any) -> str:
            try:
                await Deferred()
            except CancelledError:
                await again
            raise ValueError("late")

        self.add(handler, timeout=1)
        done = self.start()
        self.clock.advance(1)
        result = self.successResultOf(done)
        again.callback(None)
        self.assertIsInstance(result.failures[0].value, HandlerTimeoutError)
        self.assertEqual(len(self.flush(HandlerTimeoutError, ValueError)), 2)
        self.assertIn("after it was given up", self.logs(LogLevel.critical)[1])

    def test_ends_others_by_its_cancellation(self) -> None:
        """A canceller that ends the other handlers lets the event go on once."""
        gates = self.wait("other")
        self.add(lambda event: Deferred(lambda _: gates[0].callback("freed")), timeout=1)
        self.hear("after", "after")
        done = self.start()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(done).values[0], "freed")
        self.assertEqual(self.heard, ["other", "after"])
        self.flush(HandlerTimeoutError)

    def test_aborts(self) -> None:
        """A timeout is a failure: it aborts where errors do."""
        self.use(phases=[Phase("during", on_error="abort"), "after"])
        self.wait(timeout=1)
        self.note("after")
        done = self.start("event")
        self.clock.advance(1)
        error = self.failing(done, EventAbortedError)
        self.assertIsInstance(error.failures[0].value, HandlerTimeoutError)
        self.assertEqual(self.heard, ["event"])

    def test_sequential(self) -> None:
        """In a sequential phase the next handler follows."""
        self.use(phases=[Phase("during", concurrent=False)])
        self.wait("slow", timeout=1)
        gates = self.wait("next", timeout=1)
        done = self.start()
        self.clock.advance(1)
        self.assertEqual(self.heard, ["slow", "next"])
        self.clock.advance(0.9)
        gates[0].callback("in time")
        self.assertEqual(self.successResultOf(done).values, ("in time",))
        self.flush(HandlerTimeoutError)

    def test_in_thread(self) -> None:
        """A thread cannot be stopped: its handler is given up, and what it returns is dropped."""
        self.patch(threadable, "ioThread", None)
        pump = Pump()
        pump.start()
        self.addCleanup(pump.stop)
        limit = ThreadLimit(1, reactor=pump)
        began = threading.Event()
        go_on = threading.Event()
        ended = threading.Event()

        def block(event: Any) -> str:
            began.set()
            go_on.wait(5)
            ended.set()
            return "too late"

        handler = in_thread(block, limit)
        self.add(handler, timeout=1)
        done = pump.run(self.start)
        self.assertTrue(began.wait(5))
        pump.run(lambda: self.clock.advance(1))
        [failure] = self.successResultOf(done).failures
        self.assertIsInstance(failure.value, HandlerTimeoutError)
        go_on.set()
        self.assertTrue(ended.wait(5))
        self.flush(HandlerTimeoutError)


class PhaseTests(RunningCase):
    """A phase's time limit."""

    def test_gives_up_all_that_still_run(self) -> None:
        """What still runs of the phase is cancelled and recorded; the next phase follows."""
        self.use(phases=[Phase("during", timeout=3), "after"])
        gates = self.wait("in time")
        self.wait("slow")
        self.wait("slower")
        self.hear("after", "after")
        done = self.start()
        gates[0].callback("value")
        self.clock.advance(3)
        result = self.successResultOf(done)
        self.assertEqual(result.values, ("value", None))
        self.assertEqual([f.value.seconds for f in result.failures], [3, 3])
        self.assertEqual(self.heard[-1], "after")
        self.flush(HandlerTimeoutError)

    def test_sequential(self) -> None:
        """The limit is for the whole phase: handlers that were not called yet are left out."""
        self.use(phases=[Phase("during", concurrent=False, timeout=3), "after"])
        gates = self.wait("first")
        self.wait("second")
        self.hear("third")
        self.hear("after", "after")
        done = self.start()
        self.clock.advance(2)
        gates[0].callback("value")
        self.clock.advance(1)
        result = self.successResultOf(done)
        self.assertEqual(self.heard, ["first", "second", "after"])
        self.assertEqual([o.handler_id for o in result], [1, 2, 4])
        self.assertEqual(len(result.failures), 1)
        self.assertEqual([h.calls for h in self.dispatcher.handlers()], [1, 1, 0, 1])
        self.flush(HandlerTimeoutError)

    def test_in_time(self) -> None:
        """A phase that ends in time leaves no timer for the next one."""
        self.use(phases=[Phase("during", timeout=3), "after"])
        gates, after = self.wait(), self.wait("after", "after")
        done = self.start()
        gates[0].callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10)
        self.assertNoResult(done)
        after[0].callback(None)
        self.assertEqual(self.successResultOf(done).failures, ())

    def test_without_a_wait(self) -> None:
        """An event whose handlers are done at once leaves no timer."""
        self.use(phases=[Phase("during", timeout=3)])
        self.note()
        self.fire()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_shorter_one_counts(self) -> None:
        """Of a handler's own limit and its phase's, the one that comes first counts."""
        self.use(phases=[Phase("during", timeout=3)])
        self.wait("short", timeout=1)
        self.wait("long", timeout=10)
        done = self.start()
        self.clock.advance(1)
        self.clock.advance(2)
        seconds = [f.value.seconds for f in self.successResultOf(done).failures]
        self.assertEqual(seconds, [1, 3])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flush(HandlerTimeoutError)

    def test_aborts(self) -> None:
        """A phase that times out aborts where errors do; phases that always run follow."""
        self.use(
            phases=[
                Phase("during", timeout=1, on_error="abort"),
                "after",
                Phase("always", always=True, timeout=1),
            ]
        )
        self.wait("slow")
        self.hear("after", "after")
        self.wait("always", "always")
        done = self.start()
        self.clock.advance(1)
        self.assertEqual(self.heard, ["slow", "always"])
        self.clock.advance(1)
        self.assertEqual(len(self.failing(done, EventAbortedError).failures), 2)
        self.flush(HandlerTimeoutError)

    def test_bad_limits(self) -> None:
        """A limit is a positive number of seconds."""
        for bad in (0, -1, "1", True, float("nan")):
            self.assertRaises(InvalidTimeoutError, Phase, "during", timeout=bad)
