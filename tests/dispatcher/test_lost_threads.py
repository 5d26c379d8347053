"""Handlers that never return: their threads are lost, and others take their place."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.threadpool import ThreadPool

from oni.dispatcher import in_thread, lost_threads
from tests.dispatcher.test_threads import ThreadCase


class LostThreadTests(ThreadCase):
    """What a pool does when nothing can be done."""

    def hang(self, pool: Any, number: int) -> list[Any]:
        """Let so many calls hang, and give their Deferreds when all have begun."""
        self.go_on = threading.Event()
        self.addCleanup(self.go_on.set)
        begun = threading.Semaphore(0)

        def hang() -> None:
            begun.release()
            self.go_on.wait(30)

        calls = [pool.call(hang) for _ in range(number)]
        for _ in range(number):
            self.assertTrue(begun.acquire(timeout=10))
        return calls

    def give_up(self, calls: list[Any]) -> None:
        """Cancel calls, as a handler's time limit does."""
        for call in calls:
            call.cancel()
            self.failureResultOf(call, CancelledError)

    def test_a_lost_thread_is_replaced(self) -> None:
        """A call that was given up takes nobody's place, and what waits already gets a thread."""
        before = lost_threads()
        calls = self.hang(self.pool, 1)
        waiting = self.pool.call(lambda: "done")
        self.give_up(calls)
        self.assertEqual((1, 1), (self.pool.statistics()["lost"], lost_threads() - before))
        self.reactor.run()
        self.assertEqual("done", self.successResultOf(waiting))
        self.assertEqual(0, self.pool.statistics()["calls"])

    def test_a_thread_that_comes_back(self) -> None:
        """When the call ends after all, the thread is lost no more, and not one too many."""
        self.give_up(self.hang(self.pool, 1))
        self.go_on.set()
        self.reactor.run()
        self.assertEqual({"calls": 0, "lost": 0}, self.figures())
        self.assertEqual(1, self.pool._pool.max)
        done = self.pool.call(lambda: "done")
        self.reactor.run()
        self.assertEqual("done", self.successResultOf(done))

    def figures(self) -> dict[str, int]:
        """Give the numbers that change."""
        found = self.pool.statistics()
        return {name: found[name] for name in ("calls", "lost")}

    def test_as_many_are_replaced_as_there_are(self) -> None:
        """Not without end: then calls wait, and the queue's bound holds."""
        pool = self.limit(threads=2, queue=1)
        for _ in range(2):
            self.give_up(self.hang(pool, 2))
        self.assertEqual(4, pool.statistics()["lost"])
        waiting = pool.call(lambda: "done")
        self.assertNoResult(waiting)
        self.assertEqual(4, pool._pool.workers)

    def test_given_up_before_it_began(self) -> None:
        """A call that waits for a thread loses none."""
        self.hang(self.pool, 1)
        waiting = self.pool.call(lambda: None)
        self.give_up([waiting])
        self.assertEqual(0, self.pool.statistics()["lost"])

    def test_eleven_hung_handlers_freeze_nobody_else(self) -> None:
        """The reactor's own pool of ten, where names are looked up, has all its threads."""
        pool = self.limit(threads=10, queue=10)
        self.hang(pool, 10)
        self.add(in_thread(lambda event: self.heard.append(event), pool))
        fired = self.dispatcher.fire_event("event")
        self.assertNoResult(fired)  # the eleventh, which waits
        others = ThreadPool(0, 10)  # as a reactor has
        others.start()
        self.addCleanup(others.stop)
        answered = threading.Event()
        others.callInThread(answered.set)
        self.assertTrue(answered.wait(10))
        # Another class of handlers has a pool of its own, and goes on.
        done = self.limit(threads=1).call(lambda: "done")
        self.reactor.run()
        self.assertEqual("done", self.successResultOf(done))
        self.assertEqual([], self.heard)
