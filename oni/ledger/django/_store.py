"""The ledger's store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oni.ledger._sql_store import SqlStore
from oni.ledger._tables import LEDGER_TABLES
from oni.ledger.django._connections import AliasConnections, database_of

__all__ = ["DjangoStore"]


class DjangoStore(SqlStore):
    """Keeps a ledger in the tables of the application ``oni.sources.django``.

    A transaction of its own is an atomic block, ``transaction.atomic(using=alias)``; what it gives
    as ``connection`` is ``connections[alias]``, and whatever models write in the same thread is a
    part of it. :meth:`join` takes part in the atomic block that the caller is in.

    It works in threads, each with a connection of its own, and never in an asynchronous context.

    Args:
        using: The database's alias.
        namespace: What idempotency keys begin with.
        clock: Gives the time, seconds since 1970; by default the server's, with SQLite this
            machine's.

    Raises:
        LedgerUrlError: There is no such alias, or it is neither SQLite nor PostgreSQL.
    """

    _connections: AliasConnections

    def __init__(
        self,
        using: str = "default",
        *,
        namespace: str = "oni",
        clock: Callable[[], float] | None = None,
    ) -> None:
        database = database_of(using, clock)
        super().__init__(AliasConnections(using, database), database, namespace)

    def open(self) -> Sequence[str]:
        """See :class:`oni.interfaces.ILedgerStore`. The tables come from ``manage.py migrate``."""
        return self._connections.opened(super().open)

    def find_tables(self) -> None:
        """Refuse to go on without the tables.

        Raises:
            UnsafeLedgerError: One is missing.
        """
        self._connections.must_have(LEDGER_TABLES)
