"""What ``zope.event.notify`` announces, fired at a dispatcher."""

from __future__ import annotations

import threading
from typing import Any

import zope.event
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getGlobalSiteManager
from zope.interface.exceptions import Invalid
from zope.interface.registry import Components

from oni.dispatcher import EventDispatcher
from oni.errors import QueueFullError, UnknownKeywordError
from oni.values import Phase
from oni.zca import bridge


class UserCreated:
    """A user was created."""

    def __init__(self, user: str) -> None:
        self.user = user


def details(obj: Any) -> dict[str, Any] | None:
    """Give the details of our events, and leave out all others."""
    return {"user": obj.user} if isinstance(obj, UserCreated) else None


class ThreadedClock(Clock):
    """A clock that keeps what other threads hand over until it is asked to run it."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_over: list[Any] = []

    def callFromThread(self, function: Any, *args: Any) -> None:
        """Keep a call."""
        self.handed_over.append(lambda: function(*args))

    def run(self) -> None:
        """Run what was handed over."""
        calls, self.handed_over = self.handed_over, []
        for call in calls:
            call()


class BridgeTestCase(SynchronousTestCase):
    """Has a started dispatcher, and this thread as the reactor's."""

    def setUp(self) -> None:
        """Start the dispatcher; leave zope.event as it was."""
        self.patch(threadable, "ioThread", threading.get_ident())
        subscribers = list(zope.event.subscribers)
        self.addCleanup(self.assertEqual, zope.event.subscribers, subscribers)
        self.reactor = ThreadedClock()
        self.dispatcher = EventDispatcher(("user",), reactor=self.reactor)
        self.dispatcher.start()
        self.heard: list[Any] = []

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Make a bridge that is closed at the end."""
        made = bridge(self.dispatcher, *args, reactor=self.reactor, **kwargs)
        self.addCleanup(made.close)
        return made

    def handle(self, handler: Any, **options: Any) -> None:
        """Register a handler strongly."""
        self.dispatcher.add_event_handler(handler, "during", use_weakref=False, **options)

    def notify_elsewhere(self, *objs: Any) -> None:
        """Announce objects in another thread, and wait for it."""

        def announce() -> None:
            for obj in objs:
                zope.event.notify(obj)

        thread = threading.Thread(target=announce)
        thread.start()
        thread.join(5)


class FireTests(BridgeTestCase):
    """In the reactor's thread, what is announced is fired."""

    def test_fires_with_details(self) -> None:
        """Handlers hear the object, by the details that were made of it."""
        self.make(details)
        self.handle(self.heard.append, user="bob")
        bob = UserCreated("bob")
        zope.event.notify(bob)
        zope.event.notify(UserCreated("eve"))
        self.assertEqual(self.heard, [bob])

    def test_left_out(self) -> None:
        """An object without details is not fired."""
        self.make(details)
        self.handle(self.heard.append)
        zope.event.notify(object())
        self.assertEqual(self.heard, [])

    def test_without_a_details_function(self) -> None:
        """Every object is fired, without details."""
        self.make()
        self.handle(self.heard.append)
        zope.event.notify("anything")
        self.assertEqual(self.heard, ["anything"])

    def test_before_any_reactor(self) -> None:
        """While no reactor has run, there is none to hand over to, and events are fired."""
        self.patch(threadable, "ioThread", None)
        self.make()
        self.handle(self.heard.append)
        zope.event.notify("early")
        self.assertEqual((self.heard, self.reactor.handed_over), (["early"], []))

    def test_nested(self) -> None:
        """What a handler announces is nested in its event: it does not queue behind it."""
        self.make(details)
        states: list[str] = []

        def announce(event: Any) -> None:
            zope.event.notify(UserCreated("inner"))

        def see(event: Any) -> None:
            states.extend(p.state for p in self.dispatcher.pending() if p.event is event)

        self.handle(announce, user="outer")
        self.handle(see, user="inner")
        zope.event.notify(UserCreated("outer"))
        self.assertEqual(states, ["nested"])

    def test_refuses_what_is_no_dispatcher(self) -> None:
        """The mistake is found where it is made, and nothing is left in zope.event."""
        self.assertRaises(Invalid, bridge, object())


