"""Pyramid: what requests say of records is told with their transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

import transaction
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError, ConfigurationExecutionError
from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session, sessionmaker
from transaction.interfaces import TransientError
from twisted.internet.defer import Deferred, succeed

from oni.errors import OtherThreadError, TransactionOverError, UnkeptContextError
from oni.listeners import (
    AfterResourceChanged,
    AfterResourceRead,
    ListenerBase,
    ResourceChanged,
    ResourceRead,
)
from tests.listeners import pyramid_subscribers
from tests.listeners.pyramid_case import (
    Article,
    PyramidCase,
    RefusedError,
    Security,
    bad_request,
    refuse,
    subscribed,
)


class EventTests(PyramidCase):
    """What a subscriber is told."""

    def test_the_seeds_lines(self) -> None:
        """What stands on Cliquet's page works as it is, but for where ResourceChanged is."""
        started = []
        start_download = started.append

        def on_resource_changed(event: Any) -> None:
            resource_name = event.payload["resource_name"]
            action = event.payload["action"]

            if resource_name == "article" and action == "create":
                start_download(event.payload["article_id"])

        self.make(subscribed(on_resource_changed))
        self.answer(self.ask(self.create))
        self.assertEqual([1], started)
        self.assertEqual(["Hello"], self.shop.titles())

    def test_payload(self) -> None:
        """The request says who, where, and what the URL matched."""
        self.make(subscribed(self.hear))
        self.answer(self.ask(self.create, "/x/y?z=1", X_User="bob"))
        [event] = self.heard
        timestamp = event.payload["timestamp"]
        self.assertIs(int, type(timestamp))
        self.assertEqual(
            {
                "blog": "mine",
                "rest": ("x", "y"),
                "timestamp": timestamp,
                "action": "create",
                "uri": "/blogs/mine/articles/x/y",
                "user_id": "bob",
                "resource_name": "article",
                "article_id": 1,
            },
            event.payload,
        )
        self.assertEqual([{"new": {"id": 1, "title": "Hello"}}], event.impacted_records)

    def test_said_otherwise(self) -> None:
        """A view may know better."""

        def view(request: Request) -> None:
            request.resource_events.record(
                "tag", "delete", id=1, old={}, uri="/t/1", user_id="eve", matched={"a": "b"}
            )

        self.make(subscribed(self.hear))
        self.answer(self.ask(view, X_User="bob"))
        payload = self.heard[0].payload
        self.assertEqual(("/t/1", "eve", "b"), tuple(payload[n] for n in ("uri", "user_id", "a")))
        self.assertNotIn("blog", payload)

    def test_nothing_matched(self) -> None:
        """A view may leave out what the URL matched; a request may have matched nothing."""

        def view(request: Request) -> None:
            request.resource_events.record("tag", "create", id=1, new={}, matched={})
            del request.matchdict
            request.resource_events.record("article", "create", id=1, new={})

        self.make(subscribed(self.hear))
        self.answer(self.ask(view))
        for event in self.heard:
            self.assertNotIn("blog", event.payload)

    def test_users(self) -> None:
        """Nobody is None; one who is known by a number is text, as everywhere."""
        self.make(subscribed(self.hear))
        self.answer(self.ask(self.create))
        self.answer(self.ask(lambda request: self.create(request, 2), X_User="7"))
        self.assertEqual([None, "7"], [event.payload["user_id"] for event in self.heard])

    def test_security_policy(self) -> None:
        """It is asked once for each record, and not where the view says who it is."""
        asked: list[Request] = []

        def who(policy: Security, request: Request) -> None:
            asked.append(request)

        def view(request: Request) -> None:
            events = request.resource_events
            asked.clear()
            events.record("article", "create", id=1, new={}, user_id="eve")
            self.assertEqual(0, len(asked))
            events.record("article", "create", id=1, new={})
            self.assertEqual(1, len(asked))

        self.patch(Security, "authenticated_userid", who)
        self.make()
        self.answer(self.ask(view))

    def test_merged(self) -> None:
        """There is one event for each resource and action."""

        def view(request: Request) -> None:
            for number in (1, 2):
                self.create(request, number)
            request.resource_events.record("tag", "create", id=3, new={})

        self.make(subscribed(self.hear))
        self.answer(self.ask(view))
        told = [(e.resource_name, [i["id"] for i in e.impacted]) for e in self.heard]
        self.assertEqual([("article", [1, 2]), ("tag", [3])], told)

    def test_decorator(self) -> None:
        """Pyramid's decorator for subscribers is found by a scan, with the predicates."""
        pyramid_subscribers.heard.clear()
        self.make(lambda config: config.scan(pyramid_subscribers))
        self.answer(self.ask(self.create))
        self.assertEqual(1, len(pyramid_subscribers.heard))

    def test_the_requests_session(self) -> None:
        """A subscriber reads and writes in the request's transaction; both are committed."""

        def subscriber(event: Any) -> None:
            session = event.request.dbsession
            self.hear(session.get(Article, event.payload["article_id"]).title)
            session.add(Article(id=99, title="by the subscriber"))

        self.make(subscribed(subscriber))
        self.answer(self.ask(self.create))
        self.assertEqual(["Hello"], self.heard)
        self.assertEqual(["Hello", "by the subscriber"], self.shop.titles())

    def test_a_session_that_only_a_subscriber_uses(self) -> None:
        """It is committed, too, though it joins when the hooks are called."""

        def subscriber(event: Any) -> None:
            event.request.dbsession.add(Article(id=1, title="by the subscriber"))

        def view(request: Request) -> None:
            request.resource_events.record("tag", "create", id=1, new={})

        self.make(subscribed(subscriber))
        self.answer(self.ask(view))
        self.assertEqual(["by the subscriber"], self.shop.titles())

    def test_after_the_commit(self) -> None:
        """It is told when the row can be seen by others; the request is over."""

        def after(event: Any) -> None:
            self.hear((type(event), event.request, self.shop.titles()))

        self.make(subscribed(after, AfterResourceChanged))
        self.answer(self.ask(self.create))
        self.assertEqual([(AfterResourceChanged, None, ["Hello"])], self.heard)

    def test_failing_after_the_commit(self) -> None:
        """It is logged, and stops neither the others nor the answer."""

        def ends(event: Any) -> None:
            raise SystemExit

        self.make(
            subscribed(refuse, AfterResourceChanged),
            subscribed(ends, AfterResourceChanged),
            subscribed(self.hear, AfterResourceChanged),
        )
        self.answer(self.ask(self.create))
        self.assertEqual(1, len(self.heard))
        self.assertEqual(1, len(self.flushLoggedErrors(RefusedError)))
        self.assertEqual(1, len(self.flushLoggedErrors(SystemExit)))

    def test_read(self) -> None:
        """Reading has events of its own, of which subscribers to changes do not hear."""

        def view(request: Request) -> None:
            request.resource_events.record("article", "read", id=1, new={"id": 1})

        self.make(
            subscribed(self.hear),
            subscribed(self.hear, ResourceRead),
            subscribed(self.hear, AfterResourceRead),
        )
        self.answer(self.ask(view))
        self.assertEqual([ResourceRead, AfterResourceRead], list(map(type, self.heard)))

    def test_cascade(self) -> None:
        """What a subscriber says is told, too, in the same transaction."""

        def tag(event: Any) -> None:
            event.request.resource_events.record("tag", "create", id=7, new={})

        for id, settings in ((1, {}), (2, {"tm__manager_hook": None})):
            self.heard.clear()
            self.make(
                subscribed(tag, for_resources="article"),
                subscribed(self.hear, AfterResourceChanged),
                **settings,
            )
            self.answer(self.ask(partial(self.create, id=id)))
            self.assertEqual(["article", "tag"], [event.resource_name for event in self.heard])

    def test_deferreds(self) -> None:
        """Each that a subscriber returns is waited for, before the next is called."""
        asked = []

        def later(event: Any) -> Deferred[None]:
            asked.append(event)
            return succeed(None)

        thread = __import__("oni.blocking._here", fromlist=["reactor_thread"]).reactor_thread
        waited = []

        def call(what: str, timeout: Any, function: Callable[[], Deferred[Any]]) -> Any:
            waited.append(what)
            return self.successResultOf(function())

        self.patch(type(thread), "call", lambda _, *arguments: call(*arguments))
        self.make(
            subscribed(later),
            subscribed(self.hear),
            subscribed(later, AfterResourceChanged),
            subscribed(later, AfterResourceChanged),
        )
        self.answer(self.ask(self.create))
        self.assertEqual((3, ["fire_here"] * 3, 1), (len(asked), waited, len(self.heard)))


