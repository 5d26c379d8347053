"""Every store does what a ledger's store must: the battery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.interfaces import ILedgerStore
from oni.ledger import MemoryConnection, MemoryStore
from oni.ledger.django import DjangoStore
from oni.testing import LedgerStoreBattery
from tests.ledger import django_aliases
from tests.ledger.stores import SqlFolder, effects, write_effect


class MemoryTests(LedgerStoreBattery, SynchronousTestCase):
    """The reference, in memory."""

    def make_store(self) -> ILedgerStore:
        """See the battery."""
        return MemoryStore(clock=self.clock)

    def write_effect(self, connection: MemoryConnection, name: str) -> None:
        """Keep it in a list."""
        connection.put("effects", (*(connection.get("effects") or ()), name))

    def effects(self) -> Sequence[str]:
        """Give the list."""
        with self.store.transaction(read=True) as transaction:
            return transaction.connection.get("effects") or ()


class SqliteTests(LedgerStoreBattery, SynchronousTestCase):
    """A file of SQLite."""

    def make_store(self) -> ILedgerStore:
        """See the battery."""
        self.folder = SqlFolder(self.clock)
        self.addCleanup(self.folder.remove)
        return self.folder.store

    def write_effect(self, connection: Any, name: str) -> None:
        """Write it into a table."""
        write_effect(connection, name)

    def effects(self) -> Sequence[str]:
        """Read the table."""
        return effects(self.folder.engine)


class DjangoTests(LedgerStoreBattery, SynchronousTestCase):
    """A file of SQLite, through Django."""

    def make_store(self) -> ILedgerStore:
        """See the battery."""
        self.folder = django_aliases.AliasFolder()
        self.addCleanup(self.folder.remove)
        return DjangoStore(self.folder.alias, clock=self.clock)

    def write_effect(self, connection: Any, name: str) -> None:
        """Write it into a table."""
        django_aliases.write_effect(connection, name)

    def effects(self) -> Sequence[str]:
        """Read the table."""
        return django_aliases.effects(self.folder.alias)
