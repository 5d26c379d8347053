"""Articles of blogs on Pyramid, with a listener and a subscriber who may refuse them.

Run it in this folder with ``PYTHONPATH=. pserve blog.ini``, then::

    curl -d '{"title": "Hello"}' http://127.0.0.1:6543/blogs/mine/articles
    curl -d '{"title": "HELLO"}' http://127.0.0.1:6543/blogs/mine/articles
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from oni.blocking import BlockingEventSources, setup
from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.listeners import ResourceChanged
from oni.sources import EventSources


class Base(DeclarativeBase):
    """What the models have in common."""


class Article(Base):
    """What somebody has written."""

    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    blog: Mapped[str]
    title: Mapped[str]

    def record(self) -> dict[str, Any]:
        """Give what clients see of it."""
        return {"id": self.id, "title": self.title}


def refuse_shouting(event: ResourceChanged) -> None:
    """Veto: this is called in the request's transaction, which is rolled back when it raises."""
    for record in event.impacted_records:
        if record["new"]["title"].isupper():
            raise HTTPBadRequest(json={"error": "please do not shout"})


def refuse_twice(event: ResourceChanged) -> None:
    """Veto what the database knows: the session is the request's own."""
    session: Session = event.request.dbsession
    for record in event.impacted_records:
        same = sa.select(sa.func.count()).where(
            Article.blog == event.payload["blog"], Article.title == record["new"]["title"]
        )
        if session.scalar(same) != 1:
            raise HTTPBadRequest(json={"error": "there is such an article"})


@view_config(route_name="articles", request_method="GET", renderer="json")
def list_articles(request: Request) -> Any:
    """Give a blog's articles."""
    articles = sa.select(Article).filter_by(blog=request.matchdict["blog"]).order_by(Article.id)
    return [article.record() for article in request.dbsession.scalars(articles)]


@view_config(route_name="articles", request_method="POST", renderer="json")
def create_article(request: Request) -> Any:
    """Create an article."""
    article = Article(blog=request.matchdict["blog"], title=title_of(request))
    request.dbsession.add(article)
    request.dbsession.flush()  # now it has its id
    new = article.record()
    request.resource_events.record("article", "create", id=article.id, new=new)
    request.response.status = 201
    return new


@view_config(route_name="article", request_method="PUT", renderer="json")
def update_article(request: Request) -> Any:
    """Change an article."""
    article = find_article(request)
    old = article.record()
    article.title = title_of(request)
    new = article.record()
    request.resource_events.record("article", "update", id=article.id, new=new, old=old)
    return new


@view_config(route_name="article", request_method="DELETE", renderer="json")
def delete_article(request: Request) -> Any:
    """Delete an article."""
    article = find_article(request)
    request.dbsession.delete(article)
    old = article.record()
    request.resource_events.record("article", "delete", id=article.id, old=old)
    return old


def find_article(request: Request) -> Article:
    """Find the article that the URL names."""
    article = request.dbsession.get(Article, int(request.matchdict["id"]))
    if article is None or article.blog != request.matchdict["blog"]:
        raise HTTPNotFound(json={"error": "there is no such article"})
    return article


def title_of(request: Request) -> str:
    """Give the title that a client has sent."""
    try:
        title = request.json_body["title"]
    except (ValueError, KeyError, TypeError):
        title = None
    if not isinstance(title, str):
        raise HTTPBadRequest(json={"error": "send an object with a title"})
    return title


def main(global_config: dict[str, str], **settings: Any) -> Any:
    """Make the application of the settings in a file."""
    engine = prepare_engine(sa.create_engine(settings["sqlalchemy.url"]))
    Base.metadata.create_all(engine)

    def dbsession(request: Request) -> Session:
        session = Session(engine)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    sources = EventSources(Ledger(SqlAlchemyStore(engine)))  # in the articles' database

    with Configurator(settings=settings) as config:
        config.include("pyramid_tm")
        config.include("oni.listeners.pyramid")
        config.set_event_sources(sources)
        config.add_request_method(dbsession, reify=True)
        changes = {"for_actions": ("create", "update"), "for_resources": "article"}
        config.add_subscriber(refuse_shouting, ResourceChanged, **changes)
        config.add_subscriber(refuse_twice, ResourceChanged, **changes)
        config.add_route("articles", "/blogs/{blog}/articles")
        config.add_route("article", r"/blogs/{blog}/articles/{id:\d{1,18}}")
        config.scan()

    setup()  # the reactor runs in a thread of its own,
    BlockingEventSources(sources, timeout=30).start()  # and tells the listeners
    return config.make_wsgi_app()
