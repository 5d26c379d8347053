"""What Kinto's events did not survive, in a Pyramid application of ours. One test for each.

It keeps articles in SQLite, and has a listener that puts what it hears into a list of Redis.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pyramid.request import Request

from oni.errors import CascadeError, UnkeptContextError
from oni.ledger import Ledger
from oni.listeners import (
    AfterResourceChanged,
    ResourceChanged,
    ResourceEvents,
    activate,
    new_dispatcher,
)
from oni.sources import EventSources
from tests.ledger.threads import AtOnce
from tests.listeners.fake_redis import FakeRedis
from tests.listeners.pyramid_case import Article, PyramidCase
from tests.sources.house import HandPool

REDIS = {
    "event_listeners": "redis",
    "event_listeners.redis.use": "oni.listeners.redis",
    "event_listeners.redis.key": "queue",
}


class RefusedError(Exception):
    """Somebody does not want it."""


class KintoTests(PyramidCase):
    """Requests, and what is in the list."""

    def setUp(self) -> None:
        """Make the list, and let event sources begin."""
        super().setUp()
        self.server = FakeRedis()
        module = __import__("oni.listeners.redis", fromlist=["_client"])
        self.patch(module, "_client", lambda url, timeout: self.server)

    def begin(
        self,
        *subscribers: Callable[[Any], Any],
        kind: type = ResourceChanged,
        is_kept: bool = True,
    ) -> None:
        """Make the application, with subscribers, and start the event sources that it has."""

        def add(config: Any) -> None:
            for subscriber in subscribers:
                config.add_subscriber(subscriber, kind)

        self.make(add, is_kept=is_kept, **{n.replace(".", "__"): v for n, v in REDIS.items()})
        if is_kept:
            self.start(self.shop.sources)

    def start(self, sources: EventSources) -> None:
        """Start event sources, until the end of the test."""
        started = sources.start()
        self.shop.clock.pass_time(1)
        self.successResultOf(started)

        def stop() -> None:
            stopped = sources.stop(1)
            self.shop.clock.pass_time(2)
            self.successResultOf(stopped)

        self.addCleanup(stop)

    def put(self, after: float = 2) -> list[dict[str, Any]]:
        """Give what was put into the list after some seconds, oldest first."""
        if after:
            self.shop.clock.pass_time(after)
        return [json.loads(text) for text in reversed(self.server.kept.get("queue", []))]

    def test_listener_before_the_commit(self) -> None:
        """A listener hears nothing before the commit, nor of a commit that then fails."""

        def nothing_yet(event: Any = None) -> None:
            self.assertEqual(len(committed), len(self.put(0)))

        def view(request: Request) -> None:
            self.create(request, len(committed) + 1)
            request.dbsession.flush()
            nothing_yet()

        class Full:
            """A resource that cannot be committed when all others have said that they can."""

            transaction_manager = None

            def sortKey(self) -> str:
                return "z"

            def tpc_vote(self, transaction: Any) -> None:
                raise OSError("the disk is full")

            def __getattr__(self, name: str) -> Any:
                return lambda *_: None

        def full(request: Request) -> None:
            self.create(request, 9)
            request.tm.get().join(Full())

        committed: list[int] = []
        for is_kept in (False, True):
            self.begin(nothing_yet, is_kept=is_kept)
            self.answer(self.ask(view))
            self.put()
            committed.append(len(committed) + 1)
            self.assertRaises(OSError, self.ask, full)
            heard = [event["article_id"] for event in self.put()]
            self.assertEqual(committed, heard)
            self.assertEqual(len(committed), len(self.shop.titles()))

    def test_listener_swallows_that_redis_is_down(self) -> None:
        """What was committed meanwhile is there when it is up again."""
        self.begin()
        self.server.is_away = True
        self.answer(self.ask(self.create))
        self.assertEqual([], self.put(10))
        self.server.is_away = False
        self.assertEqual([1], [event["article_id"] for event in self.put(10)])

    def test_payload_without_records(self) -> None:
        """They are in the list, new and old."""

        def view(request: Request) -> None:
            request.resource_events.record(
                "article", "update", id=1, new={"title": "b"}, old={"title": "a"}
            )

        self.begin()
        self.answer(self.ask(view))
        [event] = self.put()
        self.assertEqual(
            [{"new": {"title": "b"}, "old": {"title": "a"}}], event["impacted_records"]
        )

    def test_not_serialisable(self) -> None:
        """It is refused in the transaction, rather than dropped after it."""

        def view(request: Request) -> None:
            request.dbsession.add(Article(id=1, title="Hello"))
            request.resource_events.record("article", "create", id=1, new={"by": object()})

        self.begin()
        self.assertRaises(UnkeptContextError, self.ask, view)
        self.assertEqual([], self.shop.titles())

    def test_a_batch_tells_of_the_first_only(self) -> None:
        """Each record of a batch has its own id and URI beside it."""

        def view(request: Request) -> None:
            if request.matchdict["rest"]:
                self.assertEqual("POST", request.method)
                request.resource_events.record(
                    "article", "create", id=request.matchdict["rest"][0], new={}
                )
                return
            for number in (1, 2):
                path = f"/blogs/mine/articles/{number}"
                request.invoke_subrequest(Request.blank(path, method="POST"))

        self.begin(self.hear)
        self.answer(self.ask(view))
        [event] = self.heard
        self.assertEqual(
            [("1", "/blogs/mine/articles/1"), ("2", "/blogs/mine/articles/2")],
            [(each["id"], each["uri"]) for each in event.impacted],
        )

    def test_cascade_without_a_cap(self) -> None:
        """A subscriber that always causes more is stopped, and the transaction with it."""

        def again(event: Any) -> None:
            event.request.resource_events.record("article", "update", id=1, new={})

        self.begin(again)
        self.assertRaises(CascadeError, self.ask, self.create)
        self.assertEqual(([], [], []), (self.shop.titles(), self.shop.kept(), self.put()))

    def test_death_between_commit_and_hook(self) -> None:
        """The next process finds what was committed, though no hook was called."""
        self.patch(ResourceEvents, "committed", lambda events: None)
        self.make(is_kept=True, **{n.replace(".", "__"): v for n, v in REDIS.items()})
        self.answer(self.ask(self.create))
        ledger = Ledger(
            self.shop.store,
            interval=None,
            reactor=self.shop.clock,
            make_threads=lambda *_: AtOnce(),
        )
        next_ones = EventSources(
            ledger, reactor=self.shop.clock, make_pool=lambda size: HandPool()
        )
        activate(REDIS, new_dispatcher(), next_ones)
        self.start(next_ones)
        self.assertEqual([1], [event["article_id"] for event in self.put()])

    def test_a_hook_that_raises(self) -> None:
        """The application is as it was: the answer, the others and the next request."""

        def fails(event: Any) -> None:
            raise RefusedError

        self.begin(fails, self.hear, kind=AfterResourceChanged)
        for number in (1, 2):
            self.answer(self.ask(lambda request, id=number: self.create(request, id)))
        self.assertEqual(2, len(self.heard))
        self.assertEqual(2, len(self.put()))
        self.assertEqual(2, len(self.flushLoggedErrors(RefusedError)))
