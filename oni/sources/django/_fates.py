"""What becomes of a part of a transaction: whether it was committed, or taken back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

from django.db import connections, transaction

__all__ = ["Fate", "Part", "fate_of", "heed_savepoints"]

_HOOKS = "oni_hooks"


class Part:
    """Something that stands or falls with a part of a transaction.

    The connection keeps it with what is to be done after the commit, and Django drops that with a
    savepoint, or with the transaction. So what is rolled back is known without asking anybody.
    Where savepoints are made by hand, with ``transaction.savepoint()``, Django drops nothing, and
    :func:`heed_savepoints` does.

    Attributes:
        made_after: How many savepoints the connection had made when this was made.
    """

    __slots__ = ("made_after",)

    def __init__(self, made_after: int) -> None:
        self.made_after = made_after

    def __call__(self) -> None:
        """Know that it is committed."""


class Fate(Part):
    """What becomes of all that is written within the same savepoint.

    Args:
        connection: The connection, in a transaction; None: it is known what has become of it.
        is_committed: Whether it is there to stay.
    """

    __slots__ = ("_hooks", "_is_committed", "savepoints")

    def __init__(self, connection: Any, is_committed: bool = False) -> None:
        super().__init__(0 if connection is None else connection.savepoint_state)
        self._hooks = None if connection is None else heed_savepoints(connection)
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
        if self._hooks is not None and not self._is_committed:
            self._hooks.look()
        return self._is_committed

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet."""
        return self._hooks is not None and self in self._hooks.look()


class _Hooks:
    """What is open in a connection's transaction: the fates among what is kept for its end.

    Each entry is looked at once, however often somebody asks.
    """

    __slots__ = ("_connection", "_first", "_open", "_seen", "_size", "last")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._seen: Sequence[Any] = ()
        self._first: Any = None
        self._size = 0
        self._open: set[Fate] = set()
        self.last: Fate | None = None

    def look(self) -> set[Fate]:
        """Give the fates that are open."""
        kept = self._connection.run_on_commit
        if kept is not self._seen:
            self._settle()
            self._seen, self._first, self._size = kept, None, 0
            self._open = set()
        if self._size < len(kept):
            self._first = kept[0]
            self._open.update(each for _, each, _ in kept[self._size :] if isinstance(each, Fate))
            self._size = len(kept)
        return self._open

    def _settle(self) -> None:
        """See what a list has come to that the connection has not any more.

        After a commit Django takes one after another out of it and calls it: a callback before a
        fate's own may save again, or may raise, so that the rest is never called. After a rollback
        the list is left as it was.
        """
        if self._first is not None and (not self._seen or self._seen[0] is not self._first):
            for fate in self._open:
                fate()

    def drop(self, savepoint: str) -> None:
        """Let all go that was made since a savepoint that was rolled back."""
        number = int(savepoint.rpartition("_x")[2])  # as Django names it
        self._connection.run_on_commit = [
            each
            for each in self._connection.run_on_commit
            if not (isinstance(each[1], Part) and each[1].made_after >= number)
        ]
        self.look()


def heed_savepoints(connection: Any) -> _Hooks:
    """Let savepoints that are made by hand count on a connection. The second time: nothing."""
    hooks: _Hooks | None = getattr(connection, _HOOKS, None)
    if hooks is None:
        hooks = _Hooks(connection)
        setattr(connection, _HOOKS, hooks)
        connection.savepoint_rollback = _dropping(connection.savepoint_rollback, hooks)
    return hooks


def _dropping(rollback: Any, hooks: _Hooks) -> Any:
    @wraps(rollback)
    def savepoint_rollback(sid: str | None) -> None:
        rollback(sid)
        if sid is not None:
            hooks.drop(sid)

    return savepoint_rollback


def fate_of(using: str) -> Fate:
    """Give the fate of what is written now, in a transaction of a database."""
    connection: Any = connections[using]
    hooks = heed_savepoints(connection)
    last = hooks.last
    if (
        last is not None
        and last.savepoints == set(connection.savepoint_ids)
        and last.made_after == connection.savepoint_state
        and last.is_open
    ):
        return last
    hooks.last = Fate(connection)
    transaction.on_commit(hooks.last, using=using)
    hooks.look()
    return hooks.last
