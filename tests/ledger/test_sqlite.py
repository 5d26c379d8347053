"""SQLite: what is refused, and what becomes of a full, locked or damaged file."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sqlite3
import tempfile
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from sqlalchemy.orm import Session
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    ForkedProcessError,
    LedgerCorruptError,
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
    UnknownDeliveryError,
    UnsafeLedgerError,
)
from oni.interfaces import ILedgerStore
from oni.ledger import _sqlite
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.values import Handling, LedgerEvent
from tests.ledger.stores import SqlFolder, effects, write_effect

OWNER = "1" * 32
LEASE = 10.0
MANY = 2_000
BIG = bytes(60_000)


def admit(store: ILedgerStore, key: str, payload: bytes = b"") -> str:
    """Admit a key in a transaction of its own."""
    with store.transaction() as transaction:
        return transaction.admit(LedgerEvent(key, "g", payload, (Handling("mail"),)))


class FolderCase(SynchronousTestCase):
    """Has a database in a folder."""

    def make(self, **options: object) -> SqlFolder:
        """Make another one."""
        folder = SqlFolder(**options)  # type: ignore[arg-type]
        self.addCleanup(folder.remove)
        return folder


class CostTests(FolderCase):
    """What a claim costs: the steps of SQLite's machine, which no other process makes more."""

    def fill(self, folder: SqlFolder) -> None:
        """Make many keys: half of them done, half of them with one handler waiting for another."""
        for number in range(2):
            handlings = (Handling("mail"), Handling("after", rank=1))
            with folder.store.transaction() as transaction:
                transaction.admit(LedgerEvent(f"k{number}", handlings=handlings))
        with folder.store.transaction() as transaction:
            for claim in transaction.claim(["mail"], 1, OWNER, LEASE):
                transaction.complete(claim)
            for claim in transaction.claim(["after"], 1, OWNER, LEASE):
                transaction.complete(claim)
        for table, columns in (
            ("oni_event", "key, group_name, digest, payload, admitted_at, version"),
            (
                "oni_delivery",
                "key, handler, state, on_crash, max_attempts, attempts, crashes, token, owner, "
                "lease_until, next_at, changed_at, last_error, rank, waits_for, awaited_by, "
                "version",
            ),
        ):
            with folder.engine.begin() as connection:
                connection.exec_driver_sql(
                    f"INSERT INTO {table} ({columns}) WITH RECURSIVE n (n) AS "
                    f"(SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY}) "
                    f"SELECT {columns.replace('key', 'key || n', 1)} FROM {table}, n"
                )

    def steps(self, folder: SqlFolder, **options: Any) -> int:
        """Count the steps of a claim for the handler that waits."""
        counted = [0]

        def count() -> None:
            counted[0] += 1

        with folder.store.transaction() as transaction:
            driver = transaction.connection.connection.dbapi_connection
            driver.set_progress_handler(count, 1)
            try:
                transaction.claim(["after"], 1, OWNER, LEASE, **options)
            finally:
                driver.set_progress_handler(None, 1)
        return counted[0]

    def test_what_is_done_or_waits_costs_nothing(self) -> None:
        """A claim costs the same however many deliveries are done, or wait for others to end."""
        few, many = self.make(), self.make()
        for folder in (few, many):
            folder.store.open()
        self.fill(many)
        for options in ({}, {"keys": ["a", "b"]}):
            self.assertLess(self.steps(many, **options), 2 * self.steps(few, **options) + 100)

    def test_what_is_due_comes_in_order(self) -> None:
        """Nor does it cost more when many are due: nothing is sorted."""
        folder = self.make()
        folder.store.open()
        self.fill(folder)
        with folder.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE oni_delivery SET waits_for = 0")
        self.assertLess(self.steps(folder), 500)
        keys = [f"k1{number}" for number in range(1, 65)]
        self.assertLess(self.steps(folder, keys=keys), 10_000)


