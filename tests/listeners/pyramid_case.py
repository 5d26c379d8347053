"""A small Pyramid application on SQLite, for tests of what it tells of its resources."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.listeners import ResourceChanged
from oni.sources import EventSources
from tests.ledger.threads import AtOnce
from tests.sources.house import HandPool, Reactor

__all__ = [
    "Article",
    "PyramidCase",
    "RefusedError",
    "Shop",
    "bad_request",
    "refuse",
    "subscribed",
]


class Base(DeclarativeBase):
    """What the models have in common."""


class Article(Base):
    """What the application serves."""

    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Security:
    """Believes whoever says who they are."""

    def identity(self, request: Request) -> Any:
        """Give who it is."""
        return self.authenticated_userid(request)

    def authenticated_userid(self, request: Request) -> Any:
        """Give who it is, by a number where that is said."""
        said = request.headers.get("X-User")
        return int(said) if said and said.isdecimal() else said


class Shop:
    """A database with articles, an application on it, and event sources in it.

    Attributes:
        engine: The database.
        view: What a request does; a test says it.
        clock: The time of the ledger.
        sources: Event sources; the application has them if it is made with ``is_kept``.
    """

    def __init__(self, url: str) -> None:
        self.engine = prepare_engine(sa.create_engine(url), synchronous="NORMAL", busy_timeout=1)
        Base.metadata.create_all(self.engine)
        self.sessions = sessionmaker(self.engine)
        self.view: Callable[[Request], Any] = lambda request: None
        self.clock = Reactor()
        self.store = SqlAlchemyStore(self.engine, clock=self.clock.seconds)
        self.store.open()
        self.sources = EventSources(
            Ledger(
                self.store, interval=None, reactor=self.clock, make_threads=lambda *_: AtOnce()
            ),
            reactor=self.clock,
            random=lambda: 0.5,
            make_pool=lambda size: HandPool(),
        )

    def make(
        self,
        *add: Callable[[Configurator], Any],
        is_kept: bool = False,
        has_manager: bool = True,
        **settings: Any,
    ) -> Any:
        """Make the application.

        Args:
            add: What is configured besides.
            is_kept: Whether event sources keep events for listeners.
            has_manager: Whether there is a transaction manager.
            settings: Further settings, ``__`` for a dot.
        """
        given = {"tm.manager_hook": "pyramid_tm.explicit_manager"}
        given |= {name.replace("__", "."): value for name, value in settings.items()}
        config = Configurator(settings={k: v for k, v in given.items() if v is not None})
        config.set_security_policy(Security())
        if has_manager:
            config.include("pyramid_retry")
            config.include("pyramid_tm")
        config.include("oni.listeners.pyramid")
        if is_kept:
            config.set_event_sources(self.sources)
        config.add_request_method(
            self.joined if has_manager else self.own, "dbsession", reify=True
        )
        config.add_route("articles", "/blogs/{blog}/articles*rest")
        config.add_view(lambda request: self._answer(request), route_name="articles")
        for function in add:
            function(config)
        return config.make_wsgi_app()

    def joined(self, request: Request) -> Session:
        """Give a session that the request's transaction manager commits."""
        session = self.sessions()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    def own(self, request: Request) -> Session:
        """Give a session that nobody else commits."""
        session = self.sessions()
        request.add_finished_callback(lambda _: session.close())
        return session

    def _answer(self, request: Request) -> Response:
        answer = self.view(request)
        return answer if isinstance(answer, Response) else Response(json=answer)

    def titles(self) -> list[str]:
        """Give what is committed."""
        with self.sessions() as session:
            return list(session.scalars(sa.select(Article.title).order_by(Article.id)))

    def kept(self) -> list[str]:
        """Give the groups of the events that are in the ledger."""
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT group_name FROM oni_event").scalars()
            return sorted(found)

    def close(self) -> None:
        """End every connection."""
        self.store.close()
        self.engine.dispose()


def subscribed(
    subscriber: Callable[[Any], Any], kind: type = ResourceChanged, **predicates: Any
) -> Callable[[Configurator], None]:
    """Give what adds a subscriber."""

    def add(config: Configurator) -> None:
        config.add_subscriber(subscriber, kind, **predicates)

    return add


class RefusedError(Exception):
    """Somebody does not want it."""


def refuse(event: Any) -> None:
    """Refuse it."""
    raise RefusedError("no")


def bad_request(event: Any) -> None:
    """Refuse it with an answer."""
    raise HTTPBadRequest("articles have a title")


class PyramidCase(SynchronousTestCase):
    """Has a shop, and requests to its application.

    Attributes:
        heard: What :meth:`hear` was called with.
        said: What was logged, as text.
    """

    def setUp(self) -> None:
        """Make an empty one."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.shop = Shop(f"sqlite:///{folder}/shop.db")
        self.addCleanup(self.shop.close)
        self.heard: list[Any] = []
        self.said: list[str] = []

        def note(event: Any) -> None:
            text = event.get("log_format") or ""
            self.said.append(text.format(**event) if "log_failure" not in event else text)

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)

    def make(self, *add: Callable[[Configurator], Any], **options: Any) -> None:
        """Make the application: see :meth:`Shop.make`."""
        self.application = self.shop.make(*add, **options)

    def hear(self, event: Any) -> None:
        """Hear of an event."""
        self.heard.append(event)

    def ask(self, view: Callable[[Request], Any], path: str = "", **headers: str) -> Response:
        """Let a request do something; give the answer."""
        self.shop.view = view
        request = Request.blank(
            f"/blogs/mine/articles{path}",
            method="POST",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return request.get_response(self.application)

    def create(self, request: Request, id: int = 1, title: str = "Hello") -> None:
        """Create an article, as a view does."""
        request.dbsession.add(Article(id=id, title=title))
        request.resource_events.record("article", "create", id=id, new={"id": id, "title": title})

    def answer(self, response: Response) -> Any:
        """Give what a good answer says."""
        self.assertEqual(200, response.status_int, response.text)
        return json.loads(response.body)
