"""What other threads get from the reactor's thread: answers, failures, and clear refusals."""

from __future__ import annotations

import contextvars
import os
import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import globalLogPublisher
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase

from oni.blocking._reactor_thread import ReactorThread
from oni.errors import CallTimeoutError, ForkedProcessError, NotRunningError, ReactorThreadError
from tests.blocking.pump import Pump, PumpTestCase

flavour: contextvars.ContextVar[str] = contextvars.ContextVar("flavour", default="none")


class OwnError(Exception):
    """An error that only this module knows."""


class AnswerTests(PumpTestCase):
    """A call is answered with what the function gives."""

    def test_value(self) -> None:
        """A plain value comes back."""
        self.assertEqual(self.thread.call("f", 5.0, lambda: 7), 7)

    def test_runs_in_the_reactors_thread(self) -> None:
        """The function runs in the reactor's thread, not in the caller's."""
        ident = self.thread.call("f", 5.0, threading.get_ident)
        self.assertEqual(ident, threadable.ioThread)
        self.assertNotEqual(ident, threading.get_ident())

    def test_deferred(self) -> None:
        """A Deferred's result comes back when it fires."""
        deferred: Deferred[str] = Deferred()
        self.thread.call("prepare", 5.0, lambda: None)
        timer = threading.Timer(0.02, self.pump.callFromThread, (deferred.callback, "late"))
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(self.thread.call("f", 5.0, lambda: deferred), "late")

    def test_exception_keeps_its_type(self) -> None:
        """What the function raises reaches the caller as the object that it is."""
        error = OwnError("no")

        def raises() -> None:
            raise error

        with self.assertRaises(OwnError) as caught:
            self.thread.call("f", 5.0, raises)
        self.assertIs(caught.exception, error)

    def test_failure_keeps_its_type(self) -> None:
        """What the Deferred fails with reaches the caller as the object that it is."""
        error = OwnError("no")
        with self.assertRaises(OwnError) as caught:
            self.thread.call("f", 5.0, lambda: fail(error))
        self.assertIs(caught.exception, error)

    def test_even_an_exit_is_answered(self) -> None:
        """SystemExit in the reactor's thread is the caller's, and leaves the thread alone."""

        def leave() -> None:
            raise SystemExit(3)

        self.assertRaises(SystemExit, self.thread.call, "f", 5.0, leave)
        self.assertEqual(self.thread.call("f", 5.0, lambda: 1), 1)

    def test_timeout_error_of_the_call_is_no_timeout_of_ours(self) -> None:
        """A TimeoutError that the function raises is handed on, not taken for a late answer."""
        with self.assertRaises(TimeoutError) as caught:
            self.thread.call("f", 5.0, lambda: fail(TimeoutError("theirs")))
        self.assertEqual(str(caught.exception), "theirs")
        self.assertNotIsInstance(caught.exception, CallTimeoutError)

    def test_one_crossing(self) -> None:
        """Each call crosses into the reactor's thread once, whether it waits or not."""
        for number, function in enumerate([lambda: 1, lambda: succeed(1)], start=1):
            self.thread.call("f", 5.0, function)
            self.assertEqual(self.pump.crossings, number)
        self.assertRaises(OwnError, self.thread.call, "f", 5.0, lambda: fail(OwnError()))
        self.assertEqual(self.pump.crossings, 3)

    def test_context_travels(self) -> None:
        """The function sees the caller's context variables, and its changes stay there."""
        flavour.set("caller")

        def look() -> str:
            seen = flavour.get()
            flavour.set("reactor")
            return seen

        self.assertEqual(self.thread.call("f", 5.0, look), "caller")
        self.assertEqual(flavour.get(), "caller")
        self.assertEqual(self.pump.run(flavour.get), "none")

    def test_many_threads(self) -> None:
        """Calls from several threads at once each get their own answer."""
        got: dict[int, int] = {}

        def ask(number: int) -> None:
            got[number] = self.thread.call("f", 5.0, lambda: number * number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        self.assertEqual(got, {number: number * number for number in range(8)})


class TimeoutTests(PumpTestCase):
    """A call whose answer does not come is cancelled."""

    def setUp(self) -> None:
        """Keep what is logged."""
        super().setUp()
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def test_raises_and_cancels(self) -> None:
        """The caller gets a TimeoutError that names the call; the Deferred is cancelled."""
        cancelled: list[int] = []
        deferred: Deferred[None] = Deferred(
            lambda _: cancelled.append(threading.get_ident())  # type: ignore[arg-type]
        )
        with self.assertRaises(CallTimeoutError) as caught:
            self.thread.call("wait_long", 0.02, lambda: deferred)
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertEqual((caught.exception.call, caught.exception.seconds), ("wait_long", 0.02))
        self.assertIn("wait_long() had no answer within 0.02 s", str(caught.exception))
        self.pump.run(lambda: None)
        self.assertEqual(cancelled, [threadable.ioThread])

    def test_cancellation_is_not_logged(self) -> None:
        """The CancelledError of a call that was given up is nobody's business."""
        self.assertRaises(CallTimeoutError, self.thread.call, "f", 0.02, Deferred)
        self.pump.run(lambda: None)
        self.assertEqual(self.logged, [])

    def test_other_failure_after_the_timeout_is_logged(self) -> None:
        """A call that fails in its own way after the timeout is logged, with its name."""
        deferred: Deferred[None] = Deferred(lambda d: d.errback(OwnError("late")))
        self.assertRaises(CallTimeoutError, self.thread.call, "f", 0.02, lambda: deferred)
        self.pump.run(lambda: None)
        (entry,) = self.logged
        self.assertEqual(entry["call"], "f")
        self.assertIs(entry["log_failure"].type, OwnError)
        self.flushLoggedErrors(OwnError)

    def test_function_that_did_not_begin_never_does(self) -> None:
        """A call that times out while the reactor is busy has no effect later."""
        called: list[int] = []
        release = self.pump.hold()
        self.assertRaises(CallTimeoutError, self.thread.call, "f", 0.02, lambda: called.append(1))
        release()
        self.pump.run(lambda: None)
        self.assertEqual(called, [])

    def test_cancelled_from_within_is_an_answer(self) -> None:
        """A Deferred that somebody else cancels gives its caller CancelledError."""
        deferred: Deferred[None] = Deferred()
        deferred.cancel()
        self.assertRaises(CancelledError, self.thread.call, "f", 5.0, lambda: deferred)

    def test_without_limit(self) -> None:
        """None waits as long as it takes."""
        deferred: Deferred[int] = Deferred()
        timer = threading.Timer(0.05, self.pump.callFromThread, (deferred.callback, 1))
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(self.thread.call("f", None, lambda: deferred), 1)

    def test_interrupted_wait_is_cancelled(self) -> None:
        """An exception out of a signal handler leaves no call behind."""
        cancelled: list[int] = []
        begun = threading.Event()

        def begin() -> Deferred[None]:
            begun.set()
            return Deferred(lambda _: cancelled.append(1))  # type: ignore[arg-type]

        def interrupt(self: Any, seconds: float | None) -> bool:
            _event_wait(begun, 5)
            raise KeyboardInterrupt

        self.patch(threading.Event, "wait", interrupt)
        with self.assertRaises(KeyboardInterrupt):
            self.thread.call("f", 5.0, begin)
        self.patch(threading.Event, "wait", _event_wait)
        self.pump.run(lambda: None)
        self.assertEqual((cancelled, self.thread._calls), ([1], set()))


_event_wait = threading.Event.wait


class RefusalTests(PumpTestCase):
    """A call that could never be answered is refused at once."""

    def test_in_the_reactors_thread(self) -> None:
        """It is an error that says what to use instead, not a deadlock."""

        def call() -> str:
            with self.assertRaises(ReactorThreadError) as caught:
                self.thread.call("fire_event", 5.0, lambda: None)
            return str(caught.exception)

        self.assertIn("fire_event() blocks", self.pump.run(call))

    def test_before_setup(self) -> None:
        """Without a running reactor the error names setup, and the reactor is left alone."""
        pump = Pump()
        with self.assertRaises(NotRunningError) as caught:
            ReactorThread(pump.start, lambda: pump).call("fire_event", 5.0, lambda: None)
        self.assertIn("oni.blocking.setup()", str(caught.exception))
        self.assertEqual(pump.crossings, 0)

    def test_reactor_that_somebody_else_runs(self) -> None:
        """A reactor that runs already is used, with and without setup, and not started again."""
        calls: list[str] = []
        for use_setup in (True, False):
            thread = ReactorThread(lambda: calls.append("started"), lambda: self.pump)
            if use_setup:
                thread.setup()
            self.assertEqual(thread.call("f", 5.0, lambda: 3), 3)
        self.assertEqual(calls, [])

    def test_setup_twice(self) -> None:
        """From the second time on nothing happens."""
        calls: list[str] = []
        pump = Pump()
        thread = ReactorThread(lambda: calls.append("started"), lambda: pump)
        thread.setup()
        thread.setup()
        self.assertEqual(calls, ["started"])

    def test_reactor_that_never_comes_up(self) -> None:
        """After setup a call waits for the reactor; one that does not come is no slow answer."""
        pump = Pump()
        thread = ReactorThread(lambda: None, lambda: pump)
        thread.setup()
        self.assertRaises(NotRunningError, thread.call, "f", 0.02, lambda: None)

    def test_reactor_stops_meanwhile(self) -> None:
        """A reactor that stops answers those who wait."""
        threading.Timer(0.05, self.pump.stop).start()
        with self.assertRaises(NotRunningError) as caught:
            self.thread.call("next_event", 5.0, Deferred)
        self.assertIn("next_event() was not answered", str(caught.exception))

    def test_reactor_has_stopped(self) -> None:
        """After the reactor's end a call is refused at once."""
        self.thread.call("f", 5.0, lambda: None)
        self.pump.stop()
        with self.assertRaises(NotRunningError) as caught:
            self.thread.call("f", None, lambda: None)
        self.assertIn("has stopped", str(caught.exception))


class ForkTests(SynchronousTestCase):
    """In a forked process nothing is answered, and everything says so."""

    def setUp(self) -> None:
        """Have a reactor's thread that is said to run in another process."""
        self.patch(threadable, "ioThread", None)
        self.pump = Pump()
        self.thread = ReactorThread(self.pump.start, lambda: self.pump)
        self.addCleanup(self.pump.stop)

    def assertForked(self, *parts: str) -> None:
        """Calls and setup both fail, and say the way out."""
        for attempt in (self.thread.setup, lambda: self.thread.call("f", 5.0, lambda: None)):
            with self.assertRaises(ForkedProcessError) as caught:
                attempt()
            for part in ("after the fork", "gunicorn", "post_fork", *parts):
                self.assertIn(part, str(caught.exception))

    def test_after_setup(self) -> None:
        """A process other than the one that called setup is told which one that was."""
        self.thread.setup()
        pid = os.getpid()
        self.patch(os, "getpid", lambda: pid + 1)
        self.assertForked(f"process {pid}")

    def test_reactor_made_before_the_fork(self) -> None:
        """A reactor that was only made before the fork cannot be used after it either."""
        self.thread.forked(reactor_made=True)
        self.assertForked(f"process {os.getppid()}")

    def test_nothing_made_before_the_fork(self) -> None:
        """Where the parent had made no reactor, the fork may."""
        self.thread.forked(reactor_made=False)
        self.thread.setup()
        self.assertEqual(self.thread.call("f", 5.0, lambda: 5), 5)

    def test_lock_that_was_held_at_the_fork(self) -> None:
        """A thread that held the lock stayed behind, and holds up nobody here."""
        self.thread._lock.acquire()
        self.thread.forked(reactor_made=False)
        answers: list[int] = []

        def call() -> None:
            self.thread.setup()
            answers.append(self.thread.call("f", 5.0, lambda: 5))

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        caller.join(5)
        self.assertEqual(answers, [5])

    def test_thread_that_stayed_behind(self) -> None:
        """A reactor that says it runs, in a thread that does not exist here, is a fork's."""
        self.pump.running = True
        self.patch(threadable, "ioThread", -1)
        self.assertForked("process unknown")
