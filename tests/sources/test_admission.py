"""What becomes of events before anybody handles them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.defer import succeed
from twisted.logger import capturedLogs

from oni.errors import (
    InvalidSourceError,
    LedgerKeyError,
    LedgerUnavailableError,
    NotRunningError,
    UnkeptContextError,
)
from oni.sources import event
from oni.values import UNKNOWN, Event, ModelChange, Phase
from tests.sources.house import Challenge, SourcesTestCase


def handle(event: Event) -> None:
    """Do nothing."""


class AdmissionTests(SourcesTestCase):
    """Event sources that are started."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.start()

    def test_group_is_searched(self) -> None:
        """A pattern is searched for, anywhere, unless it says where."""
        for name, pattern in (("any", "end"), ("start", "^end"), ("all", "")):
            self.sources.register_group_handler(pattern, handle, name=name)
        (made,) = self.sources.ledger_events([event("weekend", 1)])
        self.assertEqual([handling.handler for handling in made.handlings], ["any", "all"])

    def test_handlings(self) -> None:
        """What was registered is what the ledger is told; ranks are the phases' places."""
        register = self.sources.register_group_handler
        register("", handle, name="a", phase="after", on_crash="park", max_attempts=2)
        register("", handle, name="b", phase="before")
        (made,) = self.sources.ledger_events([event("g", 1)])
        kept = [(h.handler, h.on_crash, h.max_attempts, h.rank) for h in made.handlings]
        self.assertEqual(kept, [("a", "park", 2, 2), ("b", "retry", 5, 0)])

    def test_handlings_one_by_one(self) -> None:
        """In a phase that is not concurrent each has a rank of its own, for every process."""
        sources = self.make(phases=["a", Phase("b", concurrent=False), "c"])
        for name in ("c1", "b1", "b2", "c2", "a1"):
            sources.register_group_handler("", handle, name=name, phase=name[0])
        (made,) = sources.ledger_events([event("g", 1)])
        ranks = {handling.handler: handling.rank for handling in made.handlings}
        self.assertEqual(ranks["c1"], ranks["c2"])
        self.assertTrue(ranks["a1"] < ranks["b1"] < ranks["b2"] < ranks["c1"], ranks)

    def test_nobody_handles_it(self) -> None:
        """Its key is used up all the same, with one warning for its group."""
        with capturedLogs() as logs:
            for id in (1, 2):
                new = self.get(self.sources.only_new_events([event("unheard", id)]))
                self.assertEqual(len(new), 1)
        warnings = [log for log in logs if "No handler is registered" in log["log_format"]]
        self.assertEqual([log["group"] for log in warnings], ["unheard"])
        self.sources.register_group_handler("", self.note(), name="n")
        self.get(self.sources.process_events([event("unheard", 1), event("unheard", 3)]))
        self.assertEqual(self.called, ["7:unheard3"])

    def test_only_new(self) -> None:
        """Only what was not known comes back, in order, and once."""
        events = [event("g", id) for id in (3, 1, 3, 2)]
        new = self.get(self.sources.only_new_events(events))
        self.assertEqual([made.key for made in new], ["1:g3", "1:g1", "1:g2"])
        self.assertEqual(self.get(self.sources.only_new_events(succeed(events))), [])

    def test_refused(self) -> None:
        """What cannot be kept is refused through the Deferred, and nothing is admitted."""
        wrong: list[tuple[Any, type[Exception]]] = [
            (Event(group="g", key=""), LedgerKeyError),
            (Event(group="g", key="k" * 256), LedgerKeyError),
            (event("g", 2, {"a": object()}), UnkeptContextError),
            (5, InvalidSourceError),
        ]
        for bad, error in wrong:
            self.refuse(self.sources.process_events([event("g", 1), bad]), error)
            self.assertRaises(error, self.sources.ledger_events, [event("g", 1), bad])
        self.assertEqual(self.store.events, {})

    def test_within_a_transaction(self) -> None:
        """Events share the fate of the transaction that they are admitted in."""
        self.sources.register_group_handler("", self.note(), name="n")
        with self.assertRaises(ZeroDivisionError), self.store.transaction() as transaction:
            self.sources.admit_within(transaction.connection, [event("g", 1)])
            raise ZeroDivisionError
        self.assertEqual(self.store.events, {})
        with self.store.transaction() as transaction:
            admitted = self.sources.admit_within(transaction.connection, [event("g", 1)] * 2)
        self.assertEqual(admitted, ["admitted", "duplicate"])
        self.sources.wake()
        self.clock.settle()
        self.assertEqual(self.called, ["1:g1"])

    def test_ledger_is_away(self) -> None:
        """Whoever admits is told."""
        self.store.is_away = True
        self.refuse(self.sources.process_events([event("g", 1)]), LedgerUnavailableError)

    def test_not_started(self) -> None:
        """After the stop nothing is admitted, and waking does no harm."""
        self.get(self.sources.stop())
        self.refuse(self.sources.process_events([event("g", 1)]), NotRunningError)
        self.refuse(self.sources.only_new_events([event("g", 1)]), NotRunningError)
        self.sources.wake()


