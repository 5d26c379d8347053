"""Sessions of asynchronous programs: they have a synchronous one inside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker

from oni.errors import UnsafeLedgerError
from oni.ledger.sqlalchemy import prepare_engine
from oni.sources import event
from oni.sources.sqlalchemy import Watch, watch
from oni.values import ModelChange
from tests.sources.sqlalchemy_case import Author, BlogCase, Line, Post


class AsyncCase(BlogCase):
    """Runs coroutines with an engine of their own."""

    def run_with_engine(
        self, work: Callable[[AsyncEngine], Awaitable[None]], prepare: bool = True
    ) -> None:
        """Run something to its end."""

        async def run() -> None:
            engine = create_async_engine(self.blog.url.replace("sqlite:", "sqlite+aiosqlite:"))
            if prepare:
                prepare_engine(engine.sync_engine)
            try:
                await work(engine)
            finally:
                await engine.dispose()

        asyncio.run(run())


class AsyncSessionTests(AsyncCase):
    """What is told of them is the same."""

    def test_commit_and_savepoints(self) -> None:
        """What is committed is admitted, what a savepoint took back is not."""

        async def work(engine: AsyncEngine) -> None:
            maker = async_sessionmaker(engine)
            watching = watch(maker, self.blog.sources, [Line])
            async with maker.begin() as session:
                session.add(Line(page=1, place=1, text="a"))
                async with session.begin_nested():
                    session.add(Line(page=1, place=2, text="a"))
                savepoint = await session.begin_nested()
                session.add(Line(page=1, place=3, text="a"))
                await savepoint.rollback()
            async with maker() as session:
                session.add(Line(page=1, place=4, text="a"))
                await session.flush()
                await session.rollback()
            watching.remove()

        self.run_with_engine(work)
        self.expect(("Line", (1, 1), "created"), ("Line", (1, 2), "created"))

    def test_old_values_and_vetoes(self) -> None:
        """Old values are read, statements looked into, sources run and listeners asked."""
        self.added(Post(title="a", number=1))
        self.blog.sources.register_model_event_source(
            Post, lambda post: [event("saved", f"{post.id} {post.title}")]
        )
        asked: list[Session] = []

        def listen(session: Session, changes: Sequence[ModelChange]) -> None:
            asked.append(session)
            if changes[0].new.get("title") == "bad":
                raise ValueError("no")

        async def work(engine: AsyncEngine) -> None:
            maker = async_sessionmaker(engine)
            models = {Post: Watch(("title", "number"), bulk="expand", old="select")}
            watching = watch(maker, self.blog.sources, models, before_commit=[listen])
            async with maker() as session:
                post = await session.get_one(Post, 1)
                await session.commit()
                post.title = "b"
                await session.execute(sa.update(Post).values(number=2))
                await session.commit()
                self.assertIs(asked[0], session.sync_session)
                session.add(Post(title="bad"))
                with self.assertRaises(ValueError):
                    await session.commit()
            watching.remove()

        self.run_with_engine(work)
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual(change.old, {"title": "a", "number": 1})
        self.assertEqual(change.new, {"title": "b", "number": 2})
        self.assertIn("5:saved1 b", [each.key for each in self.blog.events()])

    def test_kinds(self) -> None:
        """Makers, also with a class or a maker inside, scoped ones, classes and sessions."""

        class Inside(Session):
            """A class of sessions inside."""

        class Outside(AsyncSession):
            """A class of asynchronous sessions."""

            sync_session_class = Inside

        async def work(engine: AsyncEngine) -> None:
            plain = async_sessionmaker(engine)
            with_class = async_sessionmaker(engine, sync_session_class=Inside)
            with_maker: Any = async_sessionmaker(engine, sync_session_class=sessionmaker())
            scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
            one = AsyncSession(engine)
            kinds: list[tuple[Any, Callable[[], Any]]] = [
                (plain, plain),
                (with_class, with_class),
                (with_maker, with_maker),
                (scoped, scoped),
                (Outside, lambda: Outside(engine)),
                (one, lambda: one),
            ]
            for sessions, make in kinds:
                watching = watch(sessions, self.blog.sources, [Author])
                async with make() as session:
                    session.add(Author(name="ann"))
                    await session.commit()
                watching.remove()

        self.run_with_engine(work)
        self.assertEqual(len(self.blog.said()), 6)

    def test_others_are_left_alone(self) -> None:
        """Sessions of another maker are not watched."""

        async def work(engine: AsyncEngine) -> None:
            watching = watch(async_sessionmaker(engine), self.blog.sources, [Author])
            async with async_sessionmaker(engine).begin() as session:
                session.add(Author(name="ann"))
            watching.remove()

        self.run_with_engine(work)
        self.expect()

    def test_unprepared_engine(self) -> None:
        """An engine that was not prepared is refused when it is used."""

        async def work(engine: AsyncEngine) -> None:
            maker = async_sessionmaker(engine)
            watching = watch(maker, self.blog.sources, [Author])
            async with maker() as session:
                with self.assertRaisesRegex(UnsafeLedgerError, "sync_engine"):
                    await session.scalars(sa.select(Author))
            watching.remove()

        self.run_with_engine(work, prepare=False)


class WithoutTests(BlogCase):
    """Synchronous programs."""

    def test_greenlet_is_not_needed(self) -> None:
        """Watching takes nothing that only asynchronous sessions need."""
        program = (
            "import sys\n"
            "sys.modules['greenlet'] = None\n"
            "from sqlalchemy.orm import sessionmaker\n"
            "from oni.ledger import Ledger, MemoryStore\n"
            "from oni.sources import EventSources\n"
            "from oni.sources.sqlalchemy import watch\n"
            "watch(sessionmaker(), EventSources(Ledger(MemoryStore()))).remove()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
