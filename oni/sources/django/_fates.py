"""What becomes of a part of a transaction: whether it was committed, or taken back."""

from __future__ import annotations

from typing import Any

from django.db import connections, transaction

__all__ = ["Fate", "fate_of"]

_LAST = "oni_fate"


class Fate:
    """What becomes of all that is written within the same savepoint.

    The connection keeps it with what is to be done after the commit, and Django drops that with a
    savepoint, or with the transaction. So it is known for each of them without asking anybody.
    """

    __slots__ = ("_connection", "_is_committed", "savepoints")

    def __init__(self, connection: Any, is_committed: bool = False) -> None:
        self._connection = connection
        self._is_committed = is_committed
        self.savepoints = set() if connection is None else set(connection.savepoint_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Stand, where an instance is pickled, for what will hold when it is read again."""
        return Fate, (None, self.is_committed or self.is_open)

    def __call__(self) -> None:
        """Know that it is committed."""
        self._is_committed = True

    @property
    def is_committed(self) -> bool:
        """Whether it is there to stay."""
        return self._is_committed

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet."""
        return self._connection is not None and any(
            function is self for _, function, _ in self._connection.run_on_commit
        )


def fate_of(using: str) -> Fate:
    """Give the fate of what is written now, in a transaction of a database."""
    connection: Any = connections[using]
    last: Fate | None = getattr(connection, _LAST, None)
    if last is not None and last.savepoints == set(connection.savepoint_ids) and last.is_open:
        return last
    fate = Fate(connection)
    transaction.on_commit(fate, using=using)
    setattr(connection, _LAST, fate)
    return fate
