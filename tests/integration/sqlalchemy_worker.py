"""A process that saves watched rows, or delivers what is told of them; for tests that kill it.

``python -m tests.integration.sqlalchemy_worker URL save TITLE POINT``: saves a post and stops at a
point of its commit, ``before`` or ``after``, and says so.

``... URL deliver``: delivers, and says what is handled.

What it says is JSON, a line each.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.sources import Event, EventSources, event
from oni.sources.sqlalchemy import SqlAlchemyReferences, watch


class Base(DeclarativeBase):
    """What the models have in common."""


class Post(Base):
    """Is saved."""

    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


def say(**words: Any) -> None:
    """Write a line."""
    print(json.dumps(words), flush=True)


def saved(post: Any) -> Any:
    """Give an event for each post that was saved, with the post."""
    yield event("post_saved", post.title, {"post": post})


def mail(heard: Event) -> None:
    """Handle it."""
    say(handled=heard.group, title=heard.context["post"].title)


def note(heard: Event) -> None:
    """Handle a change."""
    change = heard.context["change"]
    say(handled=change.action, title=change.new["title"])


class Program:
    """Engine, sources and sessions, as each process has them."""

    def __init__(self, url: str) -> None:
        model = POST
        self.engine = prepare_engine(sa.create_engine(url))
        self.sessions = sessionmaker(self.engine)
        self.sources = EventSources(
            Ledger(SqlAlchemyStore(self.engine)),
            references=[SqlAlchemyReferences(self.sessions)],
        )
        self.sources.register_model_event_source(model, saved)
        self.sources.register_group_handler("^post_saved$", mail, name="mail")
        self.sources.register_change_handler(model, note, name="note")
        watch(self.sessions, self.sources, [model])

    def save(self, title: str, point: str) -> None:
        """Save a post, and stop at a point of the commit."""

        def stop(*args: object) -> None:
            say(reached=point)
            signal.pause()

        if point == "before":
            sa.event.listen(self.sessions, "before_commit", stop)
        else:
            self.sources.wake = stop  # type: ignore[method-assign]
        with self.sessions.begin() as session:
            session.add(POST(title=title))
        say(ended=True)


async def deliver(reactor: Any, url: str) -> None:
    """Deliver until the process is killed."""
    await Program(url).sources.start()
    say(started=True)
    await Deferred()


def main(url: str, mode: str, *words: str) -> None:
    """Do what is wanted."""
    if mode == "save":
        Program(url).save(*words)
    else:
        react(lambda reactor: Deferred.fromCoroutine(deliver(reactor, url)))


if __name__ == "__main__":
    # Names in the ledger are those of the module as others import it.
    from tests.integration import sqlalchemy_worker

    POST: Any = sqlalchemy_worker.Post
    main(*sys.argv[1:])
else:
    POST = Post
