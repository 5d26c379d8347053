"""The ledger's own threads."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, current_thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerBusyError, NotRunningError
from oni.ledger._threads import Threads

WITHIN = 30.0  # seconds


class ThreadsTests(SynchronousTestCase):
    """Real threads; what they tell is taken in this one."""

    def setUp(self) -> None:
        """Make two of them."""
        self.told: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.threads = Threads("test", 2, 3, self.tell)
        self.addCleanup(self.threads.stop)

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """Keep what shall be called in the reactor's thread."""
        self.told.put(lambda: function(*args))

    def wait(self, done: Deferred[Any]) -> None:
        """Take what threads tell until a Deferred has fired."""
        while not done.called:
            self.told.get(timeout=WITHIN)()

    def test_elsewhere(self) -> None:
        """A function runs in another thread, its result is told in this one."""
        done = self.threads.run(lambda: current_thread().name)
        self.wait(done)
        self.assertEqual(self.successResultOf(done), "test-1")

    def test_failures(self) -> None:
        """Whatever is raised is told, and the thread lives on."""
        for error in (ValueError, SystemExit, KeyboardInterrupt):

            def fail(error: type[BaseException] = error) -> None:
                raise error

            done = self.threads.run(fail)
            self.wait(done)
            self.failureResultOf(done, error)
        done = self.threads.run(lambda: 1)
        self.wait(done)
        self.assertEqual(self.successResultOf(done), 1)

    def test_bounded(self) -> None:
        """No more threads are made, and no more calls are taken, than there may be."""
        go = Event()
        names: list[str] = []

        def wait() -> None:
            go.wait(WITHIN)
            names.append(current_thread().name)

        done = [self.threads.run(wait) for _ in range(3)]
        self.failureResultOf(self.threads.run(wait), LedgerBusyError)
        self.assertEqual(self.threads.under_way, 3)
        go.set()
        for each in done:
            self.wait(each)
        self.assertLessEqual(set(names), {"test-1", "test-2"})

    def test_cancelled_before_it_begins(self) -> None:
        """What is cancelled while it waits for a thread is never called."""
        go = Event()
        called: list[int] = []
        busy = [self.threads.run(lambda: go.wait(WITHIN)) for _ in range(2)]
        waiting = self.threads.run(lambda: called.append(1))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        go.set()
        for each in (*busy, self.threads.stop()):
            self.wait(each)
        self.assertEqual(called, [])

    def hang(self, threads: Threads) -> Event:
        """Let a thread hang in a call that was given up; give what lets it go."""
        go, begun = Event(), Event()

        def hang() -> None:
            begun.set()
            go.wait(WITHIN)

        hung = threads.run(hang)
        self.assertTrue(begun.wait(WITHIN))
        hung.cancel()
        self.failureResultOf(hung, CancelledError)
        self.addCleanup(go.set)
        return go

    def test_hung(self) -> None:
        """A thread that hangs in a call that was given up is replaced, as often as there are."""
        threads = Threads("hung", 1, 3, self.tell)
        first = self.hang(threads)
        self.assertEqual(threads.under_way, 0)
        done = threads.run(lambda: current_thread().name)
        self.wait(done)
        self.assertEqual(self.successResultOf(done), "hung-2")
        second = self.hang(threads)
        waiting = threads.run(lambda: current_thread().name)
        self.assertNoResult(waiting)
        second.set()
        self.wait(waiting)
        self.assertEqual(self.successResultOf(waiting), "hung-2", "it was not replaced")
        first.set()
        self.told.get(timeout=WITHIN)()
        self.hang(threads)
        done = threads.run(lambda: current_thread().name)
        self.wait(done)
        self.assertEqual(self.successResultOf(done), "hung-3", "the first one came back")
        self.successResultOf(threads.stop())

    def test_what_waits_for_a_hung_one(self) -> None:
        """What waited for a thread that is lost gets the one that takes its place."""
        threads = Threads("hung", 1, 3, self.tell)
        go, begun = Event(), Event()
        self.addCleanup(go.set)

        def hang() -> None:
            begun.set()
            go.wait(WITHIN)

        hung, waiting = threads.run(hang), threads.run(lambda: current_thread().name)
        self.assertTrue(begun.wait(WITHIN))
        stopped = threads.stop()
        hung.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        self.wait(waiting)
        self.assertEqual(self.successResultOf(waiting), "hung-2")
        self.successResultOf(stopped)

    def test_cancelled_when_it_has_ended(self) -> None:
        """What is cancelled before its answer was heard costs no thread."""
        threads = Threads("late", 1, 3, self.tell)
        done = threads.run(lambda: 1)
        tell = self.told.get(timeout=WITHIN)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        tell()
        again = threads.run(lambda: current_thread().name)
        self.wait(again)
        self.assertEqual(self.successResultOf(again), "late-1")
        self.successResultOf(threads.stop())

    def test_stop(self) -> None:
        """What was taken is run to its end; then the threads end, and nothing more is taken."""
        go = Event()
        done = self.threads.run(lambda: go.wait(WITHIN))
        stopped, again = self.threads.stop(), self.threads.stop()
        self.failureResultOf(self.threads.run(lambda: 1), NotRunningError)
        self.assertNoResult(stopped)
        go.set()
        self.wait(done)
        self.assertTrue(self.successResultOf(done))
        self.successResultOf(stopped)
        self.successResultOf(again)

    def test_stop_while_everything_hangs(self) -> None:
        """What was given up is not waited for, also where no more threads are replaced."""
        threads = Threads("hung", 1, 3, self.tell)
        first, second = self.hang(threads), self.hang(threads)
        self.assertEqual(threads.under_way, 1)
        self.successResultOf(threads.stop())
        first.set()
        second.set()
        for _ in range(2):
            self.told.get(timeout=WITHIN)()
        self.assertEqual(threads.under_way, 0)

    def test_stop_without_threads(self) -> None:
        """Where nothing was run there is nothing to wait for."""
        self.successResultOf(self.threads.stop())
