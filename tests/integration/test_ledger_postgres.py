"""The ledger on a real PostgreSQL: the battery, what is refused, and a server that dies."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerTransactionError, LedgerUnavailableError, UnsafeLedgerError
from oni.interfaces import ILedgerStore
from oni.ledger import _postgres as postgres
from oni.ledger import store_for
from oni.ledger._group_commit import perform
from oni.ledger._transaction import LostRaceError
from oni.ledger.sqlalchemy import SqlAlchemyStore, metadata
from oni.testing import LedgerStoreBattery
from oni.values import Claim, Handling, LedgerEvent
from tests.integration.postgres import Postgres, needs_postgres, running_postgres

pytestmark = needs_postgres

ONE, TWO = "1" * 32, "2" * 32
WITHIN = 30.0  # seconds
LEASE = 10.0
MANY = 100_000

servers: list[Postgres] = []


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Run one server for all of this."""
    with running_postgres() as running:
        servers.append(running)
        yield
        servers.clear()


def empty_engine() -> sa.Engine:
    """Give an engine for a database with nothing but a table for effects."""
    engine = sa.create_engine(servers[0].url)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE IF EXISTS effect")
        connection.exec_driver_sql("CREATE TABLE effect (name TEXT)")
    return engine


def event(key: str) -> LedgerEvent:
    """Give an event for one handler."""
    return LedgerEvent(key, handlings=(Handling("mail"),))


