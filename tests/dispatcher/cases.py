"""What the tests of the dispatcher share: a started dispatcher on a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.twisted_event_dispatcher import EventDispatcher, EventResult

KEYWORDS = ("event_type", "user", "role")


class DispatcherCase(SynchronousTestCase):
    """A test with a started dispatcher whose handlers note what they heard."""

    def setUp(self) -> None:
        """Start a dispatcher, and listen to the log."""
        self.clock = Clock()
        self.dispatcher = self.make()
        self.heard: list[Any] = []
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def make(self, **arguments: Any) -> EventDispatcher:
        """Give a started dispatcher with the usual keywords."""
        arguments.setdefault("allowed_match_spec_keywords", KEYWORDS)
        dispatcher = EventDispatcher(reactor=self.clock, **arguments)
        dispatcher.start()
        return dispatcher

    def add(self, handler: Callable[[Any], Any], phase: str = "during", **arguments: Any) -> int:
        """Register a handler, strongly if nothing else is said; give its id."""
        arguments.setdefault("use_weakref", False)
        handler_id: int = self.successResultOf(
            self.dispatcher.add_event_handler(handler, phase, **arguments)
        )
        return handler_id

    def hear(self, name: str, phase: str = "during", **arguments: Any) -> int:
        """Register a handler that notes this name; give its id."""
        return self.add(lambda event: self.heard.append(name), phase, **arguments)

    def fire(self, event: Any = "event", /, **details: Any) -> EventResult:
        """Fire an event that has to end at once; give its result."""
        result: EventResult = self.successResultOf(self.dispatcher.fire_event(event, **details))
        return result

    def fired(self, **details: Any) -> list[Any]:
        """Fire an event; give the names that were noted."""
        self.heard.clear()
        self.fire(**details)
        return list(self.heard)

    def remove(self, handler_id: int) -> None:
        """Remove a handler."""
        self.assertIsNone(self.successResultOf(self.dispatcher.remove_event_handler(handler_id)))

    def failing(self, deferred: Deferred[Any], *kinds: type[Exception]) -> Any:
        """Give the exception that a Deferred has failed with."""
        return self.failureResultOf(deferred, *kinds).value

    def warnings(self) -> list[str]:
        """Give what was logged as a warning, and forget it."""
        texts = [formatEvent(e) for e in self.logged if e["log_level"] is LogLevel.warn]
        self.logged.clear()
        return texts

    def assert_nothing_left(self, dispatcher: EventDispatcher | None = None) -> None:
        """Assert that the index of a dispatcher holds no handler, table, bucket, shape or plan."""
        index: Any = (dispatcher or self.dispatcher)._index
        self.assertEqual(index.by_id, {})
        self.assertEqual(index._tables, {})
        self.assertEqual(index._merged, {})
        self.assertEqual([lookup for shape in index.shapes.values() for lookup in shape], [])
        self.assertEqual((index.everyone.registrations, index.everyone.plans), ({}, []))
        self.assertEqual(list(index.dead), [])
