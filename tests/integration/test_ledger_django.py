"""The ledger and the outbox on a real PostgreSQL, through Django and through SQLAlchemy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from django.core.management import call_command
from django.db import connections
from django.db import transaction as django_transaction
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerTransactionError, LedgerUnavailableError, UnsafeLedgerError
from oni.interfaces import ILedgerStore, IOutbox
from oni.ledger._transaction import LostRaceError
from oni.ledger.django import DjangoOutbox, DjangoStore
from oni.ledger.sqlalchemy import (
    SqlAlchemyOutbox,
    SqlAlchemyStore,
    metadata,
    outbox_metadata,
)
from oni.testing import LedgerStoreBattery, OutboxBattery
from oni.values import Handling, LedgerEvent
from tests.integration.postgres import Postgres, needs_postgres, running_postgres
from tests.ledger import django_aliases
from tests.ledger.tables import TABLES, described
from tests.ledger.test_state_machine import Machine, limits

pytestmark = [needs_postgres, pytest.mark.timeout(120)]

ONE, TWO = "1" * 32, "2" * 32
WITHIN = 30.0  # seconds
LEASE = 10.0
MANY = 1000
# The same for all: a database is made once.
ALIASES: list[str] = []

servers: list[Postgres] = []


@contextmanager
def an_alias(**options: Any) -> Iterator[str]:
    """Give an alias for the server."""
    url = sa.make_url(servers[0].url)
    with django_aliases.an_alias(
        ENGINE="django.db.backends.postgresql",
        NAME=url.database,
        USER=url.username,
        HOST=url.host,
        PORT=str(url.port),
        OPTIONS=options,
    ) as alias:
        yield alias


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Run one server for all of this, with the tables that Django makes, and one for effects."""
    with running_postgres() as running:
        servers.append(running)
        with an_alias() as alias:
            ALIASES.append(alias)
            call_command("migrate", verbosity=0, database=alias)
            with connections[alias].cursor() as cursor:
                cursor.execute("CREATE TABLE effect (name TEXT)")
            yield
        ALIASES.clear()
        servers.clear()


