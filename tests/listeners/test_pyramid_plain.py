"""Pyramid: requests without a transaction manager, and those that nobody hears any more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

from pyramid.httpexceptions import HTTPFound, HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from transaction.interfaces import TransientError

from oni.errors import TransactionOverError
from oni.listeners import (
    AfterResourceChanged,
    ResourceChanged,
)
from oni.listeners.pyramid._requests import _outermost
from tests.listeners.pyramid_case import (
    Article,
    PyramidCase,
    RefusedError,
    bad_request,
    refuse,
    subscribed,
)


class WithoutManagerTests(PyramidCase):
    """Requests without a transaction manager."""

    def test_success(self) -> None:
        """It is told when the request has been answered well."""

        def view(request: Request) -> str:
            self.create(request)
            request.dbsession.commit()
            self.assertEqual([], self.heard)
            return "done"

        self.make(
            subscribed(self.hear), subscribed(self.hear, AfterResourceChanged), has_manager=False
        )
        self.assertEqual("done", self.answer(self.ask(view)))
        self.assertEqual([ResourceChanged, AfterResourceChanged], list(map(type, self.heard)))

    def test_failure(self) -> None:
        """A request that fails, or is answered with an error, tells nobody."""

        def fails(request: Request) -> None:
            self.create(request)
            raise RefusedError

        def not_found(request: Request) -> Response:
            self.create(request)
            return Response(status=404)

        self.make(
            subscribed(self.hear), subscribed(self.hear, AfterResourceChanged), has_manager=False
        )
        self.assertRaises(RefusedError, self.ask, fails)
        self.assertEqual(404, self.ask(not_found).status_int)
        self.assertEqual([], self.heard)
        self.assertEqual([], [line for line in self.said if "told to nobody" in line])

    def test_answer_that_is_raised(self) -> None:
        """It is as one that is returned: a redirect is a success, and may be vetoed."""

        def redirects(request: Request) -> None:
            self.create(request)
            request.dbsession.commit()
            raise HTTPFound("/")

        def not_found(request: Request) -> None:
            self.create(request, 2)
            raise HTTPNotFound

        self.make(subscribed(self.hear, AfterResourceChanged), has_manager=False)
        self.assertEqual(302, self.ask(redirects).status_int)
        self.assertEqual(404, self.ask(not_found).status_int)
        self.assertEqual([1], [event.payload["article_id"] for event in self.heard])
        self.make(subscribed(bad_request), has_manager=False)
        self.assertEqual(400, self.ask(lambda request: self.redirect_said(request)).status_int)

    def redirect_said(self, request: Request) -> None:
        """Say something and redirect."""
        request.resource_events.record("article", "create", id=1, new={})
        raise HTTPFound("/")

    def test_veto(self) -> None:
        """What a subscriber raises is the answer, and reaches the views for exceptions."""
        self.make(
            subscribed(bad_request),
            subscribed(self.hear, AfterResourceChanged),
            has_manager=False,
        )
        self.assertEqual(400, self.ask(self.create).status_int)
        self.assertEqual([], self.heard)

    def test_rolled_back_after_a_veto(self) -> None:
        """The session of a request that event sources keep events of goes on without it."""

        def refused(error: Exception, request: Request) -> Response:
            request.dbsession.add(Article(id=2, title="by the view for the exception"))
            request.dbsession.commit()
            return Response(status=409)

        self.make(
            subscribed(refuse),
            lambda config: config.add_exception_view(refused, context=RefusedError),
            has_manager=False,
            is_kept=True,
        )
        self.assertEqual(409, self.ask(self.create).status_int)
        self.assertEqual(["by the view for the exception"], self.shop.titles())

    def test_another_application_within(self) -> None:
        """What it says is told to its own subscribers, with its own transaction."""
        self.make(
            subscribed(self.hear, AfterResourceChanged),
            pyramid__tweens="pyramid_tm.tm_tween_factory pyramid.tweens.excview_tween_factory",
        )
        inner, told = self.application, []

        def view(request: Request) -> None:
            request.resource_events.record("blog", "update", id=1)
            self.shop.view = self.create
            self.answer(Request.blank("/blogs/mine/articles").get_response(inner))
            told.append(len(self.heard))

        self.make(subscribed(self.hear, AfterResourceChanged), has_manager=False)
        self.answer(self.ask(view))
        self.assertEqual([1], told)
        self.assertEqual(["article", "blog"], [event.resource_name for event in self.heard])

    def test_another_application_in_its_place(self) -> None:
        """One that a view lets answer its own request ends nothing of it."""
        self.make(subscribed(self.hear, AfterResourceChanged), has_manager=False)
        inner = self.application

        def say(request: Request, name: str) -> None:
            request.resource_events.record(name, "create", id=1, new={})

        def view(request: Request) -> None:
            self.shop.view = lambda request: say(request, "inner")
            self.answer(request.get_response(inner))
            say(request, "outer")

        self.make(subscribed(self.hear, AfterResourceChanged), has_manager=False)
        self.answer(self.ask(view))
        self.assertEqual(["inner", "outer"], [event.resource_name for event in self.heard])

    def test_nothing_is_left_behind(self) -> None:
        """When it is answered, or has failed, the thread knows nothing of it."""
        self.make(has_manager=False)
        self.answer(self.ask(self.create))
        self.assertIsNone(_outermost.get())

    def test_with_sources(self) -> None:
        """Then the session is committed here, with what is kept for listeners."""
        listeners = {"event_listeners": "log", "event_listeners__log__use": "oni.listeners.log"}
        self.make(has_manager=False, is_kept=True, **listeners)
        self.answer(self.ask(self.create))
        self.assertEqual(
            (["Hello"], ["resource.article.create"]), (self.shop.titles(), self.shop.kept())
        )
        self.make(subscribed(refuse), has_manager=False, is_kept=True)
        self.assertRaises(RefusedError, self.ask, lambda request: self.create(request, 2))
        self.assertEqual((1, 1), (len(self.shop.titles()), len(self.shop.kept())))

    def test_too_late(self) -> None:
        """Who says something after it was told is told so."""

        def again(event: Any) -> None:
            requests[0].resource_events.record("tag", "create", id=1, new={})

        requests: list[Request] = []

        def view(request: Request) -> None:
            requests.append(request)
            self.create(request)

        self.make(subscribed(again, AfterResourceChanged), has_manager=False)
        self.answer(self.ask(view))
        self.assertEqual(1, len(self.flushLoggedErrors(TransactionOverError)))

    def test_said_while_it_is_sent(self) -> None:
        """Who says something when the request has been answered is told so, with or without."""

        def view(request: Request) -> Response:
            def parts() -> Iterator[bytes]:
                request.resource_events.record("tag", "create", id=1, new={})
                yield b"never"

            return Response(app_iter=parts())

        for has_manager in (False, True):
            self.make(subscribed(self.hear), has_manager=has_manager)
            self.assertRaises(TransactionOverError, lambda: self.ask(view).body)
        self.assertEqual([], self.heard)

    def test_tried_again(self) -> None:
        """An attempt after one that was answered says what it has to."""
        attempts = []

        def view(request: Request) -> None:
            attempts.append(request)
            if len(attempts) < 2:
                raise TransientError
            self.create(request)

        self.make(
            subscribed(self.hear),
            lambda config: config.include("pyramid_retry"),
            has_manager=False,
            retry__attempts=2,
        )
        self.answer(self.ask(lambda request: view(request)))
        self.assertEqual(1, len(self.heard))

    def test_freed(self) -> None:
        """A request is freed when it is done, with its session: no cycle keeps it."""

        def says(request: Request) -> None:
            request.resource_events.record("article", "create", id=1, new={})

        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for has_manager in (False, True):
            self.make(has_manager=has_manager)
            for view in (lambda request: request.resource_events, says):
                seen = []

                def keep(request: Request, view: Any = view, seen: Any = seen) -> None:
                    seen.append(weakref.ref(request))
                    view(request)

                self.answer(self.ask(keep))
                self.assertIsNone(seen[0]())

    def test_without_the_tween(self) -> None:
        """Where the tween was left out, the log says that nobody is told."""
        self.make(
            subscribed(self.hear),
            has_manager=False,
            pyramid__tweens="pyramid.tweens.excview_tween_factory",
        )
        self.answer(self.ask(self.create, "/1"))
        self.assertEqual([], self.heard)
        [line] = [line for line in self.said if "told to nobody" in line]
        self.assertIn("/blogs/mine/articles/1", line)

    def test_a_manager_that_is_not_active(self) -> None:
        """A request that the transaction manager leaves alone is one without."""
        for hook in ("pyramid_tm.explicit_manager", None):
            self.heard.clear()
            self.make(
                subscribed(self.hear, AfterResourceChanged),
                tm__manager_hook=hook,
                tm__activate_hook=lambda request: False,
            )
            self.answer(
                self.ask(
                    lambda request: request.resource_events.record(
                        "article", "create", id=1, new={}
                    )
                )
            )
            self.assertEqual(1, len(self.heard), hook)

    def test_said_before_a_transaction_of_the_view(self) -> None:
        """It is told with the answer, whatever becomes of the transaction."""

        def view(request: Request) -> None:
            request.resource_events.record("tag", "create", id=1, new={})
            with request.tm:
                self.create(request)
            self.assertEqual(["article"], [event.resource_name for event in self.heard])

        self.make(
            subscribed(self.hear, AfterResourceChanged), tm__activate_hook=lambda request: False
        )
        self.answer(self.ask(view))
        self.assertEqual(["article", "tag"], [event.resource_name for event in self.heard])

    def test_a_transaction_of_the_view(self) -> None:
        """Where the manager leaves a request alone its view may begin a transaction of its own.

        It is told, and kept, with that transaction, and not once more with the answer.
        """

        def view(request: Request) -> None:
            with request.tm:
                self.create(request)
            self.assertEqual(1, len(self.heard))
            with self.assertRaises(RefusedError), request.tm:
                self.create(request, 2)
                raise RefusedError

        self.make(
            subscribed(self.hear, AfterResourceChanged),
            is_kept=True,
            tm__activate_hook=lambda request: False,
        )
        self.answer(self.ask(view))
        self.assertEqual(1, len(self.heard))
        self.assertEqual(
            (["Hello"], ["resource.article.create"]), (self.shop.titles(), self.shop.kept())
        )
