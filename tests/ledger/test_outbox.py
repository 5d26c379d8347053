"""The outbox, in SQLite through SQLAlchemy and through Django."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from django.db import connections
from django.db import transaction as django_transaction
from sqlalchemy.orm import Session
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerTransactionError, LedgerUrlError, UnsafeLedgerError
from oni.interfaces import IOutbox
from oni.ledger._outbox import decode_handlings, encode_handlings
from oni.ledger.django import DjangoOutbox
from oni.ledger.sqlalchemy import SqlAlchemyOutbox
from oni.testing import OutboxBattery
from oni.values import Handling, LedgerEvent
from tests.ledger.django_aliases import AliasFolder
from tests.ledger.stores import SqlFolder

MANY = 1000


class SqliteCases(OutboxBattery):
    """What is so where single rows cannot be locked."""

    def test_nobody_waits_for_the_ledger(self) -> None:
        """While a batch is admitted the program can write: nothing is locked."""
        self.put("a")
        batch = self.outbox.take(MANY)
        self.put("b")
        batch.end({})
        self.case.assertEqual(list(self.take()), ["b"])

    def test_numbers_never_come_again(self) -> None:
        """A batch that was overtaken removes nothing that was put since."""
        self.put("old")
        late = self.outbox.take(MANY)
        self.case.assertEqual(list(self.take()), ["old"])
        self.put("new")
        late.end({})
        self.case.assertEqual(list(self.take()), ["new"])

    def test_an_empty_batch(self) -> None:
        """Where there is nothing, nothing is written."""
        batch = self.outbox.take(MANY)
        self.case.assertEqual((batch.size, list(batch.events)), (0, []))
        with self.transaction() as connection:
            self.outbox.put(connection, [LedgerEvent("k")])
            batch.end({})


class SqlAlchemyTests(SqliteCases, SynchronousTestCase):
    """Through SQLAlchemy."""

    def make_outbox(self) -> IOutbox:
        """See the battery."""
        self.folder = SqlFolder(busy_timeout=0.1)
        self.addCleanup(self.folder.remove)
        return SqlAlchemyOutbox(self.folder.engine, clock=self.clock)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """See the battery."""
        with self.folder.engine.begin() as connection:
            yield connection

    def execute(self, statement: str) -> None:
        """See the battery."""
        with self.folder.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def test_in_a_session(self) -> None:
        """A session is a transaction, too, and so is a savepoint in it."""
        with Session(self.folder.engine) as session:
            self.outbox.put(session, [LedgerEvent("kept")])
            with session.begin_nested() as inner:
                self.outbox.put(session, [LedgerEvent("lost")])
                inner.rollback()
            session.commit()
        self.assertEqual(list(self.take()), ["kept"])

    def test_waits_for_nobody(self) -> None:
        """While the program writes, the outbox can be read and looked at."""
        self.put("k")
        with self.transaction():
            self.assertEqual(self.outbox.backlog(MANY).waiting, 1)
            self.assertEqual(self.outbox.take(MANY).size, 1)

    def test_from_url(self) -> None:
        """A process that only relays names the database by its URL."""
        self.put("k")
        other = SqlAlchemyOutbox.from_url(self.folder.url)
        self.addCleanup(other.close)
        other.open()
        self.assertEqual([event.key for event in other.take(MANY).events], ["k"])
        self.assertRaises(LedgerUrlError, SqlAlchemyOutbox.from_url, "mysql+nonsense://x")

    def test_late_transactions(self) -> None:
        """The driver's own way, in which savepoints outlive a rollback, is refused."""
        outbox = SqlAlchemyOutbox(sa.create_engine(self.folder.url))
        self.addCleanup(outbox.close)
        self.assertRaises(UnsafeLedgerError, outbox.open)


class DjangoTests(SqliteCases, SynchronousTestCase):
    """Through Django."""

    def make_outbox(self) -> IOutbox:
        """See the battery."""
        self.folder = AliasFolder(timeout=0.1)
        self.addCleanup(self.folder.remove)
        return DjangoOutbox(self.folder.alias, clock=self.clock)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """See the battery."""
        with django_transaction.atomic(using=self.folder.alias):
            yield connections[self.folder.alias]

    def execute(self, statement: str) -> None:
        """See the battery."""
        with connections[self.folder.alias].cursor() as cursor:
            cursor.execute(statement)

    def test_autocommit(self) -> None:
        """Without a block what is put would be on its own, and is refused."""
        with self.assertRaises(LedgerTransactionError):
            self.outbox.put(connections[self.folder.alias], [LedgerEvent("k")])

    def test_no_table(self) -> None:
        """It makes no table, and says who does."""
        self.execute("DROP TABLE oni_outbox")
        error = self.assertRaises(UnsafeLedgerError, self.outbox.open)
        self.assertIn("no table oni_outbox", str(error))
        self.assertIn("manage.py migrate", str(error))


class HandlingsTests(SynchronousTestCase):
    """What is kept as JSON."""

    def test_there_and_back(self) -> None:
        """Handlings come back as they were."""
        handlings: Sequence[Handling] = (Handling("größe", "park", 7, 3), Handling("b"))
        self.assertEqual(decode_handlings(encode_handlings(handlings)), tuple(handlings))
        self.assertIn("größe", encode_handlings(handlings))
