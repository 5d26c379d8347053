"""The ledger through Django: atomic blocks, threads, autocommit, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from django.core.exceptions import SynchronousOnlyOperation
from django.db import Error, IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    ForkedProcessError,
    LedgerCorruptError,
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
    LedgerUrlError,
    UnsafeLedgerError,
)
from oni.ledger import Ledger
from oni.ledger.django import DjangoStore, create_statements
from oni.values import Claim, Handling, LedgerEvent
from tests.ledger.django_aliases import AliasFolder, an_alias, effects, write_effect

OWNER = "1" * 32
WITHIN = 30.0  # seconds


def event(key: str) -> LedgerEvent:
    """Give an event for one handler."""
    return LedgerEvent(key, "g", b"", (Handling("mail", "transaction"),))


class AliasCase(SynchronousTestCase):
    """Has a database, and a store in it."""

    def setUp(self) -> None:
        """Make both."""
        self.folder = self.make()
        self.alias = self.folder.alias
        self.store = DjangoStore(self.alias)
        self.store.open()
        self.addCleanup(self.store.close)

    def make(self, **options: Any) -> AliasFolder:
        """Make another database."""
        folder = AliasFolder(**options)
        self.addCleanup(folder.remove)
        return folder

    def count(self) -> int:
        """Count what is pending."""
        with self.store.transaction(read=True) as kept:
            return kept.count()["pending"]

    def claim(self, *keys: str) -> Sequence[Claim]:
        """Admit keys, and claim them."""
        with self.store.transaction() as kept:
            for key in keys:
                kept.admit(event(key))
            return kept.claim(["mail"], 64, OWNER, 10.0)

    def in_thread(self, function: Callable[[], Any]) -> Any:
        """Run a function in a thread of its own, and give what came of it."""
        told: list[Any] = []

        def run() -> None:
            try:
                told.append(function())
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                told.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(WITHIN)
        return told[0]


class StartTests(AliasCase):
    """What is looked at when a store is opened."""

    def refused(self, store: DjangoStore) -> str:
        """Open a store that must refuse; give what it says."""
        self.addCleanup(store.close)
        return str(self.assertRaises(UnsafeLedgerError, store.open))

    def test_all_well(self) -> None:
        """Written as the manual says there is nothing to say."""
        folder = self.make(init_command="PRAGMA journal_mode=wal; PRAGMA synchronous=full")
        store = DjangoStore(folder.alias)
        self.addCleanup(store.close)
        self.assertEqual(list(store.open()), [])
        self.assertEqual(store.label, "effects once")

    def test_no_tables(self) -> None:
        """It makes no tables, and says who does."""
        text = self.refused(DjangoStore(self.make(has_tables=False).alias))
        self.assertIn("oni_event, oni_delivery, oni_decision", text)
        self.assertIn("manage.py migrate --database=ledger_", text)

    def test_late_locks(self) -> None:
        """Transactions that take their lock when they first write are refused."""
        for mode in (None, "DEFERRED"):
            text = self.refused(DjangoStore(self.make(transaction_mode=mode).alias))
            self.assertIn('"transaction_mode": "IMMEDIATE"', text)
        DjangoStore(self.make(transaction_mode="exclusive").alias).open()

    def test_speed_for_safety(self) -> None:
        """What a machine's failure, or a reader, may suffer from is warned of, with a way out."""
        folder = self.make(init_command="PRAGMA journal_mode=delete; PRAGMA synchronous=normal")
        store = DjangoStore(folder.alias)
        self.addCleanup(store.close)
        first, second, third = store.open()
        self.assertIn("synchronous is NORMAL", first)
        self.assertIn("journal_mode is delete", second)
        self.assertIn(f"DATABASES['{folder.alias}']", third)
        self.assertIn("init_command", third)

    def test_no_synchronous(self) -> None:
        """A file that is not written to the disk is refused."""
        folder = self.make(init_command="PRAGMA synchronous=off")
        self.assertIn("synchronous is OFF", self.refused(DjangoStore(folder.alias)))

    def test_no_autocommit(self) -> None:
        """Where atomic blocks commit nothing, there is no ledger."""
        with an_alias(
            ENGINE="django.db.backends.sqlite3",
            NAME=str(self.folder.path),
            AUTOCOMMIT=False,
            OPTIONS={"transaction_mode": "IMMEDIATE"},
        ) as alias:
            self.assertIn("AUTOCOMMIT", self.refused(DjangoStore(alias)))

    def test_memory(self) -> None:
        """A database in memory is refused, but the one that Django's test runner makes."""
        options = {"transaction_mode": "IMMEDIATE"}
        engine = "django.db.backends.sqlite3"
        with an_alias(ENGINE=engine, NAME=":memory:", OPTIONS=options) as alias:
            self.assertIn("in memory", self.refused(DjangoStore(alias)))
            connections[alias].connection.close()
        name = "file:memorydb_for_this_test?mode=memory&cache=shared"
        with an_alias(ENGINE=engine, NAME=name, OPTIONS=options) as alias:
            with connections[alias].cursor() as cursor:
                for statement in create_statements("sqlite"):
                    cursor.execute(statement)
            DjangoStore(alias).open()
            connections[alias].connection.close()

    def test_unknown_alias(self) -> None:
        """An alias that there is not is refused, with those that there are."""
        error = self.assertRaises(LedgerUrlError, DjangoStore, "elsewhere")
        self.assertIn("'elsewhere'", str(error))
        self.assertIn("'default'", str(error))

    def test_other_databases(self) -> None:
        """Another kind of database is refused by its name."""
        with an_alias(ENGINE="django.db.backends.dummy") as alias:
            wrapper = connections[alias]
            wrapper.vendor, wrapper.display_name = "mysql", "MySQL"
            self.assertIn("MySQL", str(self.assertRaises(LedgerUrlError, DjangoStore, alias)))

    def test_statements_for_other_databases(self) -> None:
        """Nor are there tables for one."""
        self.assertRaises(ValueError, create_statements, "mysql")


