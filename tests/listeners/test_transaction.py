"""The events of one transaction: merged, told before its end and after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import CascadeError, EventAbortedError, TransactionOverError
from oni.listeners import (
    AfterResourceChanged,
    AfterResourceRead,
    ResourceChanged,
    ResourceEvent,
    ResourceEvents,
    ResourceRead,
    _transaction,
    new_dispatcher,
)
from tests.listeners.kept_case import KeptCase


class TransactionTests(SynchronousTestCase):
    """One attempt of one transaction."""

    def setUp(self) -> None:
        """Begin a transaction."""
        self.dispatcher = new_dispatcher()
        self.heard: list[ResourceEvent] = []
        self.events = self.begin()

    def begin(self) -> ResourceEvents:
        """Begin one."""
        return ResourceEvents(self.dispatcher, "the request", clock=lambda: 1447240896.769)

    def subscribe(
        self, subscriber: Callable[[Any], Any], phase: str = "during", **spec: Any
    ) -> None:
        """Let somebody hear."""
        self.dispatcher.add_event_handler(subscriber, phase, use_weakref=False, **spec)

    def create(self, id: int, **said: Any) -> None:
        """Create an article."""
        self.events.record(
            "article",
            "create",
            id=id,
            uri=f"/articles/{id}",
            user_id="bob",
            new={"id": id},
            **said,
        )

    def test_payload(self) -> None:
        """What the event says, with what the URL matched."""
        self.subscribe(self.heard.append)
        self.create(1, matched={"blog": "mine"})
        self.events.before_commit()
        [event] = self.heard
        self.assertEqual(
            {
                "blog": "mine",
                "timestamp": 1447240896769,
                "action": "create",
                "uri": "/articles/1",
                "user_id": "bob",
                "resource_name": "article",
                "article_id": 1,
            },
            event.payload,
        )
        self.assertIs(int, type(event.payload["timestamp"]))
        self.assertEqual([{"new": {"id": 1}}], event.impacted_records)
        self.assertEqual([{"id": 1, "uri": "/articles/1", "new": {"id": 1}}], event.impacted)
        self.assertEqual("the request", event.request)
        self.assertIsInstance(event, ResourceChanged)

    def test_resource_of_users(self) -> None:
        """Who did it is never mistaken for whom it was done to."""
        self.subscribe(self.heard.append)
        self.events.record("user", "delete", id=7, uri="/users/7", user_id="admin", old={})
        self.events.before_commit()
        [event] = self.heard
        self.assertEqual(("admin", 7), (event.payload["user_id"], event.impacted[0]["id"]))

    def test_merged(self) -> None:
        """One event for a resource and an action, with every record; others for others."""
        self.subscribe(self.heard.append)
        self.create(1)
        self.create(2)
        self.events.record(
            "article", "delete", id=3, uri="/articles/3", old={"deleted": True, "id": 3}
        )
        self.events.record("tag", "create", id="x", uri="/tags/x", new={})
        self.events.before_commit()
        told = [(e.resource_name, e.action, len(e.impacted_records)) for e in self.heard]
        self.assertEqual(
            [("article", "create", 2), ("article", "delete", 1), ("tag", "create", 1)], told
        )
        self.assertEqual([{"old": {"deleted": True, "id": 3}}], self.heard[1].impacted_records)
        self.assertEqual([1, 2], [each["id"] for each in self.heard[0].impacted])

    def test_update(self) -> None:
        """An update has both."""
        self.subscribe(self.heard.append)
        self.events.record(
            "article", "update", id=1, uri="/articles/1", new={"t": "b"}, old={"t": "a"}
        )
        self.events.before_commit()
        self.assertEqual([{"new": {"t": "b"}, "old": {"t": "a"}}], self.heard[0].impacted_records)

    def test_matching(self) -> None:
        """Subscribers are matched by kind, resource and action."""
        self.subscribe(self.heard.append, resource_name="tag")
        self.subscribe(self.heard.append, action="delete")
        self.subscribe(self.heard.append, kind=AfterResourceChanged)
        self.create(1)
        self.events.before_commit()
        self.assertEqual([], self.heard)
        self.events.committed()
        self.assertEqual([AfterResourceChanged], list(map(type, self.heard)))

    def test_veto(self) -> None:
        """Whoever raises in ``before`` vetoes; nobody hears of it afterwards."""

        def refuse(event: ResourceChanged) -> None:
            raise PermissionError("no")

        self.subscribe(refuse, "before", kind=ResourceChanged)
        self.subscribe(self.heard.append)
        self.create(1)
        error = self.assertRaises(EventAbortedError, self.events.before_commit)
        self.assertIsInstance(error.__cause__, PermissionError)
        self.events.rolled_back()
        self.events.committed()
        self.assertEqual([], self.heard)

    def test_after_the_commit(self) -> None:
        """What fails is logged, and stops nobody; the request is over."""

        def fails(event: ResourceEvent) -> None:
            raise ValueError("too late")

        def ends(event: ResourceEvent) -> None:
            raise SystemExit

        self.subscribe(fails, kind=AfterResourceChanged)
        self.subscribe(ends, "before", kind=AfterResourceChanged, resource_name="tag")
        self.subscribe(self.heard.append, "after", kind=AfterResourceChanged)
        self.create(1)
        self.events.record("tag", "create", id=1, uri="/tags/1", new={})
        self.create(2)
        self.events.before_commit()
        self.events.committed()
        self.assertEqual(["article"], [event.resource_name for event in self.heard])
        self.assertEqual([None], [event.request for event in self.heard])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual(1, len(self.flushLoggedErrors(SystemExit)))
        self.events.committed()
        self.assertEqual(1, len(self.heard))

    def test_read(self) -> None:
        """Reading has events of its own."""
        self.subscribe(self.heard.append)
        self.events.record("article", "read", id=1, uri="/articles/1", new={"id": 1})
        self.events.before_commit()
        self.events.committed()
        self.assertEqual([ResourceRead, AfterResourceRead], list(map(type, self.heard)))

    def test_cascade(self) -> None:
        """Subscribers may cause new events, which are told, too."""

        def tag(event: ResourceChanged) -> None:
            self.events.record("tag", "create", id=1, uri="/tags/1", new={})

        self.subscribe(tag, resource_name="article", kind=ResourceChanged)
        self.subscribe(self.heard.append)
        self.create(1)
        self.events.before_commit()
        self.assertEqual(["article", "tag"], [event.resource_name for event in self.heard])
        self.assertEqual(2, len(self.events.told))

    def test_told_in_two_goes(self) -> None:
        """What is said after subscribers were told is told in the next go, and nothing twice."""
        self.subscribe(self.heard.append)
        self.create(1)
        self.events.before_commit()
        self.create(2)
        self.events.before_commit()
        self.assertEqual([1, 2], [event.payload["article_id"] for event in self.heard])

    def test_savepoint(self) -> None:
        """What was said after a savepoint is forgotten with it, as often as one goes back."""
        self.subscribe(self.heard.append)
        self.create(1)
        go_back = self.events.savepoint()
        for number in (2, 3):
            self.create(number)
            self.events.record("tag", "create", id=number, uri="/", new={})
            go_back()
        self.create(4)
        self.events.before_commit()
        self.assertEqual([[1, 4]], [[each["id"] for each in e.impacted] for e in self.heard])

    def test_savepoint_of_what_was_told(self) -> None:
        """What was told of in a savepoint that is undone is not told of after the commit."""
        self.create(1)
        self.events.before_commit()
        go_back = self.events.savepoint()
        self.create(2)
        self.events.before_commit()
        go_back()
        self.subscribe(self.heard.append, kind=AfterResourceChanged)
        self.events.committed()
        self.assertEqual([1], [event.payload["article_id"] for event in self.heard])

    def test_savepoint_among_subscribers(self) -> None:
        """What was said before it is told after the commit, whichever subscribers go back."""
        go_back: list[Callable[[], None]] = []

        def begin(event: ResourceChanged) -> None:
            go_back.append(self.events.savepoint())

        def end(event: ResourceChanged) -> None:
            self.events.record("remark", "create", id=3, uri="/", new={})
            go_back[0]()

        self.subscribe(begin, kind=ResourceChanged, resource_name="article")
        self.subscribe(end, kind=ResourceChanged, resource_name="tag")
        self.subscribe(self.heard.append, kind=AfterResourceChanged)
        self.create(1)
        self.events.record("tag", "create", id=2, uri="/", new={})
        self.events.before_commit()
        self.events.committed()
        self.assertEqual(["article", "tag"], [event.resource_name for event in self.heard])

    def test_swallowed_veto(self) -> None:
        """It is one until the transaction, or its part with the veto, is rolled back."""

        def refuse(event: ResourceChanged) -> None:
            raise PermissionError("no")

        self.subscribe(refuse, "before", kind=ResourceChanged)
        go_back = self.events.savepoint()
        self.create(1)
        for undo in (go_back, self.events.rolled_back):
            error = self.assertRaises(EventAbortedError, self.events.before_commit)
            self.assertIs(error, self.assertRaises(EventAbortedError, self.events.before_commit))
            undo()
            self.events.before_commit()
            self.create(1)

    def test_said_too_late(self) -> None:
        """What was committed, and said when subscribers were told, is in the log."""
        said: list[str] = []

        def note(event: Any) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        self.events.before_commit()
        self.create(1)
        self.events.committed()
        self.assertIn("article", "".join(said))
        said.clear()
        self.subscribe(self.heard.append)
        self.events.before_commit()
        self.events.committed()
        self.assertEqual(([], []), (said, self.heard))

    def test_endless_cascade(self) -> None:
        """But not for ever: the error names what they change."""

        def again(event: ResourceChanged) -> None:
            self.create(1)

        self.subscribe(again, kind=ResourceChanged)
        self.create(1)
        error = self.assertRaises(CascadeError, self.events.before_commit)
        self.assertEqual((10, ("article",)), (error.rounds, error.resources))

    def test_tried_again(self) -> None:
        """A transaction that is tried again tells of what it does then."""
        self.subscribe(self.heard.append, kind=AfterResourceChanged)
        self.create(1)
        self.events.before_commit()
        self.create(3)
        self.events.rolled_back()
        self.events.before_commit()
        self.events.committed()
        self.assertEqual([], self.heard)
        self.events = self.begin()
        self.create(2)
        self.events.before_commit()
        self.events.committed()
        self.assertEqual([2], [event.payload["article_id"] for event in self.heard])

    def test_committed_never_raises(self) -> None:
        """What is done stays done, whatever keeps subscribers from being told of it."""
        self.subscribe(self.heard.append, kind=AfterResourceChanged)
        for id in (1, 2):
            self.events.record(f"article{id}", "create", id=id, uri="/", new={})
        self.events.before_commit()
        fire_here, calls = _transaction.fire_here, iter("ab")

        def fire(*said: Any, **more: Any) -> Any:
            if next(calls) == "a":
                raise MemoryError
            return fire_here(*said, **more)

        self.patch(_transaction, "fire_here", fire)
        self.events.committed()
        self.assertEqual(["article2"], [event.resource_name for event in self.heard])
        self.assertEqual(1, len(self.flushLoggedErrors(MemoryError)))

    def test_records_as_they_were(self) -> None:
        """What becomes of a record after it was said is said anew, or not at all."""
        self.subscribe(self.heard.append)
        record = {"title": "Hello"}
        self.events.record("article", "create", id=1, uri="/", new=record)
        record["title"] = "Oops"
        self.events.before_commit()
        self.assertEqual([{"new": {"title": "Hello"}}], self.heard[0].impacted_records)

    def test_unknown_action(self) -> None:
        """It is refused where it is said."""
        error = self.assertRaises(
            ValueError,
            self.events.record,
            "article",
            "created",
            id=1,
            uri="/",  # type: ignore[arg-type]
        )
        self.assertIn("create, update, delete, read", str(error))

    def test_sources_need_a_connection(self) -> None:
        """What is kept is kept in the transaction, and nowhere else."""
        self.assertRaises(TypeError, ResourceEvents, self.dispatcher, sources=object())


class WithinTests(SynchronousTestCase):
    """A block in a transaction."""

    def setUp(self) -> None:
        """Write down what happens, in order."""
        self.dispatcher = new_dispatcher()
        self.happened: list[str] = []
        for kind in (ResourceChanged, AfterResourceChanged):
            self.dispatcher.add_event_handler(
                lambda event: self.happened.append(type(event).__name__),
                "during",
                use_weakref=False,
                kind=kind,
            )

    @contextmanager
    def transaction(self, fails: bool = False) -> Iterator[str]:
        """Begin a transaction, whose commit may fail."""
        self.happened.append("begin")
        try:
            yield "the session"
            if fails:
                raise ZeroDivisionError
        except BaseException:
            self.happened.append("rollback")
            raise
        self.happened.append("commit")

    def post(self, **options: Any) -> None:
        """Create an article in a transaction."""
        transaction = options.pop("transaction", None) or self.transaction()
        with ResourceEvents.within(transaction, self.dispatcher, **options) as (events, session):
            self.assertEqual("the session", session)
            events.record("article", "create", id=1, uri="/articles/1", new={"id": 1})

    def test_committed(self) -> None:
        """Subscribers hear right before the commit and right after it."""
        self.post()
        told = ["begin", "ResourceChanged", "commit", "AfterResourceChanged"]
        self.assertEqual(told, self.happened)

    def test_block_fails(self) -> None:
        """What a block raises is raised; nothing is committed, and nobody hears of it."""
        with (
            self.assertRaises(ZeroDivisionError),
            ResourceEvents.within(self.transaction(), self.dispatcher) as (events, _),
        ):
            events.record("article", "create", id=1, uri="/articles/1", new={})
            raise ZeroDivisionError
        self.assertEqual(["begin", "rollback"], self.happened)

    def test_veto(self) -> None:
        """A veto rolls back, and nobody hears of it afterwards."""

        def refuse(event: ResourceChanged) -> None:
            raise PermissionError("no")

        self.dispatcher.add_event_handler(refuse, "before", kind=ResourceChanged)
        self.assertRaises(EventAbortedError, self.post)
        self.assertEqual(["begin", "rollback"], self.happened)

    def test_swallowed(self) -> None:
        """Nobody hears after the commit of what a transaction has rolled back in silence."""

        def fail(event: ResourceChanged) -> None:
            raise PermissionError("no")

        @contextmanager
        def swallows() -> Iterator[str]:
            with contextlib.suppress(EventAbortedError), self.transaction() as session:
                yield session

        self.dispatcher.add_event_handler(
            fail, "before", kind=ResourceChanged, resource_name="tag"
        )
        with ResourceEvents.within(swallows(), self.dispatcher) as (events, _):
            events.record("article", "create", id=1, uri="/articles/1", new={})
            events.record("tag", "create", id=1, uri="/tags/1", new={})
        self.assertEqual(["begin", "ResourceChanged", "rollback"], self.happened)

    def test_commit_fails(self) -> None:
        """Nobody hears after a commit that has failed."""
        self.assertRaises(ZeroDivisionError, self.post, transaction=self.transaction(fails=True))
        self.assertEqual(["begin", "ResourceChanged", "rollback"], self.happened)

    def test_said_in_the_commit(self) -> None:
        """What a flush says that is part of the commit would be heard by nobody: it fails."""

        @contextmanager
        def flushes() -> Iterator[str]:
            with self.transaction() as session:
                yield session
                begun[0].record("article", "create", id=1, uri="/", new={})

        begun: list[ResourceEvents] = []
        with (
            self.assertRaises(TransactionOverError),
            ResourceEvents.within(flushes(), self.dispatcher) as (events, _),
        ):
            begun.append(events)
        self.assertEqual(["begin", "rollback"], self.happened)

    def test_options(self) -> None:
        """The request and the other options are the class's."""
        heard: list[ResourceEvent] = []
        self.dispatcher.add_event_handler(heard.append, "during", False, kind=ResourceChanged)
        self.post(request="the request", clock=lambda: 7.0)
        self.assertEqual("the request", heard[0].request)
        self.assertEqual(7000, heard[0].payload["timestamp"])


class KeptInGoesTests(KeptCase):
    """What event sources keep of a transaction that tells in several goes."""

    def test_goes(self) -> None:
        """Each go keeps what is new, also after a savepoint, a commit and a rollback."""
        self.switch_on({"event_listeners": "log", "event_listeners.log.use": "oni.listeners.log"})
        goes: list[list[Any]] = []
        admit_within = self.sources.admit_within

        def admit(connection: Any, events: Any) -> Any:
            goes.append([each["id"] for event in events for each in event["context"]["impacted"]])
            return admit_within(connection, events)

        self.patch(self.sources, "admit_within", admit)
        with self.store.transaction() as begun:
            events = ResourceEvents(
                self.dispatcher, sources=self.sources, connection=lambda: begun.connection
            )

            def go(id: int) -> None:
                events.record("article", "create", id=id, uri="/", new={})
                events.before_commit()

            go(1)
            go_back = events.savepoint()
            go(2)
            go_back()
            go(3)
            events.before_commit()
            events.committed()
            go(4)
            events.rolled_back()
            go(5)
        self.assertEqual([[1], [2], [3], [4], [5]], goes)