class PredicateTests(PyramidCase):
    """Which events a subscriber hears of."""

    def three(self, request: Request) -> None:
        """Create an article and a tag, and delete one."""
        self.create(request)
        request.resource_events.record("tag", "create", id=1, new={})
        request.resource_events.record("tag", "delete", id=2, old={})

    def told(self, **predicates: Any) -> list[str]:
        """Give what a subscriber with these hears of."""
        self.make(subscribed(self.hear, **predicates))
        self.heard.clear()
        self.shop.engine.dispose()
        with self.shop.sessions.begin() as session:
            session.query(Article).delete()
        self.answer(self.ask(self.three))
        return [f"{event.action} {event.resource_name}" for event in self.heard]

    def test_predicates(self) -> None:
        """Actions and resources, one or several, each by itself and both together."""
        self.assertEqual(
            ["create article", "create tag"], self.told(for_actions=("create", "update"))
        )
        self.assertEqual(["delete tag"], self.told(for_actions="delete"))
        self.assertEqual(["create tag", "delete tag"], self.told(for_resources=["tag"]))
        self.assertEqual(["create tag"], self.told(for_resources="tag", for_actions="create"))
        self.assertEqual([], self.told(for_resources="blog"))
        self.assertEqual(3, len(self.told()))

    def test_other_events(self) -> None:
        """An event that is none of a resource does not match."""
        predicates = ({"for_actions": "create"}, {"for_resources": "article"})
        for number, predicate in enumerate(predicates):
            self.heard.clear()
            self.make(subscribed(self.hear, object, **predicate))
            self.answer(self.ask(partial(self.create, id=number)))
            self.assertEqual(
                [ResourceChanged, AfterResourceChanged], [type(event) for event in self.heard]
            )

    def test_unknown_action(self) -> None:
        """It is told where it was written."""
        for value in ("created", ("create", "read?")):
            error = self.assertRaises(
                ConfigurationExecutionError, self.make, subscribed(refuse, for_actions=value)
            )
            self.assertIn("actions are create, update, delete, read", str(error.evalue))
        for predicate in ({"for_actions": ()}, {"for_resources": [1]}):
            error = self.assertRaises(
                ConfigurationExecutionError, self.make, subscribed(refuse, **predicate)
            )
            self.assertIn(next(iter(predicate)), str(error.evalue))


