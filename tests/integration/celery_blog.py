"""A blog whose posts are told of over a broker, and the worker that hears of them; for tests.

``python -m tests.integration.celery_blog FOLDER BROKER``: saves posts as it is told, a line of
JSON for each command on its standard input, and answers with a line each.

``celery -A tests.integration.celery_blog:worker worker``: the worker. Its environment says where
things are: ``BLOG_FOLDER``, ``BLOG_BROKER``, ``BLOG_TRANSACTION``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from twisted.logger import globalLogPublisher

from oni.blocking import BlockingEventSources, setup
from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.sources import EventSources
from oni.sources.sqlalchemy import watch
from oni.watchers import (
    BaseModelEventWatcher,
    ModelEventWatcherCeleryReceiver,
    ModelEventWatcherCelerySender,
    watch_models,
)

VISIBILITY_TIMEOUT = 2.0  # seconds
TIMEOUT = 3.0  # seconds


class Base(DeclarativeBase):
    """What the models have in common."""


class Post(Base):
    """Is saved."""

    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


def open_blog(folder: Path) -> sa.Engine:
    """Open the blog's database."""
    return prepare_engine(sa.create_engine(f"sqlite:///{folder}/blog.db"))


# --- The process that saves


class Blog:
    """Saves, and tells a broker."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.engine = open_blog(folder)
        Base.metadata.create_all(self.engine)
        self.sessions = sessionmaker(self.engine)
        sources = EventSources(Ledger(SqlAlchemyStore(self.engine)))
        self.sender = ModelEventWatcherCelerySender(
            broker=broker, queue=folder.name, timeout=TIMEOUT
        )
        watch_models(sources, [POST], self.sender, name="blog")
        watch(self.sessions, sources, [POST])
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._hear)
        setup()
        self.sources = BlockingEventSources(sources)
        self.sources.start()

    def _hear(self, event: Any) -> None:
        if event.get("log_namespace", "").startswith("oni.watchers"):
            self.said.append(event["log_format"].format(**event))

    def save(self, titles: list[str]) -> list[float]:
        """Save posts, each in a transaction; give how many seconds each commit took."""
        took = []
        for title in titles:
            with self.sessions() as session:
                session.add(POST(title=title))
                began = time.perf_counter()
                session.commit()
                took.append(time.perf_counter() - began)
        return took

    def count(self) -> Mapping[str, int]:
        """Count the ledger's deliveries."""
        with self.engine.connect().execution_options(oni_read=True) as connection:
            rows = connection.exec_driver_sql(
                "SELECT state, count(*) FROM oni_delivery GROUP BY state"
            )
            return {row[0]: row[1] for row in rows}


def serve(folder: str, broker: str) -> None:
    """Do what is asked for on the standard input."""
    blog = Blog(Path(folder), broker)
    commands: dict[str, Callable[..., Any]] = {
        "save": blog.save,
        "count": blog.count,
        "said": lambda: blog.said,
        "statistics": lambda: blog.sender.statistics(),
    }
    print(json.dumps("started"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # nothing is to be ended well


# --- The worker


class Notifications(BaseModelEventWatcher):
    """Writes down what it hears, and whether the row is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engine: sa.Engine | None = None

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> None:
        """Write it down; hang the first time, where the post says so."""
        if self._engine is None:  # after the fork
            self._engine = open_blog(self._folder)
        with self._engine.connect().execution_options(oni_read=True) as connection:
            found = connection.exec_driver_sql(
                "SELECT title FROM post WHERE id = ?", (id,)
            ).scalar()
        transaction = details.get("transaction")
        if transaction is not None:
            transaction.exec_driver_sql("CREATE TABLE IF NOT EXISTS effect (id INT, title TEXT)")
            transaction.exec_driver_sql("INSERT INTO effect VALUES (?, ?)", (id, found))
        if details["new"]["title"] == "hang" and not self._has_hung(id):
            time.sleep(600)
        if details["new"]["title"] == "slow":
            time.sleep(0.02)
        self._write("handled", id, found)

    def _has_hung(self, id: Any) -> bool:
        if any(each["what"] == "hangs" and each["id"] == id for each in heard(self._folder)):
            return True
        self._write("hangs", id, os.getpid())
        return False

    def _write(self, what: str, id: Any, more: Any) -> None:
        line = json.dumps({"what": what, "id": id, "more": more}) + "\n"
        with open(self._folder / "heard", "ab", buffering=0) as file:
            file.write(line.encode())


def heard(folder: Path) -> list[dict[str, Any]]:
    """Give what the workers have written down."""
    path = folder / "heard"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_worker(folder: Path, broker: str, transaction: bool) -> Any:
    """Make the app of a worker."""
    receiver = ModelEventWatcherCeleryReceiver(
        Notifications(folder),
        broker=broker,
        queue=folder.name,
        ledger=f"sqlite:///{folder}/received.db",
        transaction=transaction,
        visibility_timeout=VISIBILITY_TIMEOUT,
    )
    return receiver.app


if "BLOG_FOLDER" in os.environ:
    worker = make_worker(
        Path(os.environ["BLOG_FOLDER"]),
        os.environ["BLOG_BROKER"],
        bool(os.environ.get("BLOG_TRANSACTION")),
    )

if __name__ == "__main__":
    # Names in the ledger are those of the module as others import it.
    from tests.integration import celery_blog

    POST: Any = celery_blog.Post
    serve(*sys.argv[1:])
else:
    POST = Post