class StartTests(FolderCase):
    """What is looked at when a store is opened."""

    def refused(self, store: SqlAlchemyStore) -> str:
        """Open a store that must refuse; give what it says."""
        self.addCleanup(store.close)
        return str(self.assertRaises(UnsafeLedgerError, store.open))

    def test_all_well(self) -> None:
        """The way a URL is opened there is nothing to say."""
        folder = self.make()
        store = SqlAlchemyStore.from_url(folder.url)
        self.addCleanup(store.close)
        self.assertEqual(list(store.open()), [])
        with store.transaction(read=True) as transaction:
            ask = transaction.connection.exec_driver_sql
            self.assertEqual(ask("PRAGMA synchronous").scalar_one(), 2)
            self.assertEqual(ask("PRAGMA journal_mode").scalar_one(), "wal")
            self.assertEqual(ask("PRAGMA busy_timeout").scalar_one(), 30_000)

    def test_opened_twice(self) -> None:
        """What is there already stays."""
        folder = self.make()
        folder.store.open()
        admit(folder.store, "k")
        folder.store.open()
        self.assertEqual(admit(folder.store, "k"), "duplicate")

    def test_normal_synchronous(self) -> None:
        """That the machine's failure may cost something is warned of."""
        (warning,) = self.make(synchronous="NORMAL").store.open()
        self.assertIn("synchronous is NORMAL", warning)

    def test_no_synchronous(self) -> None:
        """A file that is not written to the disk is refused."""
        self.assertIn("synchronous is OFF", self.refused(self.make(synchronous="OFF").store))

    def test_late_transactions(self) -> None:
        """The driver's own way, in which savepoints outlive a rollback, is refused."""
        engine = sa.create_engine(self.make().url)
        self.assertIn("prepare_engine", self.refused(SqlAlchemyStore(engine)))

    def test_joined_with_late_transactions(self) -> None:
        """Nor is it joined: a rollback would leave what a savepoint took in."""
        folder = self.make()
        folder.store.open()
        own = sa.create_engine(folder.url)
        for engine in (own, own.execution_options(isolation_level="AUTOCOMMIT")):
            with engine.connect() as connection:
                error = self.assertRaises(LedgerTransactionError, folder.store.join, connection)
                self.assertIn("prepare_engine", str(error))
        own.dispose()

    def test_joined_before_anything_else(self) -> None:
        """What is the first thing in a savepoint is gone with the rollback around it."""
        folder = self.make()
        folder.store.open()
        with folder.engine.connect() as connection:
            with connection.begin_nested():
                folder.store.join(connection).admit(LedgerEvent("k"))
            connection.rollback()
        self.assertEqual(admit(folder.store, "k"), "admitted")

    def test_tables_of_another_version(self) -> None:
        """Tables that have not what is needed are left alone, and it is said."""
        folder = self.make()
        with folder.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE oni_delivery (key TEXT, changed_at, state)")
        with mock.patch("oni.ledger.sqlalchemy.SqlAlchemyStore.find_tables"):
            self.assertIn("another version", self.refused(folder.store))

    def test_opened_again_with_an_owner(self) -> None:
        """An owner that has entered leaves, also when the store was opened twice."""
        store = self.make().store
        store.open()
        store.enter(OWNER)
        store.open()
        store.leave(OWNER)
        self.assertFalse(store.is_alive(OWNER))

    def test_savepoints(self) -> None:
        """With a prepared engine a savepoint does not outlive the rollback around it."""
        folder = self.make()
        with folder.engine.connect() as connection:
            outer = connection.begin()
            with connection.begin_nested():
                write_effect(connection, "inside")
            outer.rollback()
        self.assertEqual(list(effects(folder.engine)), [])

    def test_memory(self) -> None:
        """A database in memory is refused."""
        store = SqlAlchemyStore(prepare_engine(sa.create_engine("sqlite://")))
        self.assertIn("in memory", self.refused(store))

    def test_no_folder(self) -> None:
        """Where a file's folder is not there the error has its name; it may come."""
        folder = self.make().path.parent / "nowhere"
        store = SqlAlchemyStore.from_url(f"sqlite:///{folder}/ledger.db")
        self.addCleanup(store.close)
        error = self.assertRaises(LedgerUnavailableError, store.open)
        self.assertIn(f"{folder} is no folder", str(error))
        self.assertFalse(folder.exists())
        folder.mkdir()
        self.assertEqual([], list(store.open()))

    def test_network(self) -> None:
        """A file on a network file system is refused."""
        folder = self.make()
        with mock.patch.object(_sqlite, "is_on_network", lambda path: path == folder.path):
            self.assertIn("network file system", self.refused(folder.store))

    def test_journal(self) -> None:
        """Without a journal it is refused; with the old kind one is warned."""
        folder = self.make()
        store = SqlAlchemyStore(folder.engine)
        for mode, said in (("off", "journal_mode is off"), ("memory", "journal_mode is memory")):
            with self._journal(folder.engine, mode):
                self.assertIn(said, str(self.assertRaises(UnsafeLedgerError, store.open)))
        with self._journal(folder.engine, "truncate"):
            self.assertTrue(any("journal_mode is truncate" in each for each in store.open()))

    def _journal(self, engine: sa.Engine, mode: str) -> object:
        def connect(connection: sqlite3.Connection, record: object) -> None:
            connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()

        class Context:
            def __enter__(self) -> None:
                engine.dispose()
                sa.event.listen(engine, "connect", connect)

            def __exit__(self, *error: object) -> None:
                sa.event.remove(engine, "connect", connect)
                engine.dispose()

        return Context()

    def test_another_process(self) -> None:
        """A store is not used on the other side of a fork."""
        store = self.make().store
        store.open()
        with mock.patch.object(os, "getpid", lambda: -1):
            self.assertRaises(ForkedProcessError, admit, store, "k")

    def test_other_versions_are_left_alone(self) -> None:
        """Rows of another program's version are neither claimed, nor rescued, nor pruned."""
        folder = self.make()
        store = folder.store
        store.open()
        for key in ("theirs", "ours"):
            admit(store, key)
        with folder.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE oni_delivery SET version = 2 WHERE key = 'theirs'")
        with store.transaction() as transaction:
            (claim,) = transaction.claim(["mail"], 9, OWNER, 10.0)
            transaction.complete(claim)
            with self.assertRaises(UnknownDeliveryError):
                transaction.resolve("mail", "theirs", "done", "ann")
        with folder.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE oni_delivery SET version = 2, state = 'running' WHERE key = 'theirs'"
            )
        with store.transaction() as transaction:
            self.assertEqual(list(transaction.running()), [])
        with folder.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE oni_delivery SET state = 'done'")
            connection.exec_driver_sql("UPDATE oni_delivery SET changed_at = 0")
            connection.exec_driver_sql("UPDATE oni_event SET admitted_at = 0")
        with store.transaction() as transaction:
            self.assertEqual(transaction.prune(1.0, 9), 1)
        self.assertEqual(admit(store, "theirs"), "duplicate")


