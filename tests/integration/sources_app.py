"""An application with event sources, for tests that run it in processes of its own."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from twisted.internet.defer import Deferred

from oni.sources import Event, event
from oni.sources.sqlalchemy import Instances

ENGINE = sa.create_engine("sqlite:///posts.db")
SESSION = sessionmaker(ENGINE)


class Base(DeclarativeBase):
    """The base of models."""


class Post(Base):
    """A model."""

    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)


instances = Instances(SESSION)


def posts(post: Post) -> Any:
    """Yield an event for a post; of every hundredth nobody knows what it is."""
    if post.id % 100 == 0:
        raise ValueError(f"post {post.id} is odd")
    yield event("post", post.id, {"n": post.id})


def write(handled: Event) -> None:
    """Write a line."""
    with open("handled", "a", encoding="utf-8") as file:
        file.write(f"{handled.key}\n")


def hang_in_a_thread(handled: Event) -> None:
    """Never return."""
    write(handled)
    threading.Event().wait()


def hang(handled: Event) -> Deferred[None]:
    """Never fire."""
    write(handled)
    return Deferred()


def block(handled: Event) -> None:
    """Let nothing else happen in this process."""
    write(handled)
    while True:
        time.sleep(60)


def configure(sources: Any) -> None:
    """Register everything."""
    sources.register_model_event_source(Post, posts)
    add = sources.register_group_handler
    add("^post$", write, name="write")
    add("^hang-in-a-thread$", hang_in_a_thread, name="thread", threaded=True)
    add("^hang$", hang, name="hang", on_crash="park")
    add("^block$", block, name="block")


def configure_server(oni: Any) -> None:
    """Let whatever is published become an event of the sources, once for each text."""
    assert oni.sources is not None

    def published(act: Any) -> Any:
        return oni.sources.process_events([event("post", str(act.data))])

    oni.dispatcher.add_event_handler(published, "before", action="publish")


if __name__ == "__main__":
    Base.metadata.create_all(ENGINE)
    with SESSION.begin() as session:
        session.add_all(Post(id=number) for number in range(1, int(sys.argv[1]) + 1))
