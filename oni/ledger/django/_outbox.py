"""The outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oni.ledger._outbox import SqlOutbox
from oni.ledger._tables import OUTBOX_TABLES
from oni.ledger.django._connections import AliasConnections, database_of

__all__ = ["DjangoOutbox"]


class DjangoOutbox(SqlOutbox):
    """Keeps events in a table of the application ``oni.sources.django``.

    :meth:`put` takes part in the atomic block that the caller is in.

    Args:
        using: The database's alias.
        clock: Gives the time, seconds since 1970; by default the server's, with SQLite this
            machine's.

    Raises:
        LedgerUrlError: There is no such alias, or it is neither SQLite nor PostgreSQL.
    """

    _connections: AliasConnections

    def __init__(
        self, using: str = "default", *, clock: Callable[[], float] | None = None
    ) -> None:
        database = database_of(using, clock)
        super().__init__(AliasConnections(using, database), database)

    def open(self) -> Sequence[str]:
        """See :class:`oni.interfaces.IOutbox`. The table comes from ``manage.py migrate``."""
        return self._connections.opened(super().open)

    def find_table(self) -> None:
        """Refuse to go on without the table.

        Raises:
            UnsafeLedgerError: It is missing.
        """
        self._connections.must_have(OUTBOX_TABLES)
