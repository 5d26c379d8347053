"""SQLAlchemy's sessions in real processes that are killed, and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker

from oni.errors import BulkChangeError
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.sources.sqlalchemy import Watch, _bulk, watch
from oni.values import ModelChange
from tests.integration import sqlalchemy_worker
from tests.integration.daemon import CHECKOUT, environment, read_json_line
from tests.integration.postgres import needs_postgres, running_postgres
from tests.sources.sqlalchemy_case import Post
from tests.sources.test_sqlalchemy_properties import LISTENERS, STEPS, PropertyCase

WITHIN = 30.0  # seconds, on a busy machine


class Worker:
    """A process of the program."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.sqlalchemy_worker", *words],
            cwd=CHECKOUT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        """Give the next line; nothing if there is none in time."""
        heard = read_json_line(self.process, WITHIN)
        assert heard is not None, "it said nothing"
        return heard

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def worker(*words: str) -> Iterator[Worker]:
    """Run a process, and kill it in the end."""
    running = Worker(*words)
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give a database with the program's tables."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            at = f"sqlite:///{tmp_path}/blog.db"
        else:
            at = stack.enter_context(running_postgres()).url
        engine = prepare_engine(sa.create_engine(at))
        SqlAlchemyStore(engine).open()
        sqlalchemy_worker.Base.metadata.create_all(engine)
        engine.dispose()
        yield at


def test_killed_within_and_after_a_commit(url: str) -> None:
    """What was committed is delivered after a restart; what was not never was."""
    for title, point in (("never", "before"), ("sure", "after")):
        with worker(url, "save", title, point) as saving:
            assert saving.hear() == {"reached": point}
    with worker(url, "deliver") as delivering:
        assert delivering.hear() == {"started": True}
        heard = [delivering.hear() for _ in range(2)]
    assert sorted(heard, key=str) == [
        {"handled": "created", "title": "sure"},
        {"handled": "post_saved", "title": "sure"},
    ]
    engine = prepare_engine(sa.create_engine(url))
    with engine.connect() as connection:
        groups = connection.exec_driver_sql("SELECT group_name FROM oni_event").scalars().all()
        titles = connection.exec_driver_sql("SELECT title FROM post").scalars().all()
    engine.dispose()
    assert sorted(groups) == ["post_saved", "tests.integration.sqlalchemy_worker.Post.created"]
    assert titles == ["sure"]


@needs_postgres
class PostgresTests(PropertyCase):
    """What is another matter on a server, where others write at the same time."""

    _stack: ExitStack
    _url: str

    @classmethod
    def setUpClass(cls) -> None:
        """Start one."""
        cls._stack = ExitStack()
        server = cls._stack.enter_context(running_postgres())
        cls._url = server.url
        engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET max_prepared_transactions = 5")
        engine.dispose()
        server.stop()
        server.start()

    @classmethod
    def tearDownClass(cls) -> None:
        """End it."""
        cls._stack.close()

    def new_url(self) -> str:
        """Give the address of the server's database."""
        return self._url

    def setUp(self) -> None:
        """Have two posts."""
        super().setUp()
        with self.blog.engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE post, oni_event, oni_delivery CASCADE")
        self.added(Post(title="a"), Post(title="a"))
        self.watch({Post: Watch(bulk="expand")})

    @settings(max_examples=30)
    @given(LISTENERS, st.lists(STEPS, max_size=40))
    def test_what_is_committed_is_admitted(
        self, listeners: set[str], steps: list[tuple[Any, ...]]
    ) -> None:
        """What random sessions commit is admitted, and nothing else."""
        self.run_program(listeners, steps)

    def between(self, statement: Any, value: Any) -> None:
        """Execute a statement, and another one of somebody else when its rows were read."""
        inside = _bulk._rows_before

        def meanwhile(execution: Any, watched: Any) -> Any:
            found = inside(execution, watched)
            with self.blog.engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
                connection.execute(value)
            return found

        with (
            mock.patch.object(_bulk, "_rows_before", meanwhile),
            self.blog.sessions.begin() as session,
        ):
            session.execute(statement)

    def test_row_comes_in_between(self) -> None:
        """A row that comes in between is found out, and nothing is changed."""
        with self.assertRaisesRegex(BulkChangeError, "2 rows .* changed 3"):
            self.between(
                sa.update(Post).values(title="b"),
                sa.insert(Post.__table__).values(title="c", number=0, state="DRAFT", touched=0),
            )
        self.assertEqual(
            self.blog.rows("SELECT title FROM post ORDER BY title"), [("a",), ("a",), ("c",)]
        )

    def test_rows_are_kept_from_others(self) -> None:
        """A row that was read is changed by nobody else before it is changed here."""
        with self.assertRaisesRegex(OperationalError, "lock timeout"):
            self.between(sa.delete(Post), sa.update(Post.__table__).values(title="c"))

    def test_two_phases(self) -> None:
        """Events are a part of what is prepared, and of its commit or rollback."""
        told: list[ModelChange] = []
        self.blog.sources.register_direct_handler(Post, told.append)
        maker = sessionmaker(self.blog.engine, twophase=True)
        self.addCleanup(watch(maker, self.blog.sources, [Post]).remove)
        for title, end in (("b", "commit"), ("c", "rollback")):
            with maker() as session:
                session.add(Post(title=title))
                session.prepare()
                self.assertEqual(len(self.blog.rows("SELECT * FROM pg_prepared_xacts")), 1)
                self.assertEqual(len(told), 0 if title == "b" else 1)
                getattr(session, end)()
        self.assertEqual([change.new["title"] for change in self.blog.changes()], ["b"])
        self.assertEqual(self.blog.changes(), told)

    def test_each(self) -> None:
        """Rows are told of as on SQLite."""
        with self.blog.sessions.begin() as session:
            session.execute(sa.update(Post).values(title="b"))
            session.execute(sa.insert(Post), [{"title": "c"}, {"title": "d"}])
            session.execute(sa.delete(Post).where(Post.title == "d"))
        said = [(change.action, change.new.get("title")) for change in self.blog.changes()]
        self.assertEqual(sorted(said), [("created", "c"), ("modified", "b"), ("modified", "b")])