class ThreadTests(BridgeTestCase):
    """In another thread, what is announced is handed over."""

    def test_handed_over(self) -> None:
        """Nothing happens in the announcing thread; the reactor's fires it, in order."""
        self.make(details)
        idents: list[int] = []
        self.handle(lambda event: idents.append(threading.get_ident()))
        self.handle(lambda event: self.heard.append(event.user))
        self.notify_elsewhere(UserCreated("bob"), UserCreated("eve"))
        self.assertEqual(self.heard, [])
        self.reactor.run()
        self.assertEqual(self.heard, ["bob", "eve"])
        self.assertEqual(set(idents), {threading.get_ident()})

    def test_details_are_made_where_it_is_announced(self) -> None:
        """Objects that belong to a thread are read in it."""
        idents: list[int] = []

        def details(obj: Any) -> None:
            idents.append(threading.get_ident())

        self.make(details)
        self.notify_elsewhere(1)
        self.assertNotIn(threading.get_ident(), idents)
        self.assertEqual((len(idents), self.reactor.handed_over), (1, []))

    def test_bound(self) -> None:
        """What does not fit is refused and counted, and logged once until there is room again."""
        made = self.make(max_handed_over=2)
        self.handle(self.heard.append)
        self.notify_elsewhere(*range(5))
        self.assertEqual(len(self.flushLoggedErrors(QueueFullError)), 1)
        self.assertEqual((made.statistics()["handed_over"], made.statistics()["refused"]), (2, 3))
        self.reactor.run()
        self.assertEqual(self.heard, [0, 1])
        self.successResultOf(made.idle())
        self.notify_elsewhere(*range(5, 9))
        self.assertEqual(len(self.flushLoggedErrors(QueueFullError)), 1)
        self.reactor.run()
        self.assertEqual((self.heard, made.statistics()["refused"]), ([0, 1, 5, 6], 5))

    def test_no_bound(self) -> None:
        """None is any number; the default is one."""
        for bound, fits in ((None, 10_001), (10_000, 10_000)):
            made = self.make(**({} if bound else {"max_handed_over": None}))
            self.notify_elsewhere(*range(10_001))
            self.assertEqual(made.statistics()["handed_over"], fits)
            made.close()
        self.flushLoggedErrors(QueueFullError)

    def test_wrong_bound(self) -> None:
        """A bound is a positive integer or None; nothing is left in zope.event."""
        for bound in (0, -1, True, 2.5, "many"):
            with self.assertRaises(ValueError) as caught:
                self.make(max_handed_over=bound)
            self.assertIn("max_handed_over", str(caught.exception))

    def test_context_travels(self) -> None:
        """An object that a handler announces in a thread is nested in the handler's event."""
        self.make(details)
        states: list[str] = []
        finished: Deferred[None] = Deferred()

        def announce_in_thread(event: Any) -> Deferred[None]:
            from contextvars import copy_context

            context = copy_context()
            thread = threading.Thread(
                target=context.run, args=(zope.event.notify, UserCreated("inner"))
            )
            thread.start()
            thread.join(5)
            return finished

        def see(event: Any) -> None:
            states.extend(p.state for p in self.dispatcher.pending() if p.event is event)

        self.handle(announce_in_thread, user="outer")
        self.handle(see, user="inner")
        zope.event.notify(UserCreated("outer"))
        self.reactor.run()
        self.assertEqual(states, ["nested"])
        finished.callback(None)


