"""Blocking handlers in threads of their own."""

from __future__ import annotations

import contextvars
import functools
import gc
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from oni.dispatcher import ThreadLimit, in_thread
from oni.errors import HandlerTimeoutError, InvalidHandlerError, QueueFullError
from tests.dispatcher.cases import DispatcherCase

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class FakeReactor:
    """Takes calls from threads, and makes them when told, in the test's own thread."""

    def __init__(self) -> None:
        self.calls: queue.Queue[Any] = queue.Queue()
        self.triggers: list[Any] = []

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        """Keep a call."""
        self.calls.put((call, args))

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], Any]) -> None:
        """Keep a trigger."""
        self.triggers.append((phase, event, call))

    def run(self, calls: int = 1) -> None:
        """Make so many calls, waiting for each."""
        for _ in range(calls):
            call, args = self.calls.get(timeout=10)
            call(*args)


class ThreadCase(DispatcherCase):
    """A test with threads, which all end with it."""

    def setUp(self) -> None:
        """Make a pool of one thread with room for one more call."""
        super().setUp()
        self.reactor = FakeReactor()
        self.pool = self.limit(threads=1, queue=1)

    def limit(self, **arguments: Any) -> ThreadLimit:
        """Make a pool that ends with the test."""
        pool = ThreadLimit(reactor=self.reactor, **arguments)
        self.addCleanup(lambda: pool._pool and pool._pool.stop())
        return pool

    def in_thread(self, function: Callable[[Any], Any]) -> Any:
        """Make a handler that uses the pool of this test."""
        return in_thread(function, self.pool)

    def blocked(self) -> tuple[Callable[[Any], Any], threading.Event, threading.Event]:
        """Give a function that blocks, what says that it runs, and what lets it go on."""
        running, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def block(event: Any) -> Any:
            running.set()
            self.assertTrue(go_on.wait(10))
            return event

        return block, running, go_on