class OwnTransactionTests(AliasCase):
    """Transactions of the ledger's own are atomic blocks."""

    def test_the_lock_is_taken_first(self) -> None:
        """Who reads first and writes later is not refused in between: nobody else can begin."""
        with closing(sqlite3.connect(self.folder.path, isolation_level=None, timeout=0)) as other:
            with self.store.transaction() as kept:
                self.assertIsNone(kept.show("k"))
                self.assertRaises(sqlite3.OperationalError, other.execute, "BEGIN IMMEDIATE")
                self.assertEqual(kept.admit(event("k")), "admitted")
            other.execute("BEGIN IMMEDIATE")
            self.assertEqual(self.count(), 1, "reading waits for nobody")

    def test_locked(self) -> None:
        """After the time that it waits for another writer, that is said."""
        folder = self.make(timeout=0.05)
        store = DjangoStore(folder.alias)
        store.open()
        self.addCleanup(store.close)
        with closing(sqlite3.connect(folder.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with self.assertRaises(LedgerUnavailableError) as caught, store.transaction():
                self.fail("it has the lock of another")
            self.assertIn("locked by another writer", str(caught.exception))
        with store.transaction() as kept:
            self.assertEqual(kept.admit(event("k")), "admitted")

    def test_handlers_write_with_django(self) -> None:
        """What a handler writes through Django is committed with the completion, or not at all."""
        first, second = self.claim("a", "b")
        with self.store.transaction() as kept:
            with connections[self.alias].cursor() as cursor:
                cursor.execute("INSERT INTO effect (name) VALUES ('done')")
            kept.complete(first)
        with self.assertRaises(ZeroDivisionError), self.store.transaction() as kept:
            write_effect(kept.connection, "undone")
            kept.complete(second)
            raise ZeroDivisionError
        self.assertEqual(list(effects(self.alias)), ["done"])

    def test_savepoints(self) -> None:
        """A handler's inner block that ends well goes with the outer one that does not."""
        with self.assertRaises(ZeroDivisionError), self.store.transaction() as kept:
            with transaction.atomic(using=self.alias):
                write_effect(kept.connection, "inside")
            raise ZeroDivisionError
        self.assertEqual(list(effects(self.alias)), [])

    def test_ended_by_the_work(self) -> None:
        """Work that commits or rolls back behind Django's back is told; nothing is completed."""
        (claim,) = self.claim("k")
        for statements in (["COMMIT"], ["ROLLBACK"], ["COMMIT", "INSERT INTO effect VALUES (1)"]):
            for completes in (True, False):
                with (
                    self.assertRaises(LedgerTransactionError),
                    self.store.transaction() as kept,
                ):
                    for statement in statements:
                        with kept.connection.cursor() as cursor:
                            cursor.execute(statement)
                    if completes:
                        kept.complete(claim)
        with self.store.transaction(read=True) as kept:
            self.assertEqual(kept.count()["running"], 1)

    def test_committed_by_the_work(self) -> None:
        """Django itself refuses it."""
        for end in (transaction.commit, transaction.rollback):
            with self.assertRaises(TransactionManagementError), self.store.transaction():
                end(using=self.alias)

    def test_a_swallowed_failure(self) -> None:
        """Work that goes on after a failure that broke the block completes nothing."""
        (claim,) = self.claim("k")

        def pass_over() -> None:
            # Trial has a use of its own for a module's `suppress`.
            with (
                contextlib.suppress(IntegrityError),
                transaction.atomic(using=self.alias, savepoint=False),
            ):
                raise IntegrityError

        def roll_back() -> None:
            transaction.set_rollback(True, using=self.alias)

        for work in (pass_over, roll_back):
            for completes in (True, False):
                with (
                    self.assertRaises(LedgerTransactionError),
                    self.store.transaction() as kept,
                ):
                    write_effect(kept.connection, "lost")
                    work()
                    if completes:
                        kept.complete(claim)
        with self.store.transaction(read=True) as kept:
            self.assertEqual(kept.count()["running"], 1)
        self.assertEqual(list(effects(self.alias)), [])

    def test_after_the_commit(self) -> None:
        """What is left to do after the commit is done, and its failure undoes nothing."""
        done: list[str] = []
        (claim,) = self.claim("k")
        with self.store.transaction() as kept:
            transaction.on_commit(lambda: done.append("mail"), using=self.alias)
            transaction.on_commit(lambda: 1 // 0, using=self.alias)
            kept.complete(claim)
            self.assertEqual(done, [])
        self.assertEqual(done, ["mail"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        with self.store.transaction(read=True) as kept:
            self.assertEqual(kept.count()["done"], 1)

    def test_after_a_rollback(self) -> None:
        """It is not done after a rollback."""
        done: list[str] = []
        with self.assertRaises(ZeroDivisionError), self.store.transaction():
            transaction.on_commit(lambda: done.append("mail"), using=self.alias)
            raise ZeroDivisionError
        self.assertEqual(done, [])

    def test_within_a_block(self) -> None:
        """One of its own cannot begin within another: it would not be its own. Reading can."""
        with transaction.atomic(using=self.alias):
            with self.assertRaises(LedgerTransactionError) as caught, self.store.transaction():
                self.fail("it began")
            self.assertIn("admit_within", str(caught.exception))
            self.assertEqual(self.count(), 0)

    def test_without_autocommit(self) -> None:
        """Nor where somebody works without autocommit: what is theirs is left alone."""
        wrapper = connections[self.alias]
        wrapper.set_autocommit(False)
        self.addCleanup(wrapper.set_autocommit, True)
        write_effect(wrapper, "theirs")
        for read in (True, False):
            with (
                self.assertRaises(LedgerTransactionError),
                self.store.transaction(read=read),
            ):
                self.fail("it began")
        wrapper.commit()
        self.assertEqual(list(effects(self.alias)), ["theirs"])

    def test_reading_keeps_nothing(self) -> None:
        """What is read leaves no transaction behind, also when it fails."""
        with self.assertRaises(ZeroDivisionError), self.store.transaction(read=True) as kept:
            kept.count()
            raise ZeroDivisionError
        self.assertFalse(connections[self.alias].connection.in_transaction)
        with closing(sqlite3.connect(self.folder.path, timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")

    def test_another_process(self) -> None:
        """A store that was opened is not used on the other side of a fork."""
        with mock.patch.object(os, "getpid", lambda: -1):
            self.assertRaises(ForkedProcessError, self.claim, "k")

    def test_made_before_a_fork(self) -> None:
        """One that was only made may be."""
        store = DjangoStore(self.alias)
        with mock.patch.object(os, "getpid", lambda: -1):
            store.open()
            store.close()


class InTestCaseTests(AliasCase):
    """Within a TestCase of Django's, which never commits, the ledger's blocks are inner ones."""

    def setUp(self) -> None:
        """Begin what such a TestCase begins."""
        super().setUp()
        self.whole = transaction.atomic(using=self.alias)
        self.whole._from_testcase = True
        self.whole.__enter__()
        self.addCleanup(self.whole.__exit__, None, None, None)

    def test_kept_until_the_end(self) -> None:
        """What is done can be seen, what fails is undone, and all goes with the test."""
        callbacks = len(connections[self.alias].run_on_commit)
        (claim,) = self.claim("k")
        with self.assertRaises(ZeroDivisionError), self.store.transaction() as kept:
            kept.complete(claim)
            raise ZeroDivisionError
        with self.store.transaction() as kept:
            self.assertEqual(kept.count()["running"], 1)
            kept.complete(claim)
        self.assertEqual(len(connections[self.alias].run_on_commit), callbacks)
        transaction.set_rollback(True, using=self.alias)
        self.doCleanups()


class JoinTests(AliasCase):
    """Taking part in somebody else's atomic block."""

    def admit(self, with_what: Any, key: str = "k") -> str:
        """Admit a key as a part of it."""
        return self.store.join(with_what).admit(event(key))

    def test_shares_its_fate(self) -> None:
        """A rollback, also to a savepoint, takes the admission back, and burns no key."""
        with self.assertRaises(ZeroDivisionError), transaction.atomic(using=self.alias):
            self.assertEqual(self.admit(connections[self.alias]), "admitted")
            raise ZeroDivisionError
        with transaction.atomic(using=self.alias):
            with (
                self.assertRaises(ZeroDivisionError),
                transaction.atomic(using=self.alias),
            ):
                self.assertEqual(self.admit(self.alias), "admitted")
                raise ZeroDivisionError
            self.assertEqual(self.count(), 0)
            self.assertEqual(self.admit(self.alias), "admitted")
        self.assertEqual(self.count(), 1)
        with transaction.atomic(using=self.alias):
            self.assertEqual(self.admit(self.alias), "duplicate")

    def test_through_the_ledger(self) -> None:
        """So does what a ledger is told to admit within it."""
        ledger = Ledger(self.store)
        with transaction.atomic(using=self.alias):
            admitted = ledger.admit_within(connections[self.alias], [event("b"), event("a")])
            transaction.set_rollback(True, using=self.alias)
        self.assertEqual(list(admitted), ["admitted", "admitted"])
        self.assertEqual(self.count(), 0)

    def test_the_default_connection(self) -> None:
        """``django.db.connection`` is known for the default one that it stands for."""
        error = self.assertRaises(LedgerTransactionError, self.admit, connection)
        self.assertIn("'default'", str(error))
        store = DjangoStore("default")
        with transaction.atomic():
            self.assertEqual(store.join(connection).admit(event("k")), "admitted")
            transaction.set_rollback(True)

    def test_autocommit(self) -> None:
        """Without a block the admission would be on its own, and is refused."""
        error = self.assertRaises(LedgerTransactionError, self.admit, connections[self.alias])
        self.assertIn(f"transaction.atomic(using='{self.alias}')", str(error))

    def test_another_database(self) -> None:
        """A block in another database is refused, with both names."""
        with transaction.atomic(using="default"):
            error = self.assertRaises(LedgerTransactionError, self.admit, "default")
        self.assertIn("'default'", str(error))
        self.assertIn(f"'{self.alias}'", str(error))

    def test_something_else(self) -> None:
        """What is no connection of Django's is refused."""
        for thing in (object(), None, sqlite3):
            self.assertRaises(LedgerTransactionError, self.admit, thing)

    def test_another_thread(self) -> None:
        """A connection belongs to its thread."""
        theirs = connections[self.alias]
        with transaction.atomic(using=self.alias):
            error = self.in_thread(lambda: self.admit(theirs))
        self.assertIsInstance(error, LedgerTransactionError)
        self.assertIn("another thread's", str(error))

    def test_asynchronous(self) -> None:
        """An asynchronous caller is refused by Django, whose connections would block it."""

        async def join() -> None:
            self.store.join(self.alias)

        async def begin() -> None:
            with self.store.transaction():
                self.fail("it began")

        for function in (join, begin):
            self.assertRaises(SynchronousOnlyOperation, asyncio.run, function())


class ThreadTests(AliasCase):
    """Each thread has a connection of its own, and leaves none behind."""

    def test_closed_in_the_end(self) -> None:
        """When the store is closed, so are the connections that its threads have opened."""
        theirs = self.in_thread(self._work)
        self.assertIsNotNone(theirs.connection)
        self.assertIsNot(theirs, connections[self.alias])
        self.store.close()
        self.assertIsNone(theirs.connection)

    def _work(self) -> Any:
        self.claim("k")
        return connections[self.alias]

    def test_closed_after_the_thread(self) -> None:
        """Those of threads that have ended are closed when another one opens its own."""
        first = self.in_thread(self._work)
        second = self.in_thread(self._work)
        self.assertIsNone(first.connection)
        self.assertIsNotNone(second.connection)

    def test_kept_while_the_thread_lives(self) -> None:
        """While a thread lives, its connection is used again."""

        def work_twice() -> bool:
            mine = self._work().connection
            return mine is self._work().connection

        self.assertIs(self.in_thread(work_twice), True)

    def test_opened_again_and_again(self) -> None:
        """A thread's connection that others close now and then is remembered once."""
        mine = connections[self.alias]
        for _ in range(5):
            mine.close()
            self.count()
        self.assertEqual(len(self.store._connections._opened), 1)

    def test_not_ours(self) -> None:
        """What somebody else has opened stays open, and so does what is in a block."""
        mine = connections[self.alias]
        mine.close()
        mine.ensure_connection()
        self._work()
        self.store.close()
        self.assertIsNotNone(mine.connection)
        mine.close()
        self.count()
        with transaction.atomic(using=self.alias):
            write_effect(mine, "first")
            self.store.close()
            write_effect(mine, "second")
        self.assertEqual(list(effects(self.alias)), ["first", "second"])

    def test_nothing_is_left_to_the_collector(self) -> None:
        """No connection is found open when it is thrown away."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(2):
                self.in_thread(lambda: self.claim("k") and None)
            self.store.close()
            gc.collect()
        self.assertEqual([str(each.message) for each in seen], [])

    def test_a_lost_connection(self) -> None:
        """One that turns out to be unusable is opened anew."""
        wrapper = connections[self.alias]
        lost = wrapper.connection
        with mock.patch.object(wrapper, "is_usable", lambda: False):
            self.assertEqual(self.count(), 0)
        self.assertIsNot(wrapper.connection, lost)

    def test_a_failure_while_reading(self) -> None:
        """Where even the end of reading fails, the connection is closed."""
        wrapper = connections[self.alias]
        with self.assertRaises(ZeroDivisionError), self.store.transaction(read=True):
            wrapper.connection.close()
            raise ZeroDivisionError
        self.assertIsNone(wrapper.connection)
        self.assertEqual(self.count(), 0)

    def test_mistakes_in_the_program(self) -> None:
        """What is no failure of the database comes as it is."""
        with self.assertRaises(Error) as caught, self.store.transaction() as kept:
            kept.connection.cursor().execute("SELECT nonsense")
        self.assertIn("nonsense", str(caught.exception))


class FileTests(AliasCase):
    """The file, and what is beside it."""

    def test_no_room(self) -> None:
        """Where there is no room that is said, nothing is changed, and it works again later."""
        cursor = connections[self.alias].cursor()
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0] + 2}")
        big = LedgerEvent("big", payload=bytes(60_000))
        for _ in range(2):
            with self.assertRaises(LedgerFullError), self.store.transaction() as kept:
                kept.admit(big)
        self.assertEqual(self.count(), 0)
        cursor.execute("PRAGMA max_page_count = 1000000")
        with self.store.transaction() as kept:
            self.assertEqual(kept.admit(big), "admitted")

    def test_damaged(self) -> None:
        """A file that is no database any more is refused by name, and left as it is."""
        self.store.close()
        connections[self.alias].close()
        self.folder.path.write_bytes(b"no database" * 1000)
        error = self.assertRaises(LedgerCorruptError, self.store.open)
        self.assertIn(f"sqlite3 '{self.folder.path}' .recover", str(error))
        self.assertEqual(self.folder.path.read_bytes(), b"no database" * 1000)

    def test_owners(self) -> None:
        """The files that say who lives are beside it, and are gone with them."""
        self.store.enter(OWNER)
        owners = Path(f"{self.folder.path}.owners")
        self.assertEqual([path.name for path in owners.iterdir()], [OWNER])
        self.store.leave(OWNER)
        self.assertEqual(list(owners.iterdir()), [])