class FailureTests(BridgeTestCase):
    """Whatever goes wrong is logged, and notify's caller hears nothing of it."""

    def test_fire_fails(self) -> None:
        """Details that the dispatcher does not allow are logged."""
        made = self.make(lambda obj: {"nobody": 1})
        zope.event.notify(1)
        self.assertEqual(len(self.flushLoggedErrors(UnknownKeywordError)), 1)
        self.assertEqual(made.statistics()["failed"], 1)
        self.successResultOf(made.idle())

    def test_fire_fails_elsewhere(self) -> None:
        """So are those of an object that was handed over."""
        made = self.make(lambda obj: {"nobody": 1})
        self.notify_elsewhere(1)
        self.reactor.run()
        self.assertEqual(len(self.flushLoggedErrors(UnknownKeywordError)), 1)
        self.successResultOf(made.idle())

    def test_details_fail(self) -> None:
        """A details function that raises is logged, and the next subscriber is called."""

        def raises(obj: Any) -> None:
            raise ZeroDivisionError

        self.make(raises)
        zope.event.subscribers.append(self.heard.append)
        self.addCleanup(zope.event.subscribers.remove, self.heard.append)
        zope.event.notify(1)
        self.assertEqual(self.heard, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_details_are_no_keywords(self) -> None:
        """Details that cannot be keyword arguments are logged."""
        made = self.make(lambda obj: {1: 2})
        zope.event.notify(1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.successResultOf(made.idle())

    def test_aborted(self) -> None:
        """What aborts an event is logged by the bridge, which stands for the one who fired."""

        def refuse(event: Any) -> None:
            raise PermissionError

        self.dispatcher.add_phase(Phase("check", on_error="abort"), before="before")
        self.dispatcher.add_event_handler(refuse, "check", use_weakref=False)
        self.make()
        zope.event.notify(1)
        self.assertEqual(len(self.flushLoggedErrors(PermissionError)), 1)


class IdleTests(BridgeTestCase):
    """A bridge says when nothing runs any more."""

    def test_at_once(self) -> None:
        """Where nothing runs, it has fired already."""
        self.successResultOf(self.make().idle())

    def test_waits_for_what_runs(self) -> None:
        """It waits for each event that the bridge fired, nested and queued ones too."""
        gates = {"a": Deferred[None](), "b": Deferred[None]()}
        self.handle(gates.__getitem__)
        made = self.make()
        zope.event.notify("a")
        zope.event.notify("b")
        first, second = made.idle(), made.idle()
        self.assertEqual(made.statistics()["running"], 2)
        gates["a"].callback(None)
        self.assertNoResult(first)
        gates["b"].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(
            made.statistics(),
            {
                "fired": 2,
                "failed": 0,
                "running": 0,
                "handed_over": 0,
                "refused": 0,
            },
        )

    def test_waits_for_what_was_handed_over(self) -> None:
        """What another thread announced counts before it is fired."""
        made = self.make()
        self.notify_elsewhere("a")
        self.assertEqual(made.statistics()["handed_over"], 1)
        idle = made.idle()
        self.assertNoResult(idle)
        self.reactor.run()
        self.successResultOf(idle)

    def test_cancel(self) -> None:
        """Cancelling the wait leaves the event alone."""
        gate: Deferred[None] = Deferred()
        self.handle(lambda event: gate)
        made = self.make()
        zope.event.notify("a")
        idle = made.idle()
        idle.cancel()
        self.failureResultOf(idle)
        self.assertFalse(gate.called)
        gate.callback(None)
        self.assertEqual(made.statistics()["running"], 0)


class CloseTests(BridgeTestCase):
    """A closed bridge hears nothing more."""

    def test_close(self) -> None:
        """What is announced later is not fired; closing twice is harmless."""
        self.handle(self.heard.append)
        made = self.make()
        zope.event.notify("before")
        made.close()
        made.close()
        zope.event.notify("after")
        self.assertEqual(self.heard, ["before"])

    def test_what_was_handed_over_is_fired(self) -> None:
        """What was announced before the end is not lost."""
        self.handle(self.heard.append)
        made = self.make()
        self.notify_elsewhere("before")
        made.close()
        self.reactor.run()
        self.assertEqual(self.heard, ["before"])

    def test_close_in_a_handler(self) -> None:
        """Closing while notify walks its list leaves no other subscriber out."""
        made = self.make()
        self.handle(lambda event: made.close())
        zope.event.subscribers.append(self.heard.append)
        self.addCleanup(zope.event.subscribers.remove, self.heard.append)
        zope.event.notify("last")
        self.assertEqual(self.heard, ["last"])
        zope.event.notify("later")
        self.assertEqual(made.statistics()["fired"], 1)
        self.reactor.run()
        self.assertNotIn(made._heard, zope.event.subscribers)


class RegistryTests(BridgeTestCase):
    """With a registry, the bridge hears that registry's events alone."""

    def test_own_registry(self) -> None:
        """It hears what is handled there, and nothing that zope.event announces elsewhere."""
        registry = Components()
        self.handle(self.heard.append)
        made = self.make(registry=registry)
        registry.handle("here")
        zope.event.notify("there")
        self.assertEqual(self.heard, ["here"])
        made.close()
        registry.handle("closed")
        self.assertEqual(self.heard, ["here"])
        self.assertEqual(list(registry.registeredHandlers()), [])

    def test_global_registry(self) -> None:
        """With the global registry, it hears what zope.event passes on, once."""
        self.handle(self.heard.append)
        made = self.make(
            lambda obj: {} if isinstance(obj, str) else None, registry=getGlobalSiteManager()
        )
        zope.event.notify("once")
        made.close()
        zope.event.notify("closed")
        self.assertEqual(self.heard, ["once"])
