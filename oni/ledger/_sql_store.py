"""A ledger's store in an SQL database, whatever its connections are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zope.interface import implementer

from oni.errors import OniError, UnsafeLedgerError
from oni.interfaces import ILedgerStore
from oni.ledger._sql import PROBE, Connections, Database, SqlTransaction

__all__ = ["SqlStore"]


@implementer(ILedgerStore)
class SqlStore(ABC):
    """Keeps a ledger in three tables, ``oni_event``, ``oni_delivery`` and ``oni_decision``.

    Args:
        connections: To the database that they are in.
        database: What is special about it.
        namespace: What idempotency keys begin with.
    """

    def __init__(self, connections: Connections, database: Database, namespace: str) -> None:
        self.namespace = namespace
        self.label = database.label
        self._connections = connections
        self._database = database

    def open(self) -> Sequence[str]:
        """See :class:`oni.interfaces.ILedgerStore`."""
        warnings = self._database.check(self._connections)
        self.find_tables()
        self._know_tables()
        return warnings

    def _know_tables(self) -> None:
        """See that the tables are ours, and not those of an older or a newer program."""
        try:
            with self._connections.begin(read=True) as connection:
                connection.rows(PROBE)
        except OniError:
            raise
        except Exception as error:
            raise UnsafeLedgerError(
                [f"the tables were made for another version of Oni, and are left alone: {error}"]
            ) from error

    @abstractmethod
    def find_tables(self) -> None:
        """Make the tables that are missing, or refuse to go on without them."""

    def close(self) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._database.close()
        self._connections.close()

    @contextmanager
    def transaction(self, read: bool = False) -> Iterator[SqlTransaction]:
        """See :class:`oni.interfaces.ILedgerStore`."""
        with self._connections.begin(read) as connection:
            yield SqlTransaction(connection, self._database, self.namespace)

    def join(self, connection: Any) -> SqlTransaction:
        """See :class:`oni.interfaces.ILedgerStore`."""
        joined = self._connections.join(connection)
        for statement in self._database.joins_with:
            joined.rows(statement)
        return SqlTransaction(joined, self._database, self.namespace)

    def enter(self, owner: str) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._database.enter(self._connections, owner)

    def leave(self, owner: str) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._database.leave(owner)

    def is_alive(self, owner: str) -> bool:
        """See :class:`oni.interfaces.ILedgerStore`."""
        return self._database.is_alive(self._connections, owner)