class TimesTests(SourcesTestCase):
    """Handlers that are for a number of events."""

    def setUp(self) -> None:
        """Start, with a handler for two events."""
        super().setUp()
        self.start()
        self.sources.register_group_handler("^g", self.note(), name="n", times=2)

    def process(self, *ids: int) -> None:
        """Process events."""
        self.get(self.sources.process_events([event("g", id) for id in ids]))

    def test_first_ones(self) -> None:
        """It is called for the first new events, and then it is gone."""
        self.process(1)
        self.assertEqual(len(self.sources.handlers()), 1)
        self.process(2, 3)
        self.process(4)
        self.assertEqual(self.called, ["1:g1", "1:g2"])
        self.assertEqual(self.sources.handlers(), [])

    def test_duplicates_do_not_count(self) -> None:
        """An event that is known uses nothing up, also among others that are new."""
        self.process(1, 1, 1, 2, 3)
        self.assertEqual(self.called, ["1:g1", "1:g2"])

    def test_two_who_admit_at_once(self) -> None:
        """A duplicate does not keep an event out that somebody else admits meanwhile."""
        self.process(1)
        both = [
            self.sources.process_events([event("g", 1)]),
            self.sources.process_events([event("g", 2)]),
        ]
        for processed in both:
            self.get(processed)
        self.assertEqual(self.called, ["1:g1", "1:g2"])

    def test_attempts_do_not_count(self) -> None:
        """Another attempt is no other event."""

        def fail_first(event: Event) -> None:
            if event.attempt == 1:
                raise ZeroDivisionError

        self.sources.register_group_handler("^x", fail_first, name="f", times=1)
        self.get(self.sources.process_events([event("x", 1)]))
        self.assertEqual(self.states("1:x1")["f"], "pending")
        self.clock.pass_time(10)
        self.assertEqual(self.states("1:x1")["f"], "done")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_was_refused_does_not_count(self) -> None:
        """An event that the ledger did not take uses nothing up."""
        self.store.is_away = True
        both = self.sources.process_events([event("g", 1), event("g", 2)])
        self.refuse(both, LedgerUnavailableError)
        self.store.is_away = False
        self.clock.pass_time(40)
        self.process(1, 2, 3)
        self.assertEqual(len(self.called), 2)

    def test_within_a_transaction(self) -> None:
        """Duplicates that are admitted with somebody's data do not count either."""
        self.process(1)
        with self.store.transaction() as transaction:
            events = [event("g", id) for id in (1, 2, 3)]
            self.sources.admit_within(transaction.connection, events)
        self.assertEqual(self.states("1:g2"), {"n": "pending"})
        self.assertEqual(self.states("1:g3"), {})


class ChangeHandlerTests(SourcesTestCase):
    """Handlers of what becomes of rows."""

    def test_changes(self) -> None:
        """A change is an event for the handlers of its model and action, with a new key."""
        self.start()
        heard: list[ModelChange] = []
        self.sources.register_change_handler(
            "blog.Post",
            lambda event: heard.append(event["context"]["change"]),
            name="p",
            actions=["created"],
        )
        change = ModelChange(
            "blog.Post", (1, UUID(int=1)), "created", {"n": 1}, {"n": UNKNOWN}, frozenset("n")
        )
        others = [
            ModelChange("blog.Post", 1, "deleted"),
            ModelChange("blog.Poster", 1, "created"),
            ModelChange("myblog.Post", 1, "created"),
            ModelChange("blog-Post", 1, "created"),
        ]
        self.assertTrue(self.sources.has_change_handlers("blog.Post"))
        self.assertFalse(self.sources.has_change_handlers("blog.Poster"))
        self.assertTrue(self.sources.has_group_handlers("blog.Post.created"))
        self.assertFalse(self.sources.has_group_handlers("blog.Post.deleted"))
        events = self.sources.change_events([change, *others, change])
        self.assertEqual([made.group for made in events], ["blog.Post.created"] * 2)
        self.get(self.sources.process_events(events))
        self.assertEqual(heard, [change, change])

    def test_wrong_actions(self) -> None:
        """Actions that there are not are refused."""
        wrong: list[Any] = ["created", [], ["changed"]]
        for actions in wrong:
            with self.assertRaisesRegex(ValueError, "created, modified, deleted, bulk"):
                self.sources.register_change_handler("m", handle, actions=actions)

    def test_all_actions(self) -> None:
        """Without a word it hears of everything."""
        self.sources.register_change_handler(Challenge, handle)
        name = f"{Challenge.__module__}.Challenge"
        actions: Any = ("created", "modified", "deleted", "bulk")
        changes = [ModelChange(name, 1, action) for action in actions]
        self.assertEqual(len(self.sources.change_events(changes)), 4)
