"""The outbox."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from oni.ledger._outbox import SqlOutbox
from oni.ledger.sqlalchemy._connections import (
    EngineConnections,
    database_of,
    engine_for,
    make_tables,
)
from oni.ledger.sqlalchemy._tables import outbox_metadata

__all__ = ["SqlAlchemyOutbox"]


class SqlAlchemyOutbox(SqlOutbox):
    """Keeps events in a table ``oni_outbox`` of the program's own database.

    :meth:`put` takes a :class:`sqlalchemy.engine.Connection` or a
    :class:`sqlalchemy.orm.Session`.

    Args:
        engine: The program's; made for SQLite, and prepared by :func:`prepare_engine`, or for
            PostgreSQL.
        clock: Gives the time, seconds since 1970; by default the server's, with SQLite this
            machine's.

    Raises:
        LedgerUrlError: The engine is for another database.
    """

    def __init__(self, engine: sa.Engine, *, clock: Callable[[], float] | None = None) -> None:
        database = database_of(engine, clock)
        super().__init__(EngineConnections(engine, database), database)

    @classmethod
    def from_url(cls, url: str) -> SqlAlchemyOutbox:
        """Make one with an engine of its own, for a process that only relays.

        Args:
            url: See :meth:`SqlAlchemyStore.from_url`.

        Raises:
            LedgerUrlError: It is not an address of one of these databases.
        """
        return cls(engine_for(url))

    def find_table(self) -> None:
        """Make the table if it is missing."""
        make_tables(self._connections, self._database, outbox_metadata)
