"""What the tests of running events share: handlers that wait, and an account of what is left."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextvars import Context
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, formatEvent

from oni.twisted_event_dispatcher import EventDispatcher
from tests.dispatcher.cases import DispatcherCase


class RunningCase(DispatcherCase):
    """A test at whose end no event, timer, turn or unhandled error may be left.

    Attributes:
        stuck: Set by a test that leaves events running on purpose.
    """

    stuck = False

    def setUp(self) -> None:
        """Remember every dispatcher that is made."""
        self.dispatchers: list[EventDispatcher] = []
        super().setUp()

    def make(self, **arguments: Any) -> EventDispatcher:
        """Give a started dispatcher."""
        dispatcher = super().make(**arguments)
        self.dispatchers.append(dispatcher)
        return dispatcher

    def tearDown(self) -> None:
        """Look for what is left."""
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
        if self.stuck:
            return
        for dispatcher in self.dispatchers:
            self.assert_idle(dispatcher)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assert_idle(self, dispatcher: EventDispatcher | None = None) -> None:
        """Assert that a dispatcher holds nothing of any event, and takes the short way again."""
        dispatcher = dispatcher or self.dispatcher
        engine: Any = dispatcher._engine
        self.assertEqual(dispatcher.pending(), [])
        self.assertEqual((engine.running, engine.trailing, engine.active), ({}, 0, None))
        self.assertEqual((engine.turns._lanes, engine.turns.waiting), ({}, 0))
        self.assertEqual((engine.stops.waiting, engine.unsettled), ([], False))
        short = dispatcher.state == "started" and not engine.turns.order_by
        self.assertEqual(engine.direct, short)

    def use(self, **arguments: Any) -> EventDispatcher:
        """Make a dispatcher, and let the other methods of the test use it."""
        self.dispatcher = self.make(**arguments)
        return self.dispatcher

    def wait(self, name: str = "", phase: str = "during", **arguments: Any) -> list[Deferred[Any]]:
        """Register a handler that waits; give the list that its Deferreds go to."""
        gates: list[Deferred[Any]] = []

        def handler(event: Any) -> Deferred[Any]:
            self.heard.append(name or event)
            gates.append(Deferred())
            return gates[-1]

        self.add(handler, phase, **arguments)
        return gates

    def note(self, phase: str = "during", **arguments: Any) -> int:
        """Register a handler that notes the event."""
        return self.add(self.heard.append, phase, **arguments)

    def start(self, event: Any = "event", /, **details: Any) -> Deferred[Any]:
        """Fire an event where no event is known to be handled, as from a plain callback."""
        return Context().run(self.dispatcher.fire_event, event, **details)

    def raising(self, error: Exception) -> Callable[[Any], Any]:
        """Give a handler that raises."""

        def handler(event: Any) -> Any:
            self.heard.append(str(error))
            raise error

        return handler

    def flush(self, *kinds: type[Exception]) -> list[str]:
        """Forget errors that were logged; give their texts."""
        gc.collect()
        return [failure.getErrorMessage() for failure in self.flushLoggedErrors(*kinds)]

    def states(self) -> list[tuple[Any, str]]:
        """Give each pending event with its state."""
        return [(pending.event, pending.state) for pending in self.dispatcher.pending()]

    def logs(self, level: LogLevel) -> list[str]:  # type: ignore[valid-type]
        """Give what was logged at a level."""
        return [formatEvent(e) for e in self.logged if e["log_level"] is level]