class VetoTests(PyramidCase):
    """A subscriber that raises before the commit."""

    def test_veto(self) -> None:
        """The exception is the subscriber's own; nothing is committed, nobody hears of it."""
        self.make(
            subscribed(refuse),
            subscribed(self.hear),
            subscribed(self.hear, AfterResourceChanged),
            is_kept=True,
            event_listeners="log",
            event_listeners__log__use="oni.listeners.log",
        )
        self.assertRaises(RefusedError, self.ask, self.create)
        self.assertEqual(([], [], []), (self.shop.titles(), self.shop.kept(), self.heard))
        self.shop.view = lambda request: None  # and its connection is free again
        self.answer(self.ask(lambda request: request.dbsession.add(Article(id=1, title="x"))))
        self.assertEqual(["x"], self.shop.titles())

    def test_answer(self) -> None:
        """An exception that is an answer is the answer."""
        self.make(subscribed(bad_request), subscribed(self.hear, AfterResourceChanged))
        answer = self.ask(self.create)
        self.assertEqual(400, answer.status_int)
        self.assertIn("articles have a title", answer.text)
        self.assertEqual(([], []), (self.shop.titles(), self.heard))

    def test_exception_view(self) -> None:
        """Any other is given to the application's views for exceptions."""

        def refused(error: Exception, request: Request) -> Response:
            return Response(str(error), status=409)

        self.make(
            subscribed(refuse),
            lambda config: config.add_exception_view(refused, context=RefusedError),
        )
        answer = self.ask(self.create)
        self.assertEqual((409, "no", []), (answer.status_int, answer.text, self.shop.titles()))

    def test_one_that_ends_the_program(self) -> None:
        """Nothing is committed, either, and it passes."""

        def end(event: Any) -> None:
            raise KeyboardInterrupt

        self.make(subscribed(end))
        self.assertRaises(KeyboardInterrupt, self.ask, self.create)
        self.assertEqual([], self.shop.titles())

    def test_reading(self) -> None:
        """Who raises when something is read keeps it back."""

        def view(request: Request) -> str:
            request.resource_events.record("article", "read", id=1, new={"id": 1})
            return "the secret"

        self.make(subscribed(bad_request, ResourceRead))
        self.assertEqual(400, self.ask(view).status_int)

    def test_what_cannot_be_kept(self) -> None:
        """It is refused in the transaction, rather than lost after it."""

        def view(request: Request) -> None:
            self.create(request)
            request.resource_events.record("article", "update", id=1, new={"photo": object()})

        self.make(
            is_kept=True,
            event_listeners="log",
            event_listeners__log__use="oni.listeners.log",
        )
        self.assertRaises(UnkeptContextError, self.ask, view)
        self.assertEqual(([], []), (self.shop.titles(), self.shop.kept()))

    def test_nobody_hears_of_what_fails(self) -> None:
        """A view that fails, or answers with an error that is no success to it, tells nobody."""

        def fails(request: Request) -> None:
            self.create(request)
            raise RefusedError

        def not_found(request: Request) -> Response:
            self.create(request)
            return Response(status=404)

        self.make(
            subscribed(self.hear),
            subscribed(self.hear, AfterResourceChanged),
            tm__commit_veto="pyramid_tm.default_commit_veto",
        )
        self.assertRaises(RefusedError, self.ask, fails)
        self.assertEqual(404, self.ask(not_found).status_int)
        self.assertEqual(([], []), (self.heard, self.shop.titles()))

    def test_a_commit_that_fails_itself(self) -> None:
        """Subscribers had their say; those who hear after the commit hear nothing."""

        def view(request: Request) -> None:
            request.resource_events.record("article", "create", id=1, new={})
            request.dbsession.add(Article(id=1, title=None))  # which the database refuses

        self.make(
            subscribed(self.hear),
            subscribed(self.hear, AfterResourceChanged),
            is_kept=True,
            event_listeners="log",
            event_listeners__log__use="oni.listeners.log",
        )
        self.assertRaises(IntegrityError, self.ask, view)
        self.assertEqual([ResourceChanged], list(map(type, self.heard)))
        self.assertEqual([], self.shop.kept())


