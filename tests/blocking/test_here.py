"""Events whose handlers are called in the thread that fires them."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from oni.blocking import _here, fire_here
from oni.dispatcher import EventDispatcher, ThreadLimit, in_thread, where
from oni.dispatcher._frames import current_frame
from oni.errors import (
    CallTimeoutError,
    EventAbortedError,
    EventNestingError,
    HandlerTimeoutError,
    InvalidTimeoutError,
    NotRunningError,
    ReactorThreadError,
    UnknownKeywordError,
)
from oni.values import EventResult, Phase
from tests.blocking.pump import PumpTestCase


class HereTestCase(PumpTestCase):
    """Has a dispatcher whose first phase may veto."""

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        self.clock = Clock()
        self.pump.callLater = self.clock.callLater  # type: ignore[attr-defined]
        self.dispatcher = EventDispatcher(
            ("action", "user"),
            phases=[
                Phase("before", concurrent=False, on_error="abort"),
                "during",
                Phase("after", always=True),
            ],
        )
        self.dispatcher.start()
        self.called: list[Any] = []

    def add(self, handler: Callable[[Any], Any], phase: str = "during", **options: Any) -> int:
        """Register a handler, held strongly."""
        added = self.dispatcher.add_event_handler(handler, phase, use_weakref=False, **options)
        return self.successResultOf(added)

    def fire(self, event: Any = "event", timeout: float | None = None, **details: Any) -> Any:
        """Fire an event here."""
        return fire_here(self.dispatcher, event, timeout=timeout, _thread=self.thread, **details)

    def note(self, name: str, value: Any = None) -> Callable[[Any], Any]:
        """Make a handler that notes its name and its thread."""

        def handler(event: Any) -> Any:
            self.called.append((name, threading.get_ident()))
            return value() if callable(value) else value

        return handler


class PlainTests(HereTestCase):
    """Handlers that are done when they have returned."""

    def test_same_thread(self) -> None:
        """They are called here, phase by phase; the reactor is not asked."""
        for phase in ("after", "during", "before"):
            self.add(self.note(phase, phase), phase)
        result = self.fire()
        here = threading.get_ident()
        expected = [("before", here), ("during", here), ("after", here)]
        self.assertEqual(expected, self.called)
        self.assertEqual(("before", "during", "after"), result.values)
        self.assertEqual(0, self.pump.crossings)

    def test_same_result(self) -> None:
        """It tells the same as a fire."""
        self.add(self.note("a", 1), "before")
        self.add(self.note("b"))
        self.add(self.note("c", 3))
        here = self.fire()
        fired = self.successResultOf(self.dispatcher.fire_event("event"))
        self.assertEqual(list(fired), list(here))
        self.assertIsInstance(here, EventResult)
        self.assertEqual((fired.event, fired.details), (here.event, here.details))

    def test_matching(self) -> None:
        """Handlers are picked by their match specs."""
        self.add(self.note("bob"), user="bob")
        self.add(self.note("long"), user=where(lambda name: len(name) > 3))
        self.fire(user="bob", action="create")
        self.fire(user="alice")
        self.assertEqual(["bob", "long"], [name for name, _ in self.called])
        self.assertRaises(UnknownKeywordError, self.fire, role="admin")

    def test_times(self) -> None:
        """N-shot handlers are called N times, of whichever threads."""
        self.add(self.note("five"), times=5)
        threads = [threading.Thread(target=self.fire) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(5, len(self.called))
        self.assertEqual([], list(self.dispatcher.handlers()))

    def test_several_threads(self) -> None:
        """Events of several threads run at the same time: none waits for another."""
        together = threading.Barrier(3)
        self.add(lambda event: together.wait(10))
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(self.fire())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([()] * 3, [result.failures for result in results])

    def test_changed_meanwhile(self) -> None:
        """Handlers are added and removed while no other thread looks for those to call."""
        happened: list[str] = []

        class Held:
            def __enter__(self) -> None:
                happened.append("held")

            def __exit__(self, *how: object) -> None:
                happened.append("let go")

        index = self.dispatcher._engine.index
        self.patch(self.dispatcher._engine, "here", Held())
        for change in ("add", "remove"):
            doing = getattr(index, change)
            self.patch(
                index,
                change,
                lambda registration, change=change, doing=doing: (
                    happened.append(change),
                    doing(registration),
                ),
            )
        added = self.add(self.note("a"))
        self.successResultOf(self.dispatcher.remove_event_handler(added))
        self.assertEqual(["held", "add", "let go", "held", "remove", "let go"], happened)

    def test_counts(self) -> None:
        """Calls and events are counted."""
        self.add(self.note("a"))
        self.fire()
        self.successResultOf(self.dispatcher.fire_event("event"))
        self.assertEqual(2, self.dispatcher.handlers()[0].calls)
        self.assertEqual(2, self.dispatcher.statistics()["events_fired"])

    def test_dead_and_removed(self) -> None:
        """Who has died, or is removed by a handler before it, is not called."""

        def dies(event: Any) -> None:
            self.called.append("dead")

        self.dispatcher.add_event_handler(dies, "during")
        numbers: list[int] = []
        self.add(lambda event: self.dispatcher.remove_event_handler(numbers[0]) and None)
        numbers.append(self.add(self.note("removed")))
        del dies
        self.assertEqual(1, len(self.fire()))
        self.assertEqual([], self.called)
        self.assertEqual(1, self.dispatcher.statistics()["handlers"])
        self.flushWarnings()

    def test_removed_coroutine(self) -> None:
        """For one that is removed before it is called no reactor is needed."""
        numbers: list[int] = []

        async def removed(event: Any) -> None:
            self.called.append("removed")

        self.add(lambda event: self.dispatcher.remove_event_handler(numbers[0]) and None)
        numbers.append(self.add(removed))
        result = self.fire()
        self.assertEqual((1, 0), (len(result), self.pump.crossings))
        self.assertEqual([], self.called)

    def test_nested(self) -> None:
        """A handler may fire, here too, and see what was done so far."""

        def again(event: int) -> Any:
            if event:
                return self.fire(event - 1).values
            return [o.value for o in self.dispatcher.result_so_far()]

        self.add(again)
        self.assertEqual(((([None],),),), self.fire(2).values)

    def test_too_deep(self) -> None:
        """But not without end."""

        def again(event: int) -> Any:
            return self.fire(event + 1)

        self.add(again, "before")
        error = self.assertRaises(EventAbortedError, self.fire, 0)
        while isinstance(error, EventAbortedError):
            [failure] = error.failures
            error = failure.value
        self.assertIsInstance(error, EventNestingError)

    def test_not_started(self) -> None:
        """Nobody is called."""
        stopped = EventDispatcher()
        stopped.add_event_handler(self.note("a"), "during", use_weakref=False)
        result = fire_here(stopped, "event", _thread=self.thread)
        self.assertEqual(("new", []), (result.state, self.called))

    def test_blocking_handlers(self) -> None:
        """A handler for a thread of a pool is called here: this thread may block."""
        pool = ThreadLimit(1)
        self.add(in_thread(self.note("blocks", 1), pool))
        self.assertEqual((1,), self.fire().values)
        self.assertEqual([("blocks", threading.get_ident())], self.called)


class FailureTests(HereTestCase):
    """Handlers that fail."""

    def test_veto(self) -> None:
        """A failed ``before`` is raised here, with its cause; only what always runs still does."""

        def refuse(event: Any) -> None:
            raise PermissionError("no")

        self.add(refuse, "before")
        for phase in ("before", "during", "after"):
            self.add(self.note(phase), phase)
        error = self.assertRaises(EventAbortedError, self.fire)
        self.assertIsInstance(error.__cause__, PermissionError)
        self.assertEqual(["after"], [name for name, _ in self.called])
        self.assertEqual(1, len(error.failures))

    def test_cause(self) -> None:
        """The cause is who has vetoed, and not whoever has failed before."""
        for fire in (fire_here, EventDispatcher.fire_event):
            dispatcher = EventDispatcher(phases=["log", Phase("check", on_error="abort")])
            dispatcher.start()

            def fails(event: Any) -> None:
                raise ValueError("no disk")

            def refuse(event: Any) -> None:
                raise PermissionError("no")

            dispatcher.add_event_handler(fails, "log")
            dispatcher.add_event_handler(refuse, "check")
            try:
                error = self.failureResultOf(fire(dispatcher, "event")).value
            except EventAbortedError as raised:
                error = raised
            self.assertIsInstance(error.__cause__, PermissionError)
            self.assertEqual(2, len(error.failures))
            self.flushLoggedErrors(ValueError)

    def test_who_ends_it(self) -> None:
        """The first phase that aborts, whatever fails of what always runs."""
        dispatcher = EventDispatcher(
            phases=[
                Phase("before", on_error="abort"),
                Phase("after", on_error="abort", always=True),
            ]
        )
        dispatcher.start()

        def fails(event: Any) -> None:
            raise ValueError("no")

        for phase in ("before", "after"):
            dispatcher.add_event_handler(fails, phase)
        error = self.assertRaises(EventAbortedError, fire_here, dispatcher, "event")
        self.assertEqual(("before", 2), (error.phase, len(error.failures)))

    def test_what_is_over(self) -> None:
        """What a handler leaves behind knows that its event has ended, and so does the caller."""
        contexts: list[contextvars.Context] = []
        self.add(lambda event: contexts.append(contextvars.copy_context()))
        self.fire()
        self.assertRaises(LookupError, contexts[0].run, self.dispatcher.result_so_far)
        self.assertIsNone(current_frame.get())

    def test_later_failures(self) -> None:
        """Others are logged, stand in the result, and stop nobody."""

        def fails(event: Any) -> None:
            raise ValueError("no")

        self.add(fails)
        self.add(self.note("next"))
        result = self.fire()
        self.assertEqual(1, len(result.failures))
        self.assertEqual(["next"], [name for name, _ in self.called])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual(1, self.dispatcher.statistics()["handler_failures"])


class WaitingTests(HereTestCase):
    """Handlers that return a Deferred, or a coroutine."""

    def test_deferreds(self) -> None:
        """They end in the reactor's thread; what follows is called here again."""
        threads: list[int] = []

        async def coroutine(event: Any) -> int:
            threads.append(threading.get_ident())
            return await succeed(2)

        self.add(lambda event: succeed(1), "before")
        self.add(coroutine)
        self.add(self.note("later"), "after")
        self.assertEqual((1, 2, None), self.fire().values)
        self.assertEqual([self.pump.run(threading.get_ident)], threads)
        self.assertEqual([("later", threading.get_ident())], self.called)

    def test_together(self) -> None:
        """Those of a concurrent phase are waited for together, with one crossing."""
        waiting: list[Deferred[int]] = [Deferred(), Deferred()]
        for deferred in waiting:
            self.add(lambda event, deferred=deferred: deferred)

        async def release(event: Any) -> None:
            for number, deferred in enumerate(waiting):
                deferred.callback(number)

        self.add(release)
        self.assertEqual((0, 1, None), self.fire().values)
        self.assertEqual(1, self.pump.crossings)

    def test_one_after_the_other(self) -> None:
        """Those of a sequential phase one by one, and none after a failure."""

        async def first(event: Any) -> None:
            self.called.append("first")

        async def fails(event: Any) -> None:
            raise ValueError("no")

        for handler in (first, fails, first):
            self.add(handler, "before")
        self.assertRaises(EventAbortedError, self.fire)
        self.assertEqual(["first"], self.called)
        self.assertEqual(2, self.pump.crossings)

    def test_time_limits(self) -> None:
        """A handler's own, and the caller's; what hangs is cancelled."""
        cancelled: list[Any] = []

        def hangs(event: Any) -> Deferred[None]:
            return Deferred(cancelled.append)

        async def advance(event: Any) -> None:
            self.clock.advance(10)

        self.add(hangs, timeout=3)
        self.add(hangs)
        self.add(advance)
        result = self.fire(timeout=5)
        self.assertEqual(2, len(cancelled))
        seconds = [failure.value.seconds for failure in result.failures]
        self.assertEqual([3, 5], seconds)
        self.assertEqual(2, len(self.flushLoggedErrors(HandlerTimeoutError)))

    def test_time_limit_of_a_phase(self) -> None:
        """The phase's holds for each handler that has none of its own."""
        self.dispatcher.add_phase(Phase("limited", timeout=2), after="during")

        async def advance(event: Any) -> None:
            self.clock.advance(10)

        self.add(lambda event: Deferred(), "limited")
        self.add(lambda event: Deferred(), "limited", timeout=1)
        self.add(advance, "limited")
        seconds = [failure.value.seconds for failure in self.fire(timeout=5).failures]
        self.assertEqual([2, 1], seconds)
        self.flushLoggedErrors(HandlerTimeoutError)

    def test_what_a_late_handler_does(self) -> None:
        """It was too late, whatever it does when it is cancelled; the log has its failure."""

        def fails(deferred: Deferred[None]) -> None:
            deferred.errback(ZeroDivisionError())

        async def returns(event: Any) -> str:
            try:
                await Deferred()
            except CancelledError:
                return "nevertheless"
            return "in time"

        async def advance(event: Any) -> None:
            self.clock.advance(10)

        self.add(lambda event: Deferred(fails))
        self.add(returns)
        self.add(advance)
        failures = self.fire(timeout=5).failures
        self.assertEqual([HandlerTimeoutError] * 2, [failure.type for failure in failures])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.flushLoggedErrors(HandlerTimeoutError)

    def test_a_reactor_that_hangs(self) -> None:
        """The wait has an end also where the reactor does not come to it."""
        self.addCleanup(self.pump.hold())
        self.add(lambda event: succeed(1), timeout=0.01)
        self.patch(_here, "_MARGIN", 0.01)
        self.add(self.note("next"), "after")
        result = self.fire(timeout=100)
        [failure] = result.failures
        failure.trap(CallTimeoutError)
        self.assertEqual(["next"], [name for name, _ in self.called])
        self.assertEqual(1, len(self.flushLoggedErrors(CallTimeoutError)))

    def test_in_the_reactor_s_thread(self) -> None:
        """There nothing can be waited for, and that is said."""
        self.add(lambda event: succeed(1), "before")
        self.add(self.note("always"), "after")

        def fire() -> Any:
            try:
                return self.fire()
            except BaseException as error:  # noqa: BLE001 - for the test to look at
                return error

        error = self.pump.run(fire)
        self.assertIsInstance(error, EventAbortedError)
        self.assertIsInstance(error.__cause__, ReactorThreadError)
        self.assertEqual(["always"], [name for name, _ in self.called])

    def test_without_a_reactor(self) -> None:
        """Nor where none runs: those have failed who had something left to wait for, only they."""

        async def coroutine(event: Any) -> None:
            raise AssertionError("there is nobody who would run it")

        self.add(lambda event: succeed(1))
        self.fire()
        self.pump.stop()
        waits = coroutine("event")
        self.add(lambda event: waits)
        for phase in ("during", "after"):
            self.add(self.note(phase, phase), phase)
        result = self.fire()
        self.assertEqual(("during", "after"), result.values)
        self.assertEqual(2, len(result.failures))
        self.assertEqual(2, len(self.flushLoggedErrors(NotRunningError)))
        self.assertEqual(inspect.CORO_CLOSED, inspect.getcoroutinestate(waits))

    def test_begun_and_given_up(self) -> None:
        """A coroutine that was begun is another thread's, and left alone."""
        begun: list[Any] = []

        async def coroutine(event: Any) -> None:
            try:
                await Deferred()
            finally:
                self.called.append("closed")

        def begin(awaited: Any) -> Any:
            begun.append(awaited[0].what)
            begun[0].send(None)
            raise CallTimeoutError("fire_here", 1)

        self.add(coroutine)
        [failure] = self.dispatcher.fire_event_here("event", begin).failures
        self.assertEqual([], self.called)
        failure.trap(CallTimeoutError)
        self.flushLoggedErrors(CallTimeoutError)

    def test_interrupted(self) -> None:
        """Whoever interrupts the thread that waits is heard."""

        def interrupt(*anything: object) -> None:
            raise KeyboardInterrupt

        self.add(lambda event: succeed(1))
        self.patch(self.thread, "call", interrupt)
        self.assertRaises(KeyboardInterrupt, self.fire)
        self.assertRaises(LookupError, self.dispatcher.result_so_far)

    def test_wrong_timeout(self) -> None:
        """A limit that is none is refused."""
        for wrong in (0, -1.0, float("nan")):
            self.assertRaises(InvalidTimeoutError, self.fire, timeout=wrong)
