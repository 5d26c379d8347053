"""The asynchronous handlers of a component registry."""

from __future__ import annotations

import contextvars
import sys
import warnings
from typing import Any

import zope.component.event
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getGlobalSiteManager
from zope.interface import Interface, implementer
from zope.interface.interfaces import IObjectEvent, ObjectEvent
from zope.interface.registry import Components

from oni.zca import notify_async

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class IUserCreated(Interface):
    """A user was created."""


@implementer(IUserCreated)
class UserCreated:
    """A user was created."""


class NotifyTests(SynchronousTestCase):
    """What handlers return is waited for."""

    def setUp(self) -> None:
        """Make a registry."""
        self.registry = Components()
        self.event = UserCreated()

    def register(self, *handlers: Any) -> None:
        """Register handlers for the event."""
        for handler in handlers:
            self.registry.registerHandler(handler, (IUserCreated,))

    def test_coroutine_runs(self) -> None:
        """A coroutine handler, which handle() drops, runs to its end."""
        gate: Deferred[str] = Deferred()
        seen: list[Any] = []

        async def handler(event: Any) -> str:
            seen.append(event)
            return await gate + "!"

        self.register(handler)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.registry.handle(self.event)
        self.assertIn("was never awaited", str(caught[0].message))
        self.assertEqual(seen, [])
        done = notify_async(self.event, self.registry)
        self.assertEqual(seen, [self.event])
        self.assertNoResult(done)
        gate.callback("mailed")
        self.assertEqual(self.successResultOf(done), ["mailed!"])

    def test_every_kind_of_handler(self) -> None:
        """Functions, coroutines and Deferreds, each with its result in its place."""

        class Callable:
            async def __call__(self, event: Any) -> str:
                return "callable object"

        async def coroutine(event: Any) -> str:
            return "coroutine"

        self.register(
            lambda event: "function", coroutine, lambda event: succeed("Deferred"), Callable()
        )
        self.assertEqual(
            self.successResultOf(notify_async(self.event, self.registry)),
            ["function", "coroutine", "Deferred", "callable object"],
        )

    def test_side_by_side(self) -> None:
        """A handler that waits holds up nobody; results come in the order of the calls."""
        gates: list[Deferred[str]] = [Deferred(), Deferred()]

        async def first(event: Any) -> str:
            return await gates[0]

        async def second(event: Any) -> str:
            return await gates[1]

        self.register(first, second)
        done = notify_async(self.event, self.registry)
        gates[1].callback("second")
        self.assertNoResult(done)
        gates[0].callback("first")
        self.assertEqual(self.successResultOf(done), ["first", "second"])

    def test_failure_stops_nobody(self) -> None:
        """A failing handler's Failure is in its place, and is logged once."""
        called: list[str] = []

        def raises(event: Any) -> None:
            raise ValueError("function")

        async def fails(event: Any) -> None:
            raise KeyError("coroutine")

        async def works(event: Any) -> str:
            called.append("works")
            return "works"

        self.register(raises, fails, works)
        first, second, third = self.successResultOf(notify_async(self.event, self.registry))
        self.assertIsInstance(first, Failure)
        self.assertEqual((first.type, second.type, third), (ValueError, KeyError, "works"))
        self.assertEqual(called, ["works"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_no_handlers(self) -> None:
        """Nobody there is an empty list."""
        self.assertEqual(self.successResultOf(notify_async(self.event, self.registry)), [])

    def test_only_those_for_the_event(self) -> None:
        """Handlers of other interfaces are not called; those of everything are."""

        class IOther(Interface):
            pass

        self.registry.registerHandler(lambda event: "other", (IOther,))
        self.registry.registerHandler(lambda event: "all", (None,))
        self.assertEqual(self.successResultOf(notify_async(self.event, self.registry)), ["all"])

    def test_contexts_are_apart(self) -> None:
        """Each coroutine has a copied context of its own."""

        async def paint(event: Any) -> str:
            before = colour.get()
            colour.set("red")
            return before

        self.register(paint, paint)
        self.assertEqual(
            self.successResultOf(notify_async(self.event, self.registry)), ["none", "none"]
        )
        self.assertEqual(colour.get(), "none")

    def test_cancel(self) -> None:
        """Cancelling the Deferred cancels the handlers."""

        async def hangs(event: Any) -> None:
            await Deferred()

        self.register(hangs)
        done = notify_async(self.event, self.registry)
        done.cancel()
        (failure,) = self.successResultOf(done)
        self.assertIs(failure.type, CancelledError)
        self.flushLoggedErrors(CancelledError)

    def test_global_registry(self) -> None:
        """Without a registry, the current site's is asked."""
        components = getGlobalSiteManager()

        async def handler(event: Any) -> str:
            return "global"

        components.registerHandler(handler, (IUserCreated,))
        self.addCleanup(components.unregisterHandler, handler, (IUserCreated,))
        self.assertEqual(self.successResultOf(notify_async(self.event)), ["global"])

    def test_object_events(self) -> None:
        """Handlers for (object, event), where object events are passed on, are run too."""
        event = ObjectEvent(self.event)

        async def handler(obj: Any, event: Any) -> tuple[Any, Any]:
            return obj, event

        self.registry.registerHandler(zope.component.event.objectEventNotify, (IObjectEvent,))
        self.registry.registerHandler(handler, (IUserCreated, IObjectEvent))
        self.assertEqual(
            self.successResultOf(notify_async(event, self.registry)), [(self.event, event)]
        )

    def test_without_zope_component_event(self) -> None:
        """It does not need the module that connects zope.event with the registries."""
        self.patch(sys, "modules", {**sys.modules, "zope.component.event": None})
        self.register(lambda event: 1)
        self.assertEqual(self.successResultOf(notify_async(self.event, self.registry)), [1])