class AttemptTests(PyramidCase):
    """Requests that are tried again, have several transactions, or requests within."""

    def test_tried_again(self) -> None:
        """An attempt begins with nothing: what the one before it said is forgotten."""
        attempts = []

        def view(request: Request) -> None:
            attempts.append(request)
            self.create(request, len(attempts))
            if len(attempts) < 3:
                raise TransientError

        self.make(
            subscribed(self.hear), subscribed(self.hear, AfterResourceChanged), retry__attempts=3
        )
        self.answer(self.ask(view))
        self.assertEqual([3, 3], [event.payload["article_id"] for event in self.heard])
        self.assertEqual([1, 1], [len(event.impacted) for event in self.heard])
        self.assertEqual(1, len(self.shop.titles()))

    def test_a_subscriber_that_wants_another_attempt(self) -> None:
        """What it raises is what is retried."""
        attempts = []

        def busy(event: Any) -> None:
            attempts.append(event)
            if len(attempts) < 2:
                raise TransientError

        self.make(subscribed(busy), subscribed(self.hear, AfterResourceChanged), retry__attempts=2)
        self.answer(self.ask(self.create))
        self.assertEqual((2, 1), (len(attempts), len(self.heard)))

    def test_two_transactions(self) -> None:
        """A view that commits on its own has told what it said until then."""

        def view(request: Request) -> None:
            self.create(request, 1)
            request.tm.commit()
            self.assertEqual(1, len(self.heard))
            request.tm.begin()
            request.resource_events.record("tag", "create", id=2, new={})
            request.tm.abort()
            request.tm.begin()
            request.resource_events.record("tag", "create", id=3, new={})

        self.make(subscribed(self.hear, AfterResourceChanged))
        self.answer(self.ask(view))
        told = [[each["id"] for each in event.impacted] for event in self.heard]
        self.assertEqual([[1], [3]], told)

    def test_a_transaction_of_a_middleware(self) -> None:
        """Where it is begun and committed around the application, it is told with that."""

        def view(request: Request) -> None:
            request.resource_events.record("article", "create", id=1, new={})

        self.make(subscribed(self.hear, AfterResourceChanged), tm__manager_hook=None)
        self.shop.view = view
        with transaction.manager:
            request = Request.blank("/blogs/mine/articles", environ={"repoze.tm.active": True})
            self.answer(request.get_response(self.application))
            self.assertEqual([], self.heard)
        self.assertEqual(1, len(self.heard))

    def test_said_when_a_middleware_commits(self) -> None:
        """A subscriber may say more: the request is finished, and not committed."""

        def tag(event: Any) -> None:
            event.request.resource_events.record("tag", "create", id=7, new={})

        self.make(
            subscribed(tag, for_resources="article"),
            subscribed(self.hear, AfterResourceChanged),
            tm__manager_hook=None,
        )
        self.shop.view = lambda request: request.resource_events.record(
            "article", "create", id=1, new={}
        )
        for says_so in (True, False):
            self.heard.clear()
            with transaction.manager:
                request = Request.blank("/blogs/mine/articles", environ={"repoze.tm.active": True})
                self.answer(request.get_response(self.application))
                if says_so:
                    del request.environ["repoze.tm.active"]
            self.assertEqual(["article", "tag"], [event.resource_name for event in self.heard])

    def test_requests_within(self) -> None:
        """Those of a batch are one transaction, with one event for each resource and action."""

        def view(request: Request) -> None:
            if "part" in request.matchdict["rest"]:
                events = request.resource_events
                events.record("article", "create", id=request.GET["id"], new={})
                return
            for number in (1, 2):
                part = Request.blank(f"/blogs/mine/articles/part?id={number}")
                request.invoke_subrequest(part)

        for options in ({}, {"tm__manager_hook": None}, {"has_manager": False}):
            self.heard.clear()
            self.make(subscribed(self.hear, AfterResourceChanged), **options)
            self.answer(self.ask(view))
            told = [[each["id"] for each in event.impacted] for event in self.heard]
            self.assertEqual([["1", "2"]], told, options)

    def test_said_in_another_thread(self) -> None:
        """It is refused where the transaction is another thread's: nobody would hear of it."""

        def view(request: Request) -> None:
            thread = Thread(target=say, args=(request,))
            thread.start()
            thread.join()

        def say(request: Request) -> None:
            try:
                request.resource_events.record("article", "create", id=1, new={})
            except OtherThreadError as error:
                failed.append(error)

        failed: list[OtherThreadError] = []
        for hook, times in ((None, 0), ("pyramid_tm.explicit_manager", 1)):
            failed.clear()
            self.make(subscribed(self.hear), tm__manager_hook=hook)
            self.answer(self.ask(view))
            self.assertEqual((1 - times, times), (len(failed), len(self.heard)))

    def test_said_by_another_hook(self) -> None:
        """What another hook says after subscribers were told is told as well."""

        def view(request: Request) -> None:
            self.create(request)
            request.tm.get().addBeforeCommitHook(
                request.resource_events.record,
                ("tag", "create"),
                {"id": 1, "new": {}},
            )

        self.make(
            subscribed(self.hear, AfterResourceChanged),
            is_kept=True,
            event_listeners="log",
            event_listeners__log__use="oni.listeners.log",
        )
        self.answer(self.ask(view))
        self.assertEqual(["article", "tag"], [event.resource_name for event in self.heard])
        self.assertEqual(["resource.article.create", "resource.tag.create"], self.shop.kept())

    def test_vetoed_then_said(self) -> None:
        """After a veto nobody is asked about anything more."""

        def view(request: Request) -> None:
            self.create(request)
            request.tm.get().addBeforeCommitHook(
                request.resource_events.record, ("tag", "create"), {"id": 1, "new": {}}
            )

        def first(event: Any) -> None:
            self.hear(event)
            raise RefusedError

        self.make(subscribed(first))
        self.assertRaises(RefusedError, self.ask, view)
        self.assertEqual(1, len(self.heard))

    def test_too_late(self) -> None:
        """Who says something when the commit has begun, or is over, is told so."""
        requests: list[Request] = []

        def view(request: Request) -> None:
            requests.append(request)
            self.create(request)

        def say(event: Any = None) -> None:
            requests[0].resource_events.record("tag", "create", id=1, new={})

        class Late:
            """Says something when all hooks were called."""

            transaction_manager = None

            def sortKey(self) -> str:
                return "late"

            def tpc_vote(self, transaction: Any) -> None:
                say()

            def __getattr__(self, name: str) -> Any:
                return lambda *_: None

        for hook in ("pyramid_tm.explicit_manager", None):
            requests.clear()
            self.make(subscribed(say, AfterResourceChanged), tm__manager_hook=hook)
            self.answer(self.ask(lambda request: view(request)))
            self.assertEqual(1, len(self.flushLoggedErrors(TransactionOverError)), hook)
            with self.shop.sessions.begin() as session:
                session.query(Article).delete()

        self.make(lambda config: None)
        requests.clear()

        def joins(request: Request) -> None:
            view(request)
            request.tm.get().join(Late())

        self.assertRaises(TransactionOverError, self.ask, joins)
        requests.clear()

        def joins_only(request: Request) -> None:
            requests.append(request)
            request.tm.get().join(Late())

        self.assertRaises(TransactionOverError, self.ask, joins_only)
        self.assertEqual([], self.shop.titles())


