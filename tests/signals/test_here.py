"""Signals that are sent in the caller's thread, whichever it is."""

from __future__ import annotations

import contextvars
import gc
import inspect
import threading
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from oni.errors import EventAbortedError, NotRunningError
from oni.signals import Signal, models
from oni.values import Phase

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Sender:
    """Something that sends."""


class HereTests(SynchronousTestCase):
    """``send_here``."""

    def setUp(self) -> None:
        """Make a signal, and somebody who sends it."""
        self.signal = Signal("tested")
        self.sender = Sender()
        self.heard: list[Any] = []
        self.gate: Deferred[Any] = Deferred()

    def hear(self, sender: Any, **what: Any) -> str:
        """Be a receiver."""
        self.heard.append((sender, what, threading.get_ident()))
        return "heard"

    def test_called(self) -> None:
        """Receivers are called in this thread before it returns, with what was sent."""
        self.signal.connect(self.hear, sender=self.sender)
        result = self.signal.send_here(self.sender, number=7)
        self.assertEqual(("heard",), result.values)
        self.assertEqual([(self.sender, {"number": 7}, threading.get_ident())], self.heard)
        self.assertEqual((), self.signal.send_here(Sender()).values)

    def test_failures(self) -> None:
        """One that fails is logged and in the result, and stops no other."""

        def fails(sender: Any) -> None:
            raise ValueError("not this")

        self.signal.connect(fails)
        self.signal.connect(self.hear)
        result = self.signal.send_here(self.sender)
        self.assertEqual((1, ("heard",)), (len(result.failures), result.values))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_phase_that_aborts(self) -> None:
        """In such a phase it is raised."""
        signal = Signal(phases=[Phase("before", on_error="abort")])

        def fails(sender: Any) -> None:
            raise ValueError("not this")

        signal.connect(fails)
        self.assertRaises(EventAbortedError, signal.send_here, self.sender)

    def give(self, value: Any) -> None:
        """Connect a receiver that returns something."""

        def receiver(sender: Any) -> Any:
            return value

        self.signal.connect(receiver, weak=False)

    async def go_on(self, sender: Any) -> str:
        """Be a receiver that has to wait once, and then may fail."""
        failure = await self.gate
        self.heard.append((sender, colour.get(), threading.get_ident()))
        if failure is not None:
            raise failure
        return "went on"

    def test_no_reactor(self) -> None:
        """A Deferred that has fired counts; what had to go on has failed."""
        for thread in (None, 1):  # the second one is that of a process that has forked
            self.patch(threadable, "ioThread", thread)
            self.signal = Signal("tested")
            coroutine = self.go_on(self.sender)
            for given in (succeed("done"), fail(ValueError("failed")), Deferred(), coroutine):
                self.give(given)
            result = self.signal.send_here(self.sender)
            self.assertEqual(("done",), result.values)
            kinds = [failure.type for failure in result.failures]
            self.assertEqual([ValueError, NotRunningError, NotRunningError], kinds)
            self.assertEqual(inspect.CORO_CLOSED, inspect.getcoroutinestate(coroutine))
            self.flushLoggedErrors(ValueError, NotRunningError)

    def test_going_on(self) -> None:
        """In the reactor's thread a receiver goes on, and nobody waits for it."""
        self.patch(threadable, "ioThread", threading.get_ident())

        async def at_once(sender: Any) -> str:
            return "ended"

        async def fails(sender: Any) -> None:
            raise ValueError("at once")

        for receiver in (self.go_on, at_once, fails):
            self.signal.connect(receiver)
        result = self.signal.send_here(self.sender)
        self.assertEqual((None, "ended"), result.values)
        self.assertEqual([ValueError], [failure.type for failure in result.failures])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.gate.callback(ZeroDivisionError())
        self.assertEqual(1, len(self.heard))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_going_on_elsewhere(self) -> None:
        """From another thread it is carried there, with the context that it was called in."""
        calls: list[Any] = []

        @implementer(IReactorFromThreads)
        class Reactor(Clock):
            def callFromThread(self, call: Any, *said: Any) -> None:
                calls.append((call, said))

        self.signal = Signal("tested", reactor=Reactor())
        self.patch(threadable, "ioThread", threading.get_ident())
        self.signal.connect(self.go_on)
        results: list[Any] = []

        def send() -> None:
            colour.set("blue")
            results.append(self.signal.send_here(self.sender))

        thread = threading.Thread(target=send)
        thread.start()
        thread.join(30)
        self.assertEqual((None,), results[0].values)
        [(call, said)] = calls
        call(*said)
        self.gate.callback(ZeroDivisionError())
        self.assertEqual([(self.sender, "blue", threading.get_ident())], self.heard)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_threads_at_once(self) -> None:
        """Several threads send at once, and none waits for another's receivers."""
        together = threading.Barrier(3, timeout=30)
        self.signal.connect(lambda sender: together.wait(), weak=False)
        threads = [
            threading.Thread(target=self.signal.send_here, args=(self.sender,)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        together.wait()
        for thread in threads:
            thread.join(30)
        self.assertFalse(together.broken)

    def test_senders_that_have_died(self) -> None:
        """Their receivers are not called for another that has their place in memory."""
        sender: Sender | None = Sender()
        self.signal.connect(self.hear, sender=sender)
        self.assertTrue(self.signal.has_receivers)
        del sender
        gc.collect()
        self.signal.send_here(self.sender)
        self.assertEqual((False, []), (self.signal.has_receivers, self.heard))

    def test_has_receivers(self) -> None:
        """It is known whether somebody is there."""
        self.assertFalse(self.signal.has_receivers)
        self.signal.connect(self.hear)
        self.assertTrue(self.signal.has_receivers)
        self.signal.disconnect(self.hear)
        self.assertFalse(self.signal.has_receivers)

    def test_has_none_any_more(self) -> None:
        """Receivers that were used up, or have died, are known to be gone when it is sent."""
        self.signal.connect(self.hear, times=1)
        self.signal.send_here(self.sender)
        self.assertFalse(self.signal.has_receivers)

        def dies(sender: Any) -> None:
            """Is held by nobody."""

        self.signal.connect(dies)
        del dies
        gc.collect()
        self.signal.send_here(self.sender)
        self.assertFalse(self.signal.has_receivers)

    def test_those_of_models(self) -> None:
        """They are two, and have nobody."""
        for signal in (models.post_save, models.post_delete):
            self.assertIsInstance(signal, Signal)
            self.assertFalse(signal.has_receivers)