class WorkTests(FolderCase):
    """What a handler must not do with the transaction that it is given."""

    def test_ended_by_the_work(self) -> None:
        """Work that commits or rolls back by itself is told, and nothing is completed."""
        folder = self.make()
        folder.store.open()
        admit(folder.store, "k")
        with folder.store.transaction() as transaction:
            (claim,) = transaction.claim(["mail"], 1, OWNER, 10.0)
        ways: list[Callable[[sa.Connection], object]] = [
            lambda connection: connection.rollback(),
            lambda connection: connection.commit(),
            lambda connection: connection.exec_driver_sql("COMMIT"),
            lambda connection: (
                connection.exec_driver_sql("COMMIT"),
                write_effect(connection, "too late"),
            ),
        ]
        for way in ways:
            for completes in (True, False):
                with (
                    self.assertRaises(LedgerTransactionError),
                    folder.store.transaction() as transaction,
                ):
                    way(transaction.connection)
                    if completes:
                        transaction.complete(claim)
        with folder.store.transaction(read=True) as transaction:
            self.assertEqual(transaction.count()["running"], 1)

    def test_joined_with_a_session(self) -> None:
        """A session of SQLAlchemy's can be joined, and takes the admission back with it."""
        folder = self.make()
        folder.store.open()
        event = LedgerEvent("k")
        with Session(folder.engine) as session:
            self.assertEqual(folder.store.join(session).admit(event), "admitted")
            session.rollback()
            self.assertEqual(folder.store.join(session).admit(event), "admitted")
            session.commit()
        self.assertEqual(
            admit(folder.store, "k"), "conflict" if event.payload != b"" else "duplicate"
        )


