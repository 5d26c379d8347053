"""Events that succeed or fail as a whole."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher import EventDispatcher, fire_whole
from oni.errors import WatchersFailedError
from oni.values import EventResult

DETAILS = {"model": "blog.Post", "id": 1}


class WholeTests(SynchronousTestCase):
    """``fire_whole``."""

    def setUp(self) -> None:
        """Start a dispatcher that does not know every detail."""
        self.dispatcher = EventDispatcher(("model",))
        self.dispatcher.start()

    def test_only_what_is_allowed(self) -> None:
        """A dispatcher is given those details that it allows, as it allows them now."""
        heard: list[Any] = []
        self.dispatcher.add_event_handler(
            heard.append, "during", use_weakref=False, model="blog.Post"
        )
        self.assertIsNone(self.successResultOf(fire_whole(self.dispatcher, "one", DETAILS)))
        self.dispatcher.add_match_spec_keyword("id")
        self.dispatcher.add_event_handler(heard.append, "after", use_weakref=False, id=1)
        self.successResultOf(fire_whole(self.dispatcher, "two", DETAILS))
        self.assertEqual(["one", "two", "two"], heard)

    def test_one_fails(self) -> None:
        """The others are called; the Deferred fails."""
        heard: list[Any] = []

        def fails(event: Any) -> None:
            raise ValueError("not this")

        self.dispatcher.add_event_handler(fails, "during", use_weakref=False)
        self.dispatcher.add_event_handler(heard.append, "during", use_weakref=False)
        error = self.failureResultOf(
            fire_whole(self.dispatcher, "one", DETAILS), WatchersFailedError
        ).value
        self.assertEqual((["one"], 1), (heard, len(error.failures)))
        self.flushLoggedErrors(ValueError)

    def test_another_dispatcher(self) -> None:
        """One of somebody else's is given all of the details."""
        given: list[Any] = []

        class Other:
            def fire_event(self, event: Any, **details: Any) -> Deferred[EventResult]:
                given.append(details)
                return succeed(EventResult(event, details))

        other: Any = Other()
        self.successResultOf(fire_whole(other, "one", DETAILS))
        self.assertEqual([DETAILS], given)