class ConfigurationTests(PyramidCase):
    """What is switched on when."""

    def test_listeners(self) -> None:
        """Those that the settings name hear after the commit; the registry has them."""
        self.make(event_listeners="log", event_listeners__log__use="oni.listeners.log")
        self.answer(self.ask(self.create, X_User="bob"))
        self.assertIn("create article 1 by bob", self.said)
        listeners = self.application.registry["oni.listeners"]
        self.assertEqual({"log": 1}, listeners.calls)
        self.assertIsInstance(listeners.by_name["log"], ListenerBase)

    def test_kept(self) -> None:
        """With event sources they hear by them: of what was committed, in its transaction."""
        listeners = {"event_listeners": "log", "event_listeners__log__use": "oni.listeners.log"}
        self.make(is_kept=True, **listeners)
        self.answer(self.ask(self.create))
        self.assertEqual(["resource.article.create"], self.shop.kept())
        self.assertNotIn("create article 1 by nobody known", self.said)
        self.successResultOf(self.shop.sources.start())
        self.shop.clock.pass_time(2)
        self.assertIn("create article 1 by nobody known", self.said)
        stopped = self.shop.sources.stop(1)
        self.shop.clock.pass_time(2)
        self.successResultOf(stopped)

    def test_not_kept_of_what_was_only_read(self) -> None:
        """Where no listener hears of reading, nothing is written for it, nor must it be JSON."""

        def view(request: Request) -> None:
            request.resource_events.record("article", "read", id=1, new={"photo": object()})
            self.assertIsNone(request.dbsession.get_transaction())

        self.make(
            subscribed(self.hear, AfterResourceRead),
            is_kept=True,
            event_listeners="log",
            event_listeners__log__use="oni.listeners.log",
        )
        self.answer(self.ask(view))
        self.assertEqual(([], 1), (self.shop.kept(), len(self.heard)))

    def test_kept_by_a_session_of_the_thread(self) -> None:
        """What stands for each thread's own session is one, with a transaction manager or not."""
        for number, has_manager in enumerate((True, False), 1):
            sessions = scoped_session(sessionmaker(self.shop.engine))
            self.addCleanup(sessions.remove)
            if has_manager:
                zope.sqlalchemy.register(sessions)

            def add(config: Configurator, sessions: Any = sessions) -> None:
                config.set_event_sources(self.shop.sources, session=lambda request: sessions)

            def view(request: Request, sessions: Any = sessions, number: int = number) -> None:
                sessions.add(Article(id=number, title="Hello"))
                request.resource_events.record("article", "create", id=number, new={})

            self.make(add, has_manager=has_manager, tm__manager_hook=None)
            self.answer(self.ask(view))
            self.assertEqual(number, len(self.shop.titles()))
            self.assertEqual(number, len(self.shop.kept()))

    def test_kept_of_what_was_only_read(self) -> None:
        """A session that has changed nothing is committed all the same: the ledger has."""

        def view(request: Request) -> None:
            request.dbsession.get(Article, 1)
            request.resource_events.record("article", "read", id=1, new={"id": 1})

        self.make(
            is_kept=True,
            event_listeners="log",
            event_listeners__log__use="oni.listeners.log",
            event_listeners__log__actions="read",
        )
        self.answer(self.ask(view))
        self.assertEqual(["resource.article.read"], self.shop.kept())

    def test_the_dispatcher(self) -> None:
        """It is in the registry, for handlers that are not Pyramid's."""

        def add(config: Configurator) -> None:
            config.registry["oni.resources"].add_event_handler(
                self.hear, "during", use_weakref=False, kind=ResourceChanged, action="create"
            )

        self.make(add)
        self.answer(self.ask(self.create))
        self.assertEqual(1, len(self.heard))

    def test_wrong_settings(self) -> None:
        """They are told when the application is made."""
        error = self.assertRaises(ConfigurationExecutionError, self.make, event_listeners="x")
        self.assertIn("event_listeners.x.use", str(error.evalue))

    def test_wrong_sources(self) -> None:
        """So are event sources that are none."""

        def add(config: Configurator) -> None:
            config.set_event_sources(object())

        self.assertRaises(ConfigurationExecutionError, self.make, add)

    def test_sources_too_late(self) -> None:
        """Event sources that listeners could not have are refused."""
        config = Configurator(autocommit=True)
        config.include("oni.listeners.pyramid")
        error = self.assertRaises(ConfigurationError, config.set_event_sources, self.shop.sources)
        self.assertIn("before", str(error))

    def test_included_twice(self) -> None:
        """It is as if it was included once."""
        self.make(subscribed(self.hear), lambda config: config.include("oni.listeners.pyramid"))
        self.answer(self.ask(self.create))
        self.assertEqual(1, len(self.heard))
