"""What may be a match spec keyword, and changing keywords after init."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from oni.errors import InvalidKeywordError, KeywordInUseError, UnknownKeywordError
from oni.twisted_event_dispatcher import EventDispatcher
from tests.dispatcher.cases import KEYWORDS, DispatcherCase


class KeywordTests(DispatcherCase):
    """Keywords at init, and later."""

    def test_refused(self) -> None:
        """Arguments of add_event_handler, and what is no identifier, are refused at init."""
        for keyword in ("use_weakref", "times", "timeout", "", "two words", "1st", 5, None):
            error = self.assertRaises(InvalidKeywordError, EventDispatcher, [keyword])
            self.assertEqual(error.keyword, keyword)
            self.assertIsInstance(error, ValueError)

    def test_refused_later(self) -> None:
        """They are refused later too, and change nothing."""
        for keyword in ("use_weakref", "times", "timeout", "two words"):
            self.assertRaises(InvalidKeywordError, self.dispatcher.add_match_spec_keyword, keyword)
        self.assertEqual(self.dispatcher.allowed_match_spec_keywords, KEYWORDS)

    def test_string_is_refused(self) -> None:
        """A single string, which is a sequence of letters, is refused."""
        error = self.assertRaises(InvalidKeywordError, EventDispatcher, "user")
        self.assertIn("not a string", str(error))

    def test_each_once(self) -> None:
        """Naming a keyword twice is naming it once; the order is kept."""
        dispatcher = EventDispatcher(["b", "a", "b"])
        self.assertEqual(dispatcher.allowed_match_spec_keywords, ("b", "a"))

    def test_none_allowed(self) -> None:
        """A dispatcher without keywords says so."""
        error = self.assertRaises(
            UnknownKeywordError,
            EventDispatcher().add_event_handler,
            self.heard.append,
            "during",
            user=1,
        )
        self.assertIn("allowed: none", str(error))

    def test_order_by_is_checked(self) -> None:
        """order_by may only name allowed keywords."""
        self.assertRaises(UnknownKeywordError, EventDispatcher, ["user"], order_by=["usr"])

    def test_add(self) -> None:
        """A keyword that is added may be used at once; adding it twice changes nothing."""
        self.hear("all")
        self.dispatcher.add_match_spec_keyword("zone")
        self.dispatcher.add_match_spec_keyword("zone")
        self.assertEqual(self.dispatcher.allowed_match_spec_keywords, (*KEYWORDS, "zone"))
        self.hear("zone", zone=5)
        self.assertEqual(self.fired(zone=5, user="bob"), ["all", "zone"])

    def test_remove(self) -> None:
        """A removed keyword is unknown, also to events of a kind that was fired before."""
        self.assertEqual(self.fired(role="admin"), [])
        self.dispatcher.remove_match_spec_keyword("role")
        self.failing(self.dispatcher.fire_event("event", role="admin"), UnknownKeywordError)
        self.assertRaises(UnknownKeywordError, self.hear, "x", role="admin")

    def test_remove_unknown(self) -> None:
        """Removing what is not allowed anyway is an error."""
        self.assertRaises(UnknownKeywordError, self.dispatcher.remove_match_spec_keyword, "zone")

    def test_remove_in_use(self) -> None:
        """Removing one that handlers use is refused, with their ids, names and places."""
        ids = [self.hear("x", role="admin"), self.hear("y", role=None, user="bob")]
        self.hear("z", user="bob")
        error = self.assertRaises(
            KeywordInUseError, self.dispatcher.remove_match_spec_keyword, "role"
        )
        self.assertEqual((error.keyword, list(error.handler_ids)), ("role", ids))
        self.assertRegex(str(error), r"handler 1: .*lambda.*cases\.py:\d+.*handler 2: ")
        self.assertEqual(self.fired(role="admin"), ["x"])
        for handler_id in ids:
            self.remove(handler_id)
        self.dispatcher.remove_match_spec_keyword("role")

    def test_remove_used_by_a_dead_one(self) -> None:
        """A handler that has died uses nothing."""
        self.dispatcher.add_event_handler(lambda event: None, "during", role="admin")
        self.dispatcher.remove_match_spec_keyword("role")

    def test_remove_ordering_one(self) -> None:
        """Removing one that orders events is refused."""
        self.dispatcher = self.make(order_by=("user",))
        error = self.assertRaises(
            KeywordInUseError, self.dispatcher.remove_match_spec_keyword, "user"
        )
        self.assertIn("order_by", str(error))

    def test_remove_and_add_again(self) -> None:
        """A keyword that went and came back works with the others."""
        self.hear("both", user="bob", role="admin")
        self.remove(1)
        self.dispatcher.remove_match_spec_keyword("user")
        self.dispatcher.add_match_spec_keyword("user")
        self.hear("both", user="bob", role="admin")
        self.assertEqual(self.fired(user="bob", role="admin"), ["both"])
        self.assertEqual(self.fired(role="admin", user="bob"), ["both"])

    def test_removed_while_queued(self) -> None:
        """An event that waits while its keyword is removed fails, and holds up nobody."""
        gate: Deferred[None] = Deferred()
        self.add(lambda event: gate if event == "first" else None)
        first = self.dispatcher.fire_event("first")
        second = self.dispatcher.fire_event("second", role="admin")
        third = self.dispatcher.fire_event("third")
        self.dispatcher.remove_match_spec_keyword("role")
        gate.callback(None)
        self.successResultOf(first)
        self.failing(second, UnknownKeywordError)
        self.successResultOf(third)

    def test_python_keyword(self) -> None:
        """A word of Python's own may be a keyword."""
        details: dict[str, Any] = {"class": "a"}
        self.dispatcher.add_match_spec_keyword("class")
        self.hear("x", **details)
        self.assertEqual(self.fired(**details), ["x"])
