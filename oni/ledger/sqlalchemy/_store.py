"""The ledger's store."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from oni.ledger._sql_store import SqlStore
from oni.ledger.sqlalchemy._connections import (
    EngineConnections,
    database_of,
    engine_for,
    make_tables,
)
from oni.ledger.sqlalchemy._tables import metadata

__all__ = ["SqlAlchemyStore"]


class SqlAlchemyStore(SqlStore):
    """Keeps a ledger in three tables, ``oni_event``, ``oni_delivery`` and ``oni_decision``.

    What its transactions give as ``connection`` is a :class:`sqlalchemy.engine.Connection`;
    :meth:`join` also takes a :class:`sqlalchemy.orm.Session`.

    Args:
        engine: Made for SQLite, and prepared by :func:`prepare_engine`, or for PostgreSQL.
        namespace: What idempotency keys begin with.
        clock: Gives the time, seconds since 1970; by default the server's, with SQLite this
            machine's.

    Raises:
        LedgerUrlError: The engine is for another database.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        namespace: str = "oni",
        clock: Callable[[], float] | None = None,
    ) -> None:
        database = database_of(engine, clock)
        super().__init__(EngineConnections(engine, database), database, namespace)

    @classmethod
    def from_url(cls, url: str, namespace: str = "oni") -> SqlAlchemyStore:
        """Make one with an engine of its own.

        Args:
            url: As SQLAlchemy has it: ``sqlite:////var/lib/oni/ledger.db``,
                ``postgresql://user:password@host/database``.
            namespace: What idempotency keys begin with.

        Raises:
            LedgerUrlError: It is not an address of one of these databases.
        """
        return cls(engine_for(url), namespace=namespace)

    def find_tables(self) -> None:
        """Make the tables that are missing."""
        make_tables(self._connections, self._database, metadata)
