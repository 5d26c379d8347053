"""What the listeners and events that these are after did not survive. One test for each of those.

Kinto tells listeners before the commit, its Redis listener swallows what fails and puts a payload
without records, and its subscribers may cause each other for ever.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oni.errors import CascadeError, EventAbortedError, UnkeptContextError
from oni.listeners import (
    AfterResourceChanged,
    ResourceChanged,
    ResourceEvents,
    activate,
    new_dispatcher,
)
from oni.listeners._activate import event_of
from oni.listeners.redis import Listener
from tests.listeners.fake_redis import FakeRedis
from tests.listeners.kept_case import KeptCase

REDIS = {"event_listeners": "redis", "event_listeners.redis.use": "oni.listeners.redis"}
KEY = "oni:events"


class ChapterZeroTests(KeptCase):
    """Transactions, and a listener that puts what it hears into a list."""

    def setUp(self) -> None:
        """Switch it on."""
        super().setUp()
        self.server = FakeRedis()
        module = __import__("oni.listeners.redis", fromlist=["_client"])
        self.patch(module, "_client", lambda url, timeout: self.server)
        self.switch_on(REDIS)

    def put(self) -> list[dict[str, Any]]:
        """Give what was put there, oldest first."""
        return [json.loads(text) for text in reversed(self.server.kept.get(KEY, []))]

    def subscribe(self, subscriber: Any, phase: str = "during", **spec: Any) -> None:
        """Let somebody hear."""
        self.dispatcher.add_event_handler(subscriber, phase, use_weakref=False, **spec)

    # --- Listeners

    def test_no_listener_before_the_commit(self) -> None:
        """A listener hears when the transaction is over, and nothing of one that was undone."""
        with self.store.transaction() as transaction:
            events = self.events_in(transaction)
            events.record("article", "create", id=1, uri="/", new={})
            events.before_commit()
            self.assertEqual([], self.put())
        events.committed()
        self.transact(id=2, rolled_back=True)
        self.run_for(60)
        self.assertEqual([1], [event["article_id"] for event in self.put()])

    def test_a_commit_that_fails_itself(self) -> None:
        """Subscribers had their say, and the database refuses: no listener hears."""

        class RefusedError(Exception):
            pass

        def commit() -> None:
            with self.store.transaction() as transaction:
                events = self.events_in(transaction)
                events.record("article", "create", id=1, uri="/", new={})
                events.before_commit()
                raise RefusedError

        self.assertRaises(RefusedError, commit)
        self.run_for(60)
        self.assertEqual([], self.put())

    def test_killed_after_the_commit(self) -> None:
        """The process dies before anybody is told: the next one finds it."""
        with self.store.transaction() as transaction:
            events = self.events_in(transaction)
            events.record("article", "create", id=1, uri="/", new={})
            events.before_commit()
        del events  # neither committed() nor a wake-up
        self.sources = self.make_sources()
        activate(REDIS, new_dispatcher(), self.sources)
        self.successResultOf(self.sources.start())
        self.addCleanup(self.stop, self.sources)
        self.run_for(60)
        self.assertEqual([1], [event["article_id"] for event in self.put()])

    def test_a_hook_that_raises(self) -> None:
        """What subscribers raise after the commit reaches neither the others nor the request."""
        heard: list[Any] = []

        def fails(event: Any) -> None:
            raise SystemExit

        self.subscribe(fails, kind=AfterResourceChanged)
        self.subscribe(heard.append, phase="after", kind=AfterResourceChanged)
        self.transact(id=1)
        self.assertEqual(1, len(self.flushLoggedErrors(SystemExit)))
        self.assertEqual(1, len(heard))
        self.assertEqual([1], [event["article_id"] for event in self.put()])

    def test_redis_is_down(self) -> None:
        """What commits while it is, is there when it is not any more."""
        self.server.is_away = True
        self.transact(id=1)
        self.run_for(3600)
        self.server.is_away = False
        self.run_for(301)
        self.assertEqual([1], [event["article_id"] for event in self.put()])

    def test_the_queue_is_bounded(self) -> None:
        """When nobody takes, the queue does not grow for ever; what is over it stays kept."""
        listener = Listener(key=KEY, max_length=3, client=self.server)
        self.sources.unregister_group_handler("listener.redis")
        self.sources.register_group_handler(
            "^resource", lambda event: listener(event_of(event)), name="small"
        )
        for number in range(5):
            self.transact(id=number)
        self.run_for(10)
        self.assertEqual(3, len(self.put()))
        self.assertEqual(2, self.counted("pending"))

    # --- What is said

    def test_payload_with_records(self) -> None:
        """The records are in what is put there, old and new."""
        self.transact(id=1, title="Hello")
        [event] = self.put()
        self.assertEqual([{"new": {"id": 1, "title": "Hello"}}], event["impacted_records"])

    def test_not_serialisable(self) -> None:
        """What nobody could read later is refused in the transaction, not dropped after it."""
        error = self.assertRaises(UnkeptContextError, self.transact, photo=object())
        self.assertIn("photo", error.field)
        self.assertEqual({}, dict(self.store.events))

    def test_a_batch_names_every_record(self) -> None:
        """Records of one event each have their id and URI, not only the first."""
        heard: list[Any] = []
        self.subscribe(heard.append, kind=AfterResourceChanged)
        events = ResourceEvents(self.dispatcher)
        for number in (1, 2):
            events.record("article", "create", id=number, uri=f"/{number}", new={})
        events.before_commit()
        events.committed()
        self.assertEqual([(1, "/1"), (2, "/2")], [(e["id"], e["uri"]) for e in heard[0].impacted])

    # --- Subscribers

    def test_no_cascade_without_a_cap(self) -> None:
        """A subscriber that always causes more is stopped, and the transaction with it."""

        def again(event: ResourceChanged) -> None:
            events.record("article", "update", id=1, uri="/", new={})

        self.subscribe(again, kind=ResourceChanged)
        events = ResourceEvents(self.dispatcher)
        again(None)  # type: ignore[arg-type]
        self.assertRaises(CascadeError, events.before_commit)

    @given(st.lists(st.tuples(st.sampled_from(("before", "during", "after")), st.booleans())))
    def test_vetoes(self, subscribers: list[tuple[str, bool]]) -> None:
        """Whoever else hears: after a veto nothing is kept, told or put there."""
        dispatcher = new_dispatcher()
        after: list[Any] = []
        dispatcher.add_event_handler(
            after.append, "during", use_weakref=False, kind=AfterResourceChanged
        )

        def fails(event: Any) -> None:
            raise PermissionError("no")

        def hears(event: Any) -> None:
            pass

        for phase, does_fail in subscribers:
            dispatcher.add_event_handler(
                fails if does_fail else hears, phase, use_weakref=False, kind=ResourceChanged
            )
        is_vetoed = ("before", True) in subscribers
        before = len(self.store.events), len(self.put())
        self.dispatcher = dispatcher
        try:
            self.transact_or_undo()
        except EventAbortedError:
            self.assertTrue(is_vetoed)
        else:
            self.assertFalse(is_vetoed)
        self.flushLoggedErrors(PermissionError)
        grown = len(self.store.events) - before[0], len(self.put()) - before[1]
        self.assertEqual((0, 0) if is_vetoed else (1, 1), grown)
        self.assertEqual(0 if is_vetoed else 1, len(after))

    def transact_or_undo(self) -> None:
        """Create a record; undo it if somebody vetoes, as a framework does."""
        events = None
        try:
            with self.store.transaction() as transaction:
                events = self.events_in(transaction)
                events.record("article", "create", id=1, uri="/", new={})
                events.before_commit()
        except EventAbortedError:
            assert events is not None
            events.rolled_back()
            raise
        events.committed()
        self.run_for(2)