def empty(alias: str) -> None:
    """Remove what is in the tables."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"TRUNCATE effect, {', '.join(TABLES)}")


def event(key: str) -> LedgerEvent:
    """Give an event for one handler."""
    return LedgerEvent(key, handlings=(Handling("mail", "transaction"),))


class BatteryTests(LedgerStoreBattery, SynchronousTestCase):
    """The same as every other store."""

    def make_store(self) -> ILedgerStore:
        """See the battery."""
        empty(ALIASES[0])
        self.reader = connections[ALIASES[0]].copy()
        self.addCleanup(self.reader.close)
        return DjangoStore(ALIASES[0], clock=self.clock)

    def write_effect(self, connection: Any, name: str) -> None:
        """Write it into a table."""
        django_aliases.write_effect(connection, name)

    def effects(self) -> Sequence[str]:
        """Read the table."""
        return django_aliases.read_effects(self.reader)


class PostgresMachine(Machine):
    """The state machine on a server."""

    def make(self) -> Any:
        """Give a store."""
        empty(ALIASES[0])
        self.reader = connections[ALIASES[0]].copy()
        store = DjangoStore(ALIASES[0], clock=self.clock)
        return store, django_aliases.write_effect, self.effects

    def effects(self) -> Sequence[str]:
        """Read the table."""
        return django_aliases.read_effects(self.reader)

    def teardown(self) -> None:
        """Close it."""
        if hasattr(self, "store"):
            self.reader.close()
            self.store.close()


PostgresMachineCase = PostgresMachine.TestCase
PostgresMachineCase.settings = limits(5)


class TableTests(SynchronousTestCase):
    """The tables of the migration."""

    def test_migrated(self) -> None:
        """They are those of SQLAlchemy's metadata, column by column, index by index."""
        engine = sa.create_engine(servers[0].url)
        self.addCleanup(engine.dispose)
        migrated = described(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA other")
        elsewhere = sa.create_engine(f"{servers[0].url}?options=-csearch_path%3Dother")
        self.addCleanup(elsewhere.dispose)
        for tables in (metadata, outbox_metadata):
            tables.create_all(elsewhere)
        made = described(elsewhere)
        for table in TABLES:
            for part, said in made[table].items():
                self.assertEqual(migrated[table][part], said, f"{part} of {table}")


class ServerTests(SynchronousTestCase):
    """What only a server does, and what only Django does with one."""

    def setUp(self) -> None:
        """Open a store through Django, and another as a second process would."""
        self.alias = ALIASES[0]
        empty(self.alias)
        self.store = DjangoStore(self.alias)
        self.other = SqlAlchemyStore.from_url(servers[0].url)
        for store in (self.store, self.other):
            self.assertEqual(list(store.open()), [])
            self.addCleanup(store.close)

    def ask(self, statement: str) -> Any:
        """Ask the server, on a connection of nobody's."""
        engine = sa.create_engine(servers[0].url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            answer = connection.exec_driver_sql(statement).scalar()
        engine.dispose()
        return answer

    def test_one_ledger_for_both(self) -> None:
        """What one has admitted, the other one runs; both share what is due."""
        with self.store.transaction() as kept:
            for key in "abc":
                kept.admit(event(key))
        with self.other.transaction() as theirs, self.store.transaction() as mine:
            first = theirs.claim(["mail"], 2, ONE, LEASE)
            second = mine.claim(["mail"], 2, TWO, LEASE)
        self.assertEqual([len(first), len(second)], [2, 1])
        with self.other.transaction() as theirs:
            theirs.complete(first[0])
        with self.store.transaction() as mine:
            mine.complete(second[0])
            self.assertEqual(mine.count()["done"], 2)

    def test_owners_are_seen(self) -> None:
        """An owner's session is one of its own, keeps no transaction, and can be made anew."""
        self.store.enter(ONE)
        self.assertTrue(self.other.is_alive(ONE))
        self.assertEqual(
            self.ask("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"),
            0,
        )
        ended = self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks "
            "WHERE locktype = 'advisory' AND granted"
        )
        self.assertEqual(ended, 1)
        self.eventually(lambda: not self.other.is_alive(ONE))
        self.store.enter(ONE)
        self.assertTrue(self.other.is_alive(ONE))
        self.store.leave(ONE)
        self.eventually(lambda: not self.other.is_alive(ONE))

    def eventually(self, is_so: Any) -> None:
        """Look until it is so: a session ends a little later than it is told to."""
        waiting = threading.Event()
        for _ in range(int(WITHIN / 0.05)):
            if is_so():
                return
            waiting.wait(0.05)
        self.fail("it never was")

    def test_owners_from_any_thread(self) -> None:
        """An owner's session may be looked at, and ended, in another thread than it was begun."""
        errors: list[BaseException] = []

        def run(function: Any) -> None:
            def call() -> None:
                try:
                    function(ONE)
                except BaseException as error:  # noqa: BLE001 - the test looks at it
                    errors.append(error)

            thread = threading.Thread(target=call)
            thread.start()
            thread.join(WITHIN)

        for function in (self.store.enter, self.store.enter, self.store.leave):
            run(function)
        self.assertEqual(errors, [])

    def test_sessions_that_were_ended(self) -> None:
        """A connection that the server has closed meanwhile is opened anew, unnoticed."""
        with self.store.transaction() as kept:
            kept.admit(event("k"))
        ended = self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        self.assertGreater(ended, 0)
        with self.store.transaction() as kept:
            self.assertEqual(kept.admit(event("k")), "duplicate")

    def test_a_session_that_ends_within(self) -> None:
        """One that is lost in the middle is said to be, and nothing of it is kept."""
        with self.assertRaises(LedgerUnavailableError), self.store.transaction() as kept:
            kept.admit(event("k"))
            pid = kept.connection.connection.info.backend_pid
            self.ask(f"SELECT pg_terminate_backend({pid})")
            kept.count()
        with self.store.transaction() as kept:
            self.assertEqual(kept.admit(event("k")), "admitted")

    def test_in_each_others_way(self) -> None:
        """Of two that wait for each other one is told so, and can do it again at once."""
        both = threading.Barrier(2, timeout=WITHIN)
        lost: list[int] = []

        def admit(store: ILedgerStore, first: str, second: str) -> None:
            try:
                with store.transaction() as kept:
                    kept.admit(event(first))
                    both.wait()
                    kept.admit(event(second))
            except LostRaceError:
                lost.append(1)

        theirs = threading.Thread(target=admit, args=(self.other, "b", "a"))
        theirs.start()
        admit(self.store, "a", "b")
        theirs.join(WITHIN)
        self.assertEqual(lost, [1])

    def test_ended_by_the_work(self) -> None:
        """Work that ends the transaction behind Django's back completes nothing."""
        for statement in ("COMMIT", "ROLLBACK"):
            with self.assertRaises(LedgerTransactionError), self.store.transaction() as kept:
                kept.connection.cursor().execute(statement)

    def test_a_swallowed_failure(self) -> None:
        """Nor does work that goes on after the server has refused a statement."""
        with self.store.transaction() as kept:
            kept.admit(event("k"))
            (claim,) = kept.claim(["mail"], 1, ONE, LEASE)
        with self.assertRaises(LedgerTransactionError), self.store.transaction() as kept:
            try:
                kept.connection.cursor().execute("SELECT nonsense")
            except Exception:  # noqa: BLE001 - that is the mistake
                kept.complete(claim)
        with self.store.transaction(read=True) as kept:
            self.assertEqual(kept.count()["running"], 1)

    def test_joined(self) -> None:
        """What is admitted within a block shares its fate, a savepoint's, too."""
        with django_transaction.atomic(using=self.alias):
            with (
                self.assertRaises(ZeroDivisionError),
                django_transaction.atomic(using=self.alias),
            ):
                self.store.join(self.alias).admit(event("lost"))
                raise ZeroDivisionError
            self.store.join(self.alias).admit(event("kept"))
        with self.store.transaction(read=True) as kept:
            self.assertIsNone(kept.show("lost"))
            self.assertIsNotNone(kept.show("kept"))
        with self.assertRaises(LedgerTransactionError):
            self.store.join(self.alias)

    def test_reading(self) -> None:
        """Reading leaves no transaction behind."""
        with self.store.transaction(read=True) as kept:
            kept.count()
        self.assertEqual(connections[self.alias].connection.info.transaction_status, 0)

    def test_other_isolation(self) -> None:
        """Where one does not see what another one has just committed, there is no ledger."""
        from psycopg import IsolationLevel

        with an_alias(isolation_level=IsolationLevel.REPEATABLE_READ) as alias:
            store = DjangoStore(alias)
            self.addCleanup(store.close)
            error = self.assertRaises(UnsafeLedgerError, store.open)
            self.assertIn("repeatable read", str(error))

    def test_pooled(self) -> None:
        """With Django's pool it works, and an owner's session takes no place in it."""
        with an_alias(pool={"min_size": 1, "max_size": 1, "timeout": WITHIN}) as alias:
            store = DjangoStore(alias)
            store.open()
            store.enter(ONE)
            with store.transaction() as kept:
                self.assertEqual(kept.admit(event("k")), "admitted")
            self.assertTrue(self.other.is_alive(ONE))
            store.close()
            connections[alias].close()
            connections[alias].close_pool()


class AsynchronousTests(SynchronousTestCase):
    """Drivers that write a statement's values in another way."""

    def test_asyncpg(self) -> None:
        """In an asynchronous session, too, events are admitted, or put, with what it writes."""
        empty(ALIASES[0])
        store = SqlAlchemyStore.from_url(servers[0].url)
        self.addCleanup(store.close)
        outbox = SqlAlchemyOutbox.from_url(servers[0].url)
        self.addCleanup(outbox.close)

        def hand_over(session: Session, key: str) -> str:
            outbox.put(session, [event(key)])
            return store.join(session).admit(event(key))

        async def program() -> list[str]:
            url = sa.make_url(servers[0].url).set(drivername="postgresql+asyncpg")
            engine = create_async_engine(url)
            async with AsyncSession(engine) as session:
                told = [await session.run_sync(hand_over, "lost")]
                await session.rollback()
                for _ in range(2):
                    told.append(await session.run_sync(hand_over, "kept"))
                await session.commit()
            await engine.dispose()
            return told

        self.assertEqual(asyncio.run(program()), ["admitted", "admitted", "duplicate"])
        with store.transaction() as kept:
            self.assertIsNone(kept.show("lost"))
            (claim,) = kept.claim(["mail"], 9, ONE, LEASE)
            self.assertEqual(claim.key, "kept")
        batch = outbox.take(MANY)
        batch.end({})
        self.assertEqual(list(batch.events), [event("kept")] * 2)


class OutboxCases(OutboxBattery):
    """What is so where single rows can be locked."""

    def elsewhere(self) -> SqlAlchemyOutbox:
        """Give the outbox as another process has it."""
        other = SqlAlchemyOutbox.from_url(servers[0].url)
        self.case.addCleanup(other.close)
        return other

    def test_shared(self) -> None:
        """Two that take at the same time take different ones, and neither waits."""
        self.put("a", "b", "c")
        other = self.elsewhere()
        mine = self.outbox.take(2)
        theirs = other.take(2)
        self.case.assertEqual([event.key for event in mine.events], ["a", "b"])
        self.case.assertEqual([event.key for event in theirs.events], ["c"])
        mine.give_up()
        theirs.end({})
        self.case.assertEqual(list(self.take()), ["a", "b"])

    def test_committed_later(self) -> None:
        """What was put first and committed last is not passed over, and nothing waits for it."""
        other = self.elsewhere()
        engine = sa.create_engine(servers[0].url)
        self.case.addCleanup(engine.dispose)
        with engine.connect() as slow, slow.begin():
            other.put(slow, [event("slow")])
            self.put("fast")
            self.case.assertEqual(list(self.take()), ["fast"])
            self.case.assertEqual(list(self.take()), [])
        self.case.assertEqual(list(self.take()), ["slow"])


class DjangoOutboxTests(OutboxCases, SynchronousTestCase):
    """Through Django."""

    def make_outbox(self) -> IOutbox:
        """See the battery."""
        empty(ALIASES[0])
        return DjangoOutbox(ALIASES[0], clock=self.clock)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """See the battery."""
        with django_transaction.atomic(using=ALIASES[0]):
            yield connections[ALIASES[0]]

    def execute(self, statement: str) -> None:
        """See the battery."""
        connections[ALIASES[0]].cursor().execute(statement)


class SqlAlchemyOutboxTests(OutboxCases, SynchronousTestCase):
    """Through SQLAlchemy."""

    def make_outbox(self) -> IOutbox:
        """See the battery."""
        empty(ALIASES[0])
        self.engine = sa.create_engine(servers[0].url)
        self.addCleanup(self.engine.dispose)
        return SqlAlchemyOutbox(self.engine, clock=self.clock)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """See the battery."""
        with self.engine.begin() as connection:
            yield connection

    def execute(self, statement: str) -> None:
        """See the battery."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)