class BatteryTests(LedgerStoreBattery, SynchronousTestCase):
    """The same as every other store."""

    def make_store(self) -> ILedgerStore:
        """See the battery."""
        self.engine = empty_engine()
        return SqlAlchemyStore(self.engine, clock=self.clock)

    def write_effect(self, connection: Any, name: str) -> None:
        """Write it into a table."""
        connection.execute(sa.text("INSERT INTO effect (name) VALUES (:name)"), {"name": name})

    def effects(self) -> Sequence[str]:
        """Read the table."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text("SELECT name FROM effect")).scalars())


class ServerTests(SynchronousTestCase):
    """What only a server does."""

    def setUp(self) -> None:
        """Open two stores, as two processes would."""
        self.stores = [SqlAlchemyStore(empty_engine()), SqlAlchemyStore.from_url(servers[0].url)]
        for store in self.stores:
            self.assertEqual(list(store.open()), [])
            self.addCleanup(store.close)
        self.store, self.other = self.stores

    def admit(self, *keys: str) -> None:
        """Admit keys."""
        with self.store.transaction() as transaction:
            for key in keys:
                transaction.admit(event(key))

    def test_the_server_has_the_time(self) -> None:
        """Leases are reckoned on the server's clock."""
        self.admit("k")
        with self.store.transaction() as transaction:
            (claim,) = transaction.claim(["mail"], 1, ONE, LEASE)
            now = transaction.connection.exec_driver_sql(
                "SELECT extract(epoch FROM clock_timestamp())::float"
            ).scalar_one()
        self.assertLessEqual(claim.delivery.lease_until - LEASE, now)
        self.assertGreater(claim.delivery.lease_until - LEASE, now - WITHIN)

    def test_a_claim_looks_at_what_is_due(self) -> None:
        """What is done, or waits for a lower rank, is not looked at, however much there is."""
        self.admit("k")
        columns = ", ".join(column.name for column in metadata.tables["oni_delivery"].columns)
        with self.store.transaction() as transaction:
            for values in ("k.key || n", "'done'", "0"), ("k.key || -n", "'pending'", "1"):
                key, state, waits_for = values
                chosen = columns.replace("key", key, 1).replace("state", state, 1)
                chosen = chosen.replace("waits_for", waits_for, 1)
                transaction.connection.exec_driver_sql(
                    f"INSERT INTO oni_delivery ({columns}) SELECT {chosen} "
                    f"FROM oni_delivery AS k, generate_series(1, {MANY}) AS n WHERE key = 'k'"
                )
        with self.store.transaction(read=True) as transaction:
            transaction.connection.exec_driver_sql("ANALYZE oni_delivery")
        for keys in None, ["k", *(f"k{number}" for number in range(1, 64))]:
            plan = self.plan_of_claim(keys)
            self.assertRegex(plan, r"Index Scan using oni_delivery_(due|pkey)")
            self.assertNotIn("Seq Scan on oni_delivery", plan)
            left_off = sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan)))
            self.assertLess(left_off, 1_000, plan)

    def plan_of_claim(self, keys: Sequence[str] | None) -> str:
        """Claim, and give how the server looked for what is due."""
        asked: list[tuple[str, Any]] = []

        def ask(_: object, __: object, statement: str, values: Any, *___: object) -> None:
            asked.append((statement, values))

        with self.store.transaction() as transaction:
            connection = transaction.connection
            sa.event.listen(connection, "before_cursor_execute", ask)
            transaction.claim(["mail"], 64, ONE, LEASE, keys)
            (due,) = [each for each in asked if "SKIP LOCKED" in each[0]]
            plan = connection.exec_driver_sql(f"EXPLAIN ANALYZE {due[0]}", due[1]).scalars()
            return "\n".join(plan)

    def test_side_by_side(self) -> None:
        """Two that claim at the same time share what is there, and neither waits."""
        self.admit("a", "b", "c")
        with self.store.transaction() as mine, self.other.transaction() as theirs:
            first = mine.claim(["mail"], 2, ONE, LEASE)
            second = theirs.claim(["mail"], 2, TWO, LEASE)
        self.assertEqual([len(first), len(second)], [2, 1])
        self.assertEqual({claim.key for claim in (*first, *second)}, {"a", "b", "c"})

    def test_admitted_at_the_same_time(self) -> None:
        """Who offers a key that another one is just admitting waits, and is told the truth."""
        told: list[Any] = []
        theirs = threading.Thread(
            target=lambda: told.extend(perform(self.other, [lambda t: t.admit(event("k"))]))
        )
        with self.store.transaction() as transaction:
            self.assertEqual(transaction.admit(event("k")), "admitted")
            theirs.start()
        theirs.join(WITHIN)
        self.assertEqual(told, ["duplicate"])

    def test_in_each_others_way(self) -> None:
        """Of two that wait for each other one is told so, and can do it again at once."""
        both = threading.Barrier(2, timeout=WITHIN)
        lost: list[int] = []

        def admit(store: SqlAlchemyStore, first: str, second: str) -> None:
            try:
                with store.transaction() as transaction:
                    transaction.admit(event(first))
                    both.wait()
                    transaction.admit(event(second))
            except LostRaceError:
                lost.append(1)

        theirs = threading.Thread(target=admit, args=(self.other, "b", "a"))
        theirs.start()
        admit(self.store, "a", "b")
        theirs.join(WITHIN)
        self.assertEqual(lost, [1])
        with self.store.transaction(read=True) as transaction:
            self.assertEqual(transaction.count()["pending"], 2)

    def test_opened_at_the_same_time(self) -> None:
        """Two that open their stores at once are not in each other's way."""
        both = threading.Barrier(2, timeout=WITHIN)
        probes: list[str] = []
        for store in self.stores:
            enter = store._database.enter

            def slowly(connections: Any, owner: str, enter: Callable[..., None] = enter) -> None:
                probes.append(owner)
                enter(connections, owner)
                both.wait()

            self.patch(store._database, "enter", slowly)
        told: list[Sequence[str]] = []
        theirs = threading.Thread(target=lambda: told.append(self.other.open()))
        theirs.start()
        self.assertEqual(list(self.store.open()), [])
        theirs.join(WITHIN)
        self.assertEqual(told, [[]])
        self.assertEqual(len(set(probes)), 2)

    def test_owners_are_seen(self) -> None:
        """Each sees the other's owners, and that they are gone when their session is."""
        self.store.enter(ONE)
        self.assertTrue(self.other.is_alive(ONE))
        with self.other.transaction() as transaction:
            waiting = transaction.connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            ).scalar_one()
            self.assertEqual(waiting, 0, "it would keep the server from tidying up")
            ended = transaction.connection.exec_driver_sql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks "
                "WHERE locktype = 'advisory' AND granted"
            ).scalar_one()
        self.assertEqual(ended, 1)
        self.assertFalse(self.eventually_alive(False))
        self.store.enter(ONE)
        self.assertTrue(self.other.is_alive(ONE))
        self.store.leave(ONE)
        self.assertFalse(self.eventually_alive(False))

    def test_an_old_session_that_nobody_has_ended(self) -> None:
        """Who comes back takes its lock from its own old session, and from nobody else's."""
        self.store.enter(ONE)
        self.other.enter(TWO)
        self.other.enter(ONE)
        self.assertTrue(self.store.is_alive(TWO))
        with self.store.transaction() as transaction:
            held = transaction.connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            ).scalar_one()
        self.assertEqual(held, 2)
        self.other.leave(ONE)
        self.assertFalse(self.eventually_alive(False))

    def test_brought_back_while_it_is_pruned(self) -> None:
        """A key that an operator brings back at the same time is not forgotten."""
        self.admit("k", "l")
        with self.store.transaction() as transaction:
            for claim in transaction.claim(["mail"], 2, ONE, LEASE):
                transaction.complete(claim)
        pruned: list[int] = []

        def prune() -> None:
            with self.other.transaction() as transaction:
                pruned.append(transaction.prune(0.0, 10))

        theirs = threading.Thread(target=prune)
        with self.store.transaction() as transaction:
            transaction.resolve("mail", "k", "retry", "ann")
            theirs.start()
            self.wait_for_waiting()
        theirs.join(WITHIN)
        self.assertEqual(pruned, [1])
        with self.store.transaction(read=True) as transaction:
            self.assertEqual(transaction.count()["pending"], 1)
            self.assertIsNone(transaction.show("l"))

    def wait_for_waiting(self) -> None:
        """Wait until somebody waits for a lock."""
        waiting = threading.Event()
        for _ in range(int(WITHIN / 0.05)):
            with self.store.transaction(read=True) as transaction:
                if transaction.connection.exec_driver_sql(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"
                ).scalar_one():
                    return
            waiting.wait(0.05)
        self.fail("nobody waits")

    def test_a_key_that_somebody_holds(self) -> None:
        """Who offers a key that another one holds on to waits in vain; others do not."""
        told: list[Any] = []
        with (
            mock.patch.object(
                postgres.Postgres, "begins_with", ("SET LOCAL lock_timeout = '200ms'",)
            ),
            self.store.transaction() as transaction,
        ):
            transaction.admit(event("held"))
            told += perform(
                self.other, [lambda t, key=key: t.admit(event(key)) for key in ("a", "held", "b")]
            )
        self.assertEqual([told[0], told[2]], ["admitted"] * 2)
        self.assertTrue(told[1].check(LedgerUnavailableError))

    def test_joined(self) -> None:
        """Who admits in a transaction of its own waits for nobody for ever, as it may wish."""
        for wish, expected in (("0", "10s"), ("3s", "3s")):
            with self.store.transaction() as transaction:
                connection = transaction.connection
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{wish}'")
                self.store.join(connection)
                told = connection.exec_driver_sql("SHOW lock_timeout").scalar_one()
            self.assertEqual(told, expected)

    def test_joined_without_a_transaction(self) -> None:
        """A connection that commits each statement is refused."""
        engine = sa.create_engine(servers[0].url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, self.assertRaises(LedgerTransactionError):
            self.store.join(connection)
        engine.dispose()

    def test_a_wire_that_is_cut(self) -> None:
        """A server that cannot be reached is given up soon, unless the address says otherwise."""
        for url, expected in (
            (servers[0].url, 30_000),
            (f"{servers[0].url}?tcp_user_timeout=7000", 7_000),
        ):
            store = SqlAlchemyStore.from_url(url)
            self.addCleanup(store.close)
            with store.transaction() as transaction:
                wire = transaction.connection.connection.dbapi_connection.fileno()
                with socket.socket(fileno=os.dup(wire)) as found:
                    told = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            self.assertEqual(told, expected)

    def test_ended_at_the_same_time(self) -> None:
        """Of two of one rank that end at the same time in two processes both are counted."""
        handlings = (Handling("mail"), Handling("log"), Handling("after", rank=1))
        with self.store.transaction() as transaction:
            transaction.admit(LedgerEvent("k", handlings=handlings))
            mail, log = transaction.claim(["mail", "log"], 2, ONE, LEASE)

        def complete() -> None:
            with self.other.transaction() as transaction:
                transaction.complete(log)

        theirs = threading.Thread(target=complete)
        with self.store.transaction() as transaction:
            transaction.complete(mail)
            theirs.start()
            self.wait_for_waiting()
        theirs.join(WITHIN)
        with self.store.transaction() as transaction:
            self.assertEqual(len(transaction.claim(["after"], 1, ONE, LEASE)), 1)

    def test_a_failure_that_the_work_passes_over(self) -> None:
        """Work that goes on after a statement has failed is told, and nothing is kept."""
        self.admit("k")
        with self.store.transaction() as transaction:
            (claim,) = transaction.claim(["mail"], 1, ONE, LEASE)
        with self.assertRaises(LedgerTransactionError), self.store.transaction() as transaction:
            with contextlib.suppress(sa.exc.ProgrammingError):
                transaction.connection.exec_driver_sql("SELECT nonsense")
            transaction.complete(claim)
        with self.store.transaction(read=True) as transaction:
            self.assertEqual(transaction.count()["running"], 1)

    def eventually_alive(self, wanted: bool) -> bool:
        """Look until it is so: a session ends a little later than it is told to."""
        waiting = threading.Event()
        for _ in range(int(WITHIN / 0.05)):
            if self.other.is_alive(ONE) is wanted:
                return wanted
            waiting.wait(0.05)
        return not wanted

    def test_forgetful_servers(self) -> None:
        """A server, or a connection, that does not wait for the disk is refused."""
        for setting in ("synchronous_commit", "full_page_writes", "fsync"):
            if setting == "synchronous_commit":
                store = store_for(f"{servers[0].url}?options=-csynchronous_commit%3Doff")
            else:
                self._set(f"ALTER SYSTEM SET {setting} = off")
                self.addCleanup(self._set, f"ALTER SYSTEM RESET {setting}")
                store = store_for(servers[0].url)
            error = self.assertRaises(UnsafeLedgerError, self._open_new, store, setting)
            self.assertIn(f"{setting} is off", str(error))

    def _open_new(self, store: ILedgerStore, setting: str) -> None:
        """Open a store; a setting reaches the sessions a little later than it is told."""
        self.addCleanup(store.close)
        waiting = threading.Event()
        for _ in range(int(WITHIN / 0.05)):
            store.open()
            waiting.wait(0.05)

    def _set(self, statement: str) -> None:
        engine = sa.create_engine(servers[0].url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()

    def test_a_server_that_dies(self) -> None:
        """While it is away that is said; what was committed is there when it is back."""
        self.admit("done", "running", "pending")
        with self.store.transaction() as transaction:
            claims = {c.key: c for c in transaction.claim(["mail"], 2, ONE, LEASE)}
        first, second = claims.values()
        self.store.enter(ONE)
        with self.store.transaction() as transaction:
            transaction.complete(first)
        try:
            with self.assertRaises(LedgerUnavailableError), self.store.transaction() as broken:
                self.complete_with_effect(broken, second)
                servers[0].kill()
                broken.count()
            for _ in range(2):
                self.assertRaises(LedgerUnavailableError, self.admit, "while it is away")
            self.assertRaises(LedgerUnavailableError, self.store.enter, ONE)
        finally:
            servers[0].start()
        with self.store.transaction() as transaction:
            counted = transaction.count()
            self.assertEqual((counted["done"], counted["running"], counted["pending"]), (1, 1, 1))
            rows = transaction.connection.exec_driver_sql("SELECT name FROM effect").all()
            self.assertEqual(rows, [])
        self.store.enter(ONE)
        self.assertTrue(self.other.is_alive(ONE))
        with self.store.transaction() as transaction:
            self.complete_with_effect(transaction, second)

    def complete_with_effect(self, transaction: Any, claim: Claim) -> None:
        """Write an effect and complete."""
        transaction.connection.exec_driver_sql("INSERT INTO effect (name) VALUES ('x')")
        transaction.complete(claim)