class FullTests(FolderCase):
    """A disk without room."""

    def test_no_more_pages(self) -> None:
        """It is refused and said; reading works; it works again when there is room."""
        folder = self.make()
        folder.store.open()
        admit(folder.store, "first")
        with folder.engine.begin() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
        for _ in range(3):
            error = self.assertRaises(LedgerFullError, admit, folder.store, "big", BIG)
            self.assertIn("no room", str(error))
        with folder.store.transaction(read=True) as transaction:
            self.assertEqual(transaction.count()["pending"], 1)
        with folder.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        self.assertEqual(admit(folder.store, "big", BIG), "admitted")
        self.assertEqual(list(folder.store.open())[1:], [], "it is as good as new")

    def test_no_more_bytes(self) -> None:
        """The same where the system refuses to write, and not SQLite itself."""
        folder = self.make()
        folder.store.open()
        admit(folder.store, "first")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = Path(f"{folder.path}-wal").stat().st_size + 4096
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            error = self.assertRaises(LedgerFullError, admit, folder.store, "big", BIG)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        self.assertIn(str(folder.path), str(error))
        self.assertEqual(admit(folder.store, "big", BIG), "admitted")
        self.assertEqual(list(folder.store.open())[1:], [], "it is as good as new")


class LockedTests(FolderCase):
    """Another one that writes for long."""

    def test_locked(self) -> None:
        """After the time that it waits, that is said; reading waits for nobody."""
        folder = self.make(busy_timeout=0.05)
        folder.store.open()
        admit(folder.store, "first")
        other = sqlite3.connect(folder.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        error = self.assertRaises(LedgerUnavailableError, admit, folder.store, "k")
        self.assertIn("locked by another writer", str(error))
        with folder.store.transaction(read=True) as transaction:
            self.assertEqual(transaction.count()["pending"], 1)
        other.execute("ROLLBACK")
        self.assertEqual(admit(folder.store, "k"), "admitted")

    def test_the_lock_is_taken_first(self) -> None:
        """Who reads first and writes later is not refused in between: nobody else can begin."""
        folder = self.make()
        folder.store.open()
        with closing(sqlite3.connect(folder.path, isolation_level=None, timeout=0)) as other:
            with folder.store.transaction() as transaction:
                self.assertIsNone(transaction.show("k"))
                self.assertRaises(sqlite3.OperationalError, other.execute, "BEGIN IMMEDIATE")
                self.assertEqual(transaction.admit(LedgerEvent("k")), "admitted")
            other.execute("BEGIN IMMEDIATE")


class DamagedTests(FolderCase):
    """A file that is not what it was."""

    def refuse(self, damage: bytes, at: int) -> None:
        """Damage a file; it must be refused by name, with a way out, and left as it is."""
        folder = self.make()
        folder.store.open()
        for number in range(50):
            admit(folder.store, f"k{number}", bytes([number]) * 500)
        folder.store.close()
        with closing(sqlite3.connect(folder.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(folder.path.read_bytes())
        content[at : at + len(damage)] = damage
        folder.path.write_bytes(content)
        error = self.assertRaises(LedgerCorruptError, folder.store.open)
        self.assertIn(f"sqlite3 '{folder.path}' .recover", str(error))
        folder.store.close()
        self.assertEqual(folder.path.read_bytes(), bytes(content))

    def test_pages(self) -> None:
        """Pages that were overwritten."""
        self.refuse(b"\xa5" * 3 * 4096, 4096)

    def test_head(self) -> None:
        """A file that is no database any more."""
        self.refuse(b"no database", 0)


class FileLockTests(SynchronousTestCase):
    """Owners by locks on files."""

    def setUp(self) -> None:
        """Make a directory's."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name, "owners")
        self.locks = _sqlite.FileLocks(self.directory)
        self.other = _sqlite.FileLocks(self.directory)
        self.addCleanup(self.locks.forget)

    def test_seen_by_others(self) -> None:
        """Others see who lives, and who has left; no file stays."""
        self.assertFalse(self.other.is_alive(OWNER))
        self.locks.enter(OWNER)
        self.assertTrue(self.other.is_alive(OWNER))
        self.locks.leave(OWNER)
        self.assertFalse(self.other.is_alive(OWNER))
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_the_file_of_the_dead(self) -> None:
        """Who died left a file; it is removed."""
        self.locks.enter(OWNER)
        self.locks.forget()
        self.assertTrue((self.directory / OWNER).exists())
        self.assertFalse(self.other.is_alive(OWNER))
        self.assertFalse((self.directory / OWNER).exists())

    def test_a_removed_file(self) -> None:
        """Whose file somebody has removed gets a new one at the next look."""
        self.locks.enter(OWNER)
        (self.directory / OWNER).unlink()
        self.locks.enter(OWNER)
        self.assertTrue(self.other.is_alive(OWNER))

    def test_who_died_idle(self) -> None:
        """The files of those that died while they ran nothing go when somebody else comes."""
        self.locks.enter(OWNER)
        self.locks.forget()
        self.locks.enter("3" * 32)
        (self.directory / "notes").touch()
        self.other.enter("4" * 32)
        self.addCleanup(self.other.forget)
        names = {path.name for path in self.directory.iterdir()}
        self.assertEqual(names, {"notes", "3" * 32, "4" * 32})

    def test_looked_at_while_it_enters(self) -> None:
        """Who is taken for dead between its file and its lock makes another file."""
        flock, is_looking = fcntl.flock, []

        def look_first(descriptor: int, how: int) -> None:
            if len(is_looking) < 2:
                is_looking.append(True)
                self.assertFalse(self.other.is_alive(OWNER))
            flock(descriptor, how)

        with mock.patch("oni.ledger._file_locks.fcntl.flock", look_first):
            self.locks.enter(OWNER)
        self.assertTrue(self.other.is_alive(OWNER))

    def test_held_by_somebody_who_looks(self) -> None:
        """Who enters waits for one that looks at its file just now; not for one that stays."""
        self.directory.mkdir()
        with (self.directory / OWNER).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            looking = threading.Timer(0.1, file.close)
            looking.start()
            self.addCleanup(looking.join)
            self.locks.enter(OWNER)
        self.assertTrue(self.other.is_alive(OWNER))
        with mock.patch("oni.ledger._file_locks._WITHIN", 0.0):
            self.assertRaises(BlockingIOError, self.other.enter, OWNER)

    def test_another_users_file(self) -> None:
        """Of whose file cannot be opened the lease decides."""
        self.locks.enter(OWNER)
        with mock.patch("oni.ledger._file_locks.os.open", side_effect=PermissionError):
            self.assertTrue(self.other.is_alive(OWNER))

    def test_strange_names(self) -> None:
        """What cannot be an owner's name is not looked for among files."""
        self.assertTrue(self.other.is_alive("../owners"))
        self.assertTrue(self.other.is_alive(""))

    def test_forked(self) -> None:
        """A child keeps no dead parent alive: after a fork its locks are not the child's."""
        self.locks.enter(OWNER)
        lives, told = os.pipe(), os.pipe()
        with warnings.catch_warnings():  # other tests' threads do not live in the child
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:  # it says that it is there, and lives until its parent goes on
            os.close(told[1])
            os.write(lives[1], b"!")
            os.read(told[0], 1)
            os._exit(0)
        try:
            os.read(lives[0], 1)
            self.locks.forget()  # as if this process had died
            self.assertFalse(self.other.is_alive(OWNER))
        finally:
            for descriptor in (*lives, *told):
                os.close(descriptor)
            os.waitpid(child, 0)