class HandlerTests(ThreadCase):
    """in_thread() as a handler."""

    def test_runs_in_another_thread(self) -> None:
        """The function runs in a thread; the next phase waits for what it returns."""
        threads: list[Any] = []

        def function(event: Any) -> str:
            threads.append(threading.current_thread())
            return "done"

        self.add(self.in_thread(function))
        self.add(lambda event: threads.append(threading.current_thread()), "after")
        fired = self.dispatcher.fire_event("event")
        self.assertNoResult(fired)
        self.reactor.run()
        self.assertEqual(self.successResultOf(fired).values, ("done", None))
        self.assertIsNot(threads[0], threading.current_thread())
        self.assertIs(threads[1], threading.current_thread())

    def test_failure(self) -> None:
        """What it raises is the handler's failure."""

        def function(event: Any) -> None:
            raise ZeroDivisionError("in a thread")

        self.add(self.in_thread(function))
        fired = self.dispatcher.fire_event("event")
        self.reactor.run()
        (failure,) = self.successResultOf(fired).failures
        self.assertEqual(str(failure.value), "in a thread")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_context_is_kept(self) -> None:
        """It runs in a copy of the event's context."""
        seen: list[str] = []

        def function(event: Any) -> None:
            seen.append(colour.get())
            colour.set("changed")

        self.add(self.in_thread(function))
        token = colour.set("red")
        self.addCleanup(colour.reset, token)
        fired = self.dispatcher.fire_event("event")
        self.reactor.run()
        self.successResultOf(fired)
        self.assertEqual((seen, colour.get()), (["red"], "red"))

    def test_weak_on_the_function(self) -> None:
        """The wrapper need not be kept: the registration lives as long as the function."""

        def function(event: Any) -> None:
            self.heard.append(event)

        self.dispatcher.add_event_handler(self.in_thread(function), "during")
        gc.collect()
        fired = self.dispatcher.fire_event("event")
        self.reactor.run()
        self.successResultOf(fired)
        self.assertEqual(self.heard, ["event"])
        dead = weakref.ref(function)
        del function
        gc.collect()
        self.assertIsNone(dead())
        self.assertEqual(len(self.fire()), 0)
        self.assert_nothing_left()

    def test_weak_on_a_method(self) -> None:
        """Of a bound method, it lives as long as the instance, N-shot or not."""

        class Listener:
            def method(listener, event: Any) -> None:  # noqa: N805
                self.heard.append(event)

        for times in (None, 2):
            listener = Listener()
            self.dispatcher.add_event_handler(
                self.in_thread(listener.method), "during", times=times
            )
            gc.collect()
            fired = self.dispatcher.fire_event("event")
            self.reactor.run()
            self.successResultOf(fired)
            del listener
            gc.collect()
            self.assertEqual(len(self.fire()), 0)
            self.assert_nothing_left()
        self.assertEqual(self.heard, ["event", "event"])

    def test_lambda_is_warned_of(self) -> None:
        """A lambda in it dies at once, and is warned of like any other."""
        self.dispatcher.add_event_handler(self.in_thread(lambda event: None), "during")
        self.fire()
        (text,) = self.warnings()
        self.assertIn("in_thread(", text)

    def test_strong(self) -> None:
        """Registered strongly it keeps the function."""
        self.add(self.in_thread(lambda event: "kept"), use_weakref=False)
        gc.collect()
        fired = self.dispatcher.fire_event("event")
        self.reactor.run()
        self.assertEqual(self.successResultOf(fired).values, ("kept",))

    def test_partial(self) -> None:
        """A partial in it is called, and lives as long as somebody keeps it."""
        function = functools.partial(int, base=16)
        self.dispatcher.add_event_handler(self.in_thread(function), "during")
        fired = self.dispatcher.fire_event("ff")
        self.reactor.run()
        self.assertEqual(self.successResultOf(fired).values, (255,))

    def test_times(self) -> None:
        """times=N is exact: the call is claimed before it is handed to a thread."""
        self.dispatcher = self.make(order_by=None)
        block, _, go_on = self.blocked()
        self.add(self.in_thread(block), times=1)
        fired = [self.dispatcher.fire_event(n) for n in range(3)]
        self.assertEqual([each.called for each in fired], [False, True, True])
        go_on.set()
        self.reactor.run()
        self.assertEqual(self.successResultOf(fired[0]).values, (0,))
        self.successResultOf(gatherResults(fired[1:]))

    def test_timeout(self) -> None:
        """At its time limit it is given up; its thread goes on, and a late failure is logged."""
        running, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def function(event: Any) -> None:
            running.set()
            go_on.wait(10)
            raise ZeroDivisionError("late")

        self.add(self.in_thread(function), timeout=3)
        fired = self.dispatcher.fire_event("event")
        self.assertTrue(running.wait(10))
        self.clock.advance(3)
        (failure,) = self.successResultOf(fired).failures
        self.assertTrue(failure.check(HandlerTimeoutError))
        self.assertEqual(self.pool.statistics()["lost"], 1)
        go_on.set()
        self.reactor.run()
        self.assertEqual(self.pool.statistics()["lost"], 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.flushLoggedErrors(HandlerTimeoutError)

    def test_deferred_in_a_thread(self) -> None:
        """A function that returns what nobody could wait for fails instead of hanging."""

        async def coroutine() -> None:
            pass

        for function in (lambda event: Deferred(), lambda event: coroutine()):
            self.dispatcher = self.make()
            self.add(self.in_thread(function))
            fired = self.dispatcher.fire_event("event")
            self.reactor.run()
            (failure,) = self.successResultOf(fired).failures
            self.assertIn("must return a value, not a", str(failure.value))
        self.assertEqual(len(self.flushLoggedErrors(InvalidHandlerError)), 2)


class RefusedTests(ThreadCase):
    """What cannot run in a thread."""

    def test_refused_at_once(self) -> None:
        """What cannot be called, and what runs in a thread already."""
        self.assertRaises(InvalidHandlerError, in_thread, 5)
        error = self.assertRaises(InvalidHandlerError, in_thread, in_thread(print))
        self.assertIn("already", str(error))

    def test_refused_at_registration(self) -> None:
        """Coroutine functions and generator functions."""

        async def coroutine(event: Any) -> None:
            pass

        def generator(event: Any) -> Any:
            yield event

        class Asynchronous:
            async def __call__(self, event: Any) -> None:
                pass

        for function in (
            coroutine,
            generator,
            Asynchronous(),
            functools.partial(coroutine),
        ):
            error = self.assertRaises(InvalidHandlerError, self.add, in_thread(function))
            self.assertIn("function", str(error))
        self.assert_nothing_left()


class LimitTests(ThreadCase):
    """The pool's bounds."""

    def test_queue_is_bounded(self) -> None:
        """One call too many fails with an error that says the limit; then there is room again."""
        block, running, go_on = self.blocked()
        calls = [self.pool.call(block, n) for n in range(2)]
        self.assertTrue(running.wait(10))
        self.assertEqual(
            self.pool.statistics(), {"calls": 2, "lost": 0, "threads_max": 1, "queue_max": 1}
        )
        error = self.assertRaises(QueueFullError, self.pool.call, block, 3)
        self.assertEqual(error.limit, 1)
        go_on.set()
        self.reactor.run(2)
        self.assertEqual(self.successResultOf(gatherResults(calls)), [0, 1])
        again = self.pool.call(block, 4)
        self.reactor.run()
        self.assertEqual(self.successResultOf(again), 4)

    def test_full_queue_is_the_handlers_failure(self) -> None:
        """For a handler, a full queue is its failure; the other handlers run."""
        self.pool = self.limit(threads=1, queue=0)
        block, _, go_on = self.blocked()
        for _ in range(2):
            self.add(self.in_thread(block))
        self.hear("other")
        fired = self.dispatcher.fire_event("event")
        self.assertEqual(self.heard, ["other"])
        go_on.set()
        self.reactor.run()
        (failure,) = self.successResultOf(fired).failures
        self.assertTrue(failure.check(QueueFullError))
        self.flushLoggedErrors(QueueFullError)

    def test_threads_run_at_once(self) -> None:
        """As many calls run at once as there are threads, not more."""
        self.pool = self.limit(threads=2, queue=5)
        at_once: list[int] = []
        lock, both = threading.Lock(), threading.Barrier(2)
        busy = 0

        def work() -> None:
            nonlocal busy
            with lock:
                busy += 1
                at_once.append(busy)
            both.wait(10)
            with lock:
                busy -= 1
            both.wait(10)

        calls = [self.pool.call(work) for _ in range(4)]
        self.reactor.run(4)
        self.successResultOf(gatherResults(calls))
        self.assertEqual(max(at_once), 2)

    def test_cancelled_before_it_began(self) -> None:
        """A call that is cancelled while it waits for a thread is not made."""
        block, running, go_on = self.blocked()
        first = self.pool.call(block, 1)
        self.assertTrue(running.wait(10))
        second = self.pool.call(self.heard.append, 2)
        second.cancel()
        self.failing(second, CancelledError)
        self.assertEqual(self.pool.statistics()["calls"], 2)
        go_on.set()
        self.reactor.run(2)
        self.assertEqual(self.successResultOf(first), 1)
        self.assertEqual(self.heard, [])
        self.assertEqual(self.pool.statistics()["calls"], 0)

    def test_cancelled_while_it_runs(self) -> None:
        """One that runs is only waited for no longer; its thread is lost until it ends."""
        block, running, go_on = self.blocked()
        call = self.pool.call(block, 1)
        self.assertTrue(running.wait(10))
        call.cancel()
        self.failing(call, CancelledError)
        self.assertEqual(self.pool.statistics()["lost"], 1)
        go_on.set()
        self.reactor.run()
        self.assertEqual(self.pool.statistics()["lost"], 0)

    def test_ends_with_the_reactor(self) -> None:
        """No thread starts before it is needed; all end when the reactor stops."""
        self.assertEqual(self.reactor.triggers, [])
        call = self.pool.call(threading.current_thread)
        self.reactor.run()
        thread = self.successResultOf(call)
        self.assertTrue(thread.name.startswith("PoolThread-oni-handlers"), thread.name)
        ((phase, event, stop),) = self.reactor.triggers
        self.assertEqual((phase, event), ("during", "shutdown"))
        stop()
        self.assertFalse(thread.is_alive())
        self.pool._pool = None

    def test_bad_limits(self) -> None:
        """At least one thread, and no negative queue."""
        self.assertRaises(ValueError, ThreadLimit, threads=0)
        self.assertRaises(ValueError, ThreadLimit, queue=-1)
