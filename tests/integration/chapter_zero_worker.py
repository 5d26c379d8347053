"""A process that changes rows and resources, and is killed, and one that tells of them.

``python -m tests.integration.chapter_zero_worker FOLDER change``: commits posts, with the first of
which a watcher in a thread hangs, and a resource, and is killed before anybody hears of that.

``... FOLDER deliver``: tells watcher and listener what there is, writes a line for each, and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from crochet import setup, wait_for
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.listeners import ListenerBase, ResourceEvents, activate, new_dispatcher
from oni.sources import EventSources
from oni.sources.sqlalchemy import watch
from oni.watchers import BaseModelEventWatcher, ThreadedModelEventWatcher, watch_models

POSTS = 3
SETTINGS = {"event_listeners": "say", "event_listeners.say.use": __spec__.name}

begun = threading.Event()
hangs = False


def hang() -> None:
    """Go no further, in the process that is killed."""
    if hangs:
        threading.Event().wait()


class Base(DeclarativeBase):
    """What the models have in common."""


class Post(Base):
    """Is watched."""

    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)


class Watcher(BaseModelEventWatcher):
    """Says what it hears, or hangs."""

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> None:
        """Hear of a row."""
        begun.set()
        hang()
        print("watcher", id, flush=True)


class Listener(ListenerBase):
    """Says what it hears."""

    def __call__(self, event: Any) -> None:
        """Hear of a resource."""
        hang()
        print("listener", event.impacted[0]["id"], flush=True)


def load_from_config(config: Any, prefix: str) -> Listener:
    """Make the listener."""
    return Listener()


@wait_for(timeout=60)
def wait(call: Any) -> Any:
    """Let the reactor's thread do something."""
    return call()


def main(folder: str, action: str) -> None:
    """Be one of the two."""
    global hangs
    hangs = action == "change"
    # The name by which another process finds it: this one is __main__.
    Post.__module__ = SETTINGS["event_listeners.say.use"]
    engine = prepare_engine(sa.create_engine(f"sqlite:///{folder}/blog.db"))
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    sources = EventSources(Ledger(SqlAlchemyStore(engine)))
    watch(sessions, sources, [Post])
    watch_models(sources, [Post], ThreadedModelEventWatcher(Watcher()), name="site")
    dispatcher = new_dispatcher()
    activate(SETTINGS, dispatcher, sources)
    setup()
    wait(sources.start)
    if action == "deliver":
        while wait(sources.ledger.count)["done"] < POSTS + 1:
            time.sleep(0.01)
        wait(sources.stop)
        return
    with sessions.begin() as session:
        session.add_all(Post(id=number) for number in range(1, POSTS + 1))
    assert begun.wait(60)
    with engine.begin() as connection:
        events = ResourceEvents(dispatcher, sources=sources, connection=lambda: connection)
        events.record("article", "create", id="a1", uri="/articles/a1", new={"id": "a1"})
        events.before_commit()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
