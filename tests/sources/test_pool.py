"""Threads for handlers that block: turns, losses, ends."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from queue import SimpleQueue
from threading import Event, current_thread
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import NotRunningError
from oni.sources import _pool
from oni.sources._pool import Pool

PATIENCE = 30.0  # seconds, for threads of a busy machine

_mark: ContextVar[str] = ContextVar("mark", default="")


class PoolTests(SynchronousTestCase):
    """Real threads, whose answers a test takes one by one."""

    def setUp(self) -> None:
        """Begin without threads."""
        self.answers: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.gate = Event()
        self.addCleanup(self.gate.set)
        self.cleaned: list[str] = []
        self.exhausted: list[str] = []

    def make(self, size: int, most_lost: int = 0, **options: Any) -> Pool:
        """Give a pool that tells its answers here."""
        pool = Pool(size, most_lost, lambda *call: self.answers.put(call), **options)
        self.addCleanup(pool.stop)
        return pool

    def turn(self) -> None:
        """Let one answer arrive in the reactor's thread: this one."""
        function, *args = self.answers.get(timeout=PATIENCE)
        function(*args)

    def hang(self) -> str:
        """Wait until the gate is opened."""
        self.gate.wait(PATIENCE)
        return "done"

    def test_result(self) -> None:
        """What a function gives is told, a failure of any kind, too; in a thread with a name."""

        def fail() -> None:
            raise SystemExit(3)

        pool = self.make(1)
        name, failed = pool.run("a", lambda: current_thread().name), pool.run("a", fail)
        self.turn()
        self.assertEqual(self.successResultOf(name), "oni-sources-1")
        self.turn()
        self.failureResultOf(failed, SystemExit)
        self.assertEqual(pool.statistics()["threads_busy"], 0)

    def test_context(self) -> None:
        """A function runs in a copy of the context in which it was asked for."""
        pool = self.make(1)
        token = _mark.set("here")
        seen = pool.run("a", _mark.get)
        _mark.reset(token)
        self.turn()
        self.assertEqual(self.successResultOf(seen), "here")

    def test_bound(self) -> None:
        """There are no more threads than said, and idle ones are used again."""
        pool = self.make(2)
        waiting = [pool.run("a", self.hang) for _ in range(5)]
        self.assertEqual(
            pool.statistics(),
            {"threads": 2, "threads_busy": 2, "threads_lost": 0, "threads_waited_for": 3},
        )
        self.gate.set()
        for _ in waiting:
            self.turn()
        self.assertEqual([self.successResultOf(each) for each in waiting], ["done"] * 5)
        self.assertEqual(pool.statistics()["threads"], 2)

    def test_turns(self) -> None:
        """Names take turns, so that one of many calls does not keep the others waiting."""
        pool = self.make(1)
        order: list[str] = []

        def call(name: str) -> Callable[[], None]:
            return lambda: order.append(name)

        first = pool.run("slow", self.hang)
        for name in ("slow", "slow", "slow", "quick", "other", "quick"):
            pool.run(name, call(name))
        self.gate.set()
        for _ in range(7):
            self.turn()
        self.assertEqual(order, ["slow", "quick", "other", "slow", "quick", "slow"])
        self.successResultOf(first)

    def test_begun(self) -> None:
        """It is told when a thread takes a call, not before."""
        pool = self.make(1)
        begun: list[str] = []
        pool.run("a", self.hang, lambda: begun.append("a"))
        pool.run("b", self.hang, lambda: begun.append("b"))
        self.assertEqual(begun, ["a"])
        self.gate.set()
        self.turn()
        self.assertEqual(begun, ["a", "b"])
        self.turn()

    def test_cancelled_while_waiting(self) -> None:
        """A call that no thread has taken is not made."""
        pool = self.make(1)
        pool.run("a", self.hang)
        called: list[int] = []
        waiting = [pool.run("b", lambda: called.append(1)) for _ in range(2)]
        for each in waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(pool.statistics()["threads_waited_for"], 0)
        self.gate.set()
        self.turn()
        self.assertEqual((called, pool.statistics()["threads_lost"]), ([], 0))

    def test_eleven_that_hang(self) -> None:
        """Eleven calls that hang are given up one by one, and others still get a thread."""
        pool = self.make(10, most_lost=11)
        hung = [pool.run("hung", self.hang) for _ in range(11)]
        good = pool.run("good", lambda: "good")
        self.assertEqual(pool.statistics()["threads_waited_for"], 2)
        for each in hung[:10]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.turn()
        self.assertEqual(self.successResultOf(good), "good")
        hung[10].cancel()
        self.failureResultOf(hung[10])
        self.assertEqual(pool.statistics()["threads_lost"], 11)
        self.gate.set()
        for _ in hung:
            self.turn()
        self.assertEqual(pool.statistics()["threads_lost"], 0)

    def test_no_more_are_replaced(self) -> None:
        """Beyond the bound a lost thread is not replaced, and somebody is told, loudly."""
        pool = self.make(1, most_lost=1, exhausted=lambda: self.exhausted.append("now"))
        with capturedLogs() as logs:
            for _ in range(2):
                each = pool.run("hung", self.hang)
                each.cancel()
                self.failureResultOf(each)
        self.assertEqual(self.exhausted, ["now"])
        self.assertIn("started again", logs[-1]["log_format"])
        waiting = pool.run("good", lambda: "good")
        self.assertEqual(pool.statistics()["threads_waited_for"], 1)
        self.gate.set()
        self.turn()  # a lost one comes back, and its place is free again
        self.turn()
        self.turn()
        self.assertEqual(self.successResultOf(waiting), "good")

    def test_exhausted(self) -> None:
        """When the last thread is lost, what waits is let go; one that comes back is one again."""
        pool = self.make(2, most_lost=0)
        hung = [pool.run("hung", self.hang) for _ in range(2)]
        waiting = pool.run("good", lambda: "good")
        hung[0].cancel()
        self.assertFalse(pool.is_exhausted)
        self.assertNoResult(waiting)
        hung[1].cancel()
        self.assertTrue(pool.is_exhausted)
        for each in (*hung, waiting):
            self.failureResultOf(each, CancelledError)
        self.gate.set()
        self.turn()
        self.assertFalse(pool.is_exhausted)

    def test_no_thread(self) -> None:
        """Where the system gives no thread, calls fail, or wait for those that are there."""

        def refuse(*args: object, **options: object) -> Any:
            raise RuntimeError("can't start new thread")

        pool = self.make(2)
        with mock.patch.object(_pool, "Thread", refuse):
            failed = pool.run("a", lambda: "a")
            self.failureResultOf(failed, RuntimeError)
        self.assertEqual(pool.statistics()["threads"], 0)
        hung = pool.run("hung", self.hang)
        with mock.patch.object(_pool, "Thread", refuse):
            waiting = pool.run("b", lambda: "b")
        self.gate.set()
        self.turn()
        self.turn()
        self.assertEqual([self.successResultOf(each) for each in (hung, waiting)], ["done", "b"])

    def test_failure_after_all(self) -> None:
        """What was given up and fails later is logged."""

        def fail() -> None:
            self.gate.wait(PATIENCE)
            raise ZeroDivisionError

        pool = self.make(1, most_lost=1)
        each = pool.run("a", fail)
        each.cancel()
        self.failureResultOf(each, CancelledError)
        self.gate.set()
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cleaned_after_each_call(self) -> None:
        """What belongs to a thread is given back in it after each call, also a failed one."""

        def clean() -> None:
            self.cleaned.append(current_thread().name)
            raise KeyboardInterrupt

        pool = self.make(1, after=clean)
        result = pool.run("a", lambda: "result")
        self.turn()
        self.assertEqual(self.successResultOf(result), "result")
        failed = pool.run("a", lambda: 1 // 0)
        self.turn()
        self.failureResultOf(failed, ZeroDivisionError)
        self.assertEqual(self.cleaned, ["oni-sources-1"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyboardInterrupt)), 2)

    def test_stop(self) -> None:
        """What waits is cancelled, what runs is left to end, nothing more is taken."""
        pool = self.make(1)
        running: Deferred[str] = pool.run("a", self.hang)
        waiting = pool.run("a", self.hang)
        pool.stop()
        self.failureResultOf(waiting, CancelledError)
        self.failureResultOf(pool.run("a", self.hang), NotRunningError)
        self.gate.set()
        self.turn()
        self.assertEqual(self.successResultOf(running), "done")
        self.assertEqual(pool.statistics()["threads"], 0)
