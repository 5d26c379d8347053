"""Timers, set and cancelled from whichever thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet import task
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from oni.dispatcher._clock import Clock
from oni.twisted_event_dispatcher import EventDispatcher


@implementer(IReactorFromThreads)
class Reactor(task.Clock):
    """A clock that other threads hand calls over to."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_over: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def callFromThread(self, call: Callable[..., object], *args: Any) -> None:
        """Keep a call for later."""
        self.handed_over.append((call, args))

    def turn(self) -> None:
        """Make the calls that were handed over."""
        calls, self.handed_over = self.handed_over, []
        for call, args in calls:
            call(*args)


class TimerTests(SynchronousTestCase):
    """A timer of the reactor's thread."""

    def setUp(self) -> None:
        """Make a clock."""
        self.patch(threadable, "ioThread", None)
        self.reactor = Reactor()
        self.clock = Clock(self.reactor)
        self.calls: list[Any] = []

    def test_calls_once(self) -> None:
        """It calls with its arguments, once, after so many seconds."""
        self.clock.timer(2, self.calls.append, "called")
        self.reactor.advance(1.9)
        self.assertEqual(self.calls, [])
        self.reactor.advance(0.2)
        self.reactor.advance(10)
        self.assertEqual(self.calls, ["called"])

    def test_cancel(self) -> None:
        """A cancelled one never calls, and leaves nothing in the reactor; again and late, too."""
        timer = self.clock.timer(2, self.calls.append, "called")
        timer.cancel()
        timer.cancel()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        late = self.clock.timer(2, self.calls.append, "late")
        self.reactor.advance(2)
        late.cancel()
        self.assertEqual(self.calls, ["late"])

    def test_seconds(self) -> None:
        """The time is the reactor's."""
        self.reactor.advance(3.5)
        self.assertEqual(self.clock.seconds(), 3.5)

    def test_from_another_thread(self) -> None:
        """Outside the reactor's thread, setting and cancelling are handed over to it."""
        self.patch(threadable, "ioThread", -1)
        timer = self.clock.timer(2, self.calls.append, "called")
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.reactor.turn()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        timer.cancel()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.turn()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelled_before_it_was_set(self) -> None:
        """Cancelled before the reactor's thread came to it, it is never set."""
        self.patch(threadable, "ioThread", -1)
        self.clock.timer(2, self.calls.append, "called").cancel()
        self.reactor.turn()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelled_by_the_reactors_thread_before_it_was_set(self) -> None:
        """So it is where the reactor's thread itself cancels it before it comes to set it."""
        with mock.patch.object(threadable, "ioThread", -1):
            timer = self.clock.timer(2, self.calls.append, "called")
        timer.cancel()
        self.reactor.turn()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_due_before_the_cancellation_arrives(self) -> None:
        """Cancelled in another thread just before it is due, it calls nobody."""
        timer = self.clock.timer(2, self.calls.append, "called")
        self.patch(threadable, "ioThread", -1)
        timer.cancel()
        self.reactor.advance(2)
        self.reactor.turn()
        self.assertEqual(self.calls, [])

    def test_plain_clock(self) -> None:
        """A clock that takes no calls from threads is used as it is."""
        self.patch(threadable, "ioThread", -1)
        plain = task.Clock()
        Clock(plain).timer(2, self.calls.append, "called")
        plain.advance(2)
        self.assertEqual(self.calls, ["called"])


class ReactorTests(SynchronousTestCase):
    """The global reactor is asked for when it is first needed, not before."""

    def test_no_reactor_before_it_is_needed(self) -> None:
        """Making, starting and using a dispatcher whose handlers do not wait needs none."""
        reactor = mock.Mock()
        with mock.patch.dict(sys.modules, {"twisted.internet.reactor": reactor}):
            dispatcher = EventDispatcher()
            dispatcher.start()
            dispatcher.add_event_handler(lambda event: None, "during", False)
            self.successResultOf(dispatcher.fire_event("event"))
            self.successResultOf(dispatcher.stop())
        self.assertEqual(reactor.mock_calls, [])

    def test_global_one(self) -> None:
        """Where none was given it is the global one."""
        from twisted.internet import reactor

        self.assertIs(Clock().reactor, IReactorTime(reactor))
