"""A small blog in SQLite, with its ledger in the same file: what the tests of watching share."""

from __future__ import annotations

import enum
import shutil
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)
from twisted.trial.unittest import SynchronousTestCase

from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.sources import EventSources
from oni.sources._context import Contexts
from oni.sources.sqlalchemy import Watching, watch
from oni.values import Event, ModelChange

ACTIONS = ("created", "modified", "deleted", "bulk")


class Base(DeclarativeBase):
    """What the models have in common."""


class State(enum.Enum):
    """Is kept as its name."""

    DRAFT = 1
    OUT = 2


class Author(Base):
    """Has posts, which go with it."""

    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    posts: Mapped[list[Post]] = relationship(back_populates="author", cascade="all, delete-orphan")


labels = sa.Table(
    "post_label",
    Base.metadata,
    sa.Column("post_id", sa.ForeignKey("post.id"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey("label.id"), primary_key=True),
)


class Label(Base):
    """Stands on posts; the rows in between have no class."""

    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)


class Post(Base):
    """Has a column of each kind."""

    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    number: Mapped[int] = mapped_column(default=0)
    heading: Mapped[str | None] = mapped_column("head_line")
    body: Mapped[str | None] = mapped_column(deferred=True)
    state: Mapped[State] = mapped_column(default=State.DRAFT)
    extra: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    made: Mapped[str] = mapped_column(server_default="by the server")
    touched: Mapped[int] = mapped_column(default=0, onupdate=lambda: 1)
    at: Mapped[datetime | None]
    author_id: Mapped[int | None] = mapped_column(sa.ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="posts")
    comments: Mapped[list[Comment]] = relationship(passive_deletes="all")
    labels: Mapped[list[Label]] = relationship(secondary=labels)


class Comment(Base):
    """Is deleted by the database when its post is."""

    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(sa.ForeignKey("post.id", ondelete="CASCADE"))


class Animal(Base):
    """Is the base of a class with a table of its own."""

    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]


class Dog(Animal):
    """Has a table of its own, and its base's."""

    __tablename__ = "dog"
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(sa.ForeignKey("animal.id"), primary_key=True)
    breed: Mapped[str]


class Cat(Animal):
    """Has no table of its own, but columns in its base's."""

    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012

    lives: Mapped[int | None]


class Line(Base):
    """Has a primary key of two columns."""

    __tablename__ = "line"

    page: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Node(Base):
    """Has another one, which is written down by a statement of its own."""

    __tablename__ = "node"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    kind: Mapped[str] = mapped_column(server_default="by the server")
    counted: Mapped[int] = mapped_column(default=0, onupdate=sa.text("counted + 1"))
    next_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node.id"))
    next: Mapped[Node | None] = relationship(remote_side=[id], post_update=True)


class Blog:
    """A database, a ledger in it, and event sources.

    Args:
        url: Of the database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = prepare_engine(sa.create_engine(url), synchronous="NORMAL", busy_timeout=0.2)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _enforce)
        self.store = SqlAlchemyStore(self.engine)
        self.store.open()
        Base.metadata.create_all(self.engine)
        self.sessions = sessionmaker(self.engine)
        self.sources = self.new_sources()

    def new_sources(self) -> EventSources:
        """Make event sources that hear of every change of every model."""
        sources = EventSources(Ledger(self.store))
        sources.register_group_handler(r"\.(created|modified|deleted|bulk)$", _handle)
        return sources

    def events(self) -> list[Event]:
        """Give every event that is admitted."""
        with self.engine.connect().execution_options(oni_read=True) as connection:
            rows = connection.exec_driver_sql(
                "SELECT key, group_name, payload FROM oni_event"
            ).all()
        return [Contexts().read(*row).event for row in rows]

    def changes(self) -> list[ModelChange]:
        """Give every change that is admitted, in the order of what is said of them."""
        changes = [e.context["change"] for e in self.events() if "change" in e.context]
        return sorted(changes, key=lambda change: str(said(change)))

    def said(self) -> list[tuple[str, Any, str]]:
        """Give model, key and action of every change that is admitted."""
        return [said(change) for change in self.changes()]

    def rows(self, statement: str) -> list[Any]:
        """Read from the database."""
        with self.engine.connect().execution_options(oni_read=True) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def close(self) -> None:
        """End every connection."""
        self.store.close()


def _enforce(connection: Any, record: object) -> None:
    connection.execute("PRAGMA foreign_keys = on").fetchall()


def _handle(event: Event) -> None:
    """Is never called here."""


def said(change: ModelChange) -> tuple[str, Any, str]:
    """Give model, key and action of a change."""
    return change.model.rpartition(".")[2], change.id, change.action


class BlogCase(SynchronousTestCase):
    """Has a blog, and watches it."""

    def setUp(self) -> None:
        """Make an empty one."""
        self.blog = Blog(self.new_url())
        self.addCleanup(self.blog.close)

    def new_url(self) -> str:
        """Give the address of an empty database."""
        return f"sqlite:///{self.folder()}/blog.db"

    def folder(self) -> Path:
        """Make a folder for the time of the test."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def watch(self, models: Any = (Post,), **options: Any) -> Watching:
        """Watch its sessions until the end of the test."""
        watching = watch(self.blog.sessions, self.blog.sources, models, **options)
        self.addCleanup(watching.remove)
        return watching

    def add(self, *instances: Any) -> None:
        """Save instances in a transaction of their own."""
        with self.blog.sessions.begin() as session:
            session.add_all(instances)

    def patch_wake(self) -> mock.Mock:
        """Let nobody be woken, and see how often."""
        wake = mock.Mock()
        self.patch(self.blog.sources, "wake", wake)
        return wake

    def added(self, *instances: Any) -> None:
        """Save instances that nobody is told of, before anything is watched."""
        with Session(self.blog.engine) as session, session.begin():
            session.add_all(instances)

    def expect(self, *expected: tuple[str, Any, str]) -> list[ModelChange]:
        """See exactly these changes admitted; give them."""
        self.assertEqual(self.blog.said(), sorted(expected, key=str))
        return self.blog.changes()


def recorder() -> tuple[list[list[tuple[str, Any, str]]], Callable[..., None]]:
    """Give a list, and a listener that adds to it what it is asked about."""
    heard: list[list[tuple[str, Any, str]]] = []

    def listen(session: Session, changes: Iterable[ModelChange]) -> None:
        heard.append([said(change) for change in changes])

    return heard, listen
