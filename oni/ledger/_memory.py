"""A store in this process' memory: the reference that every other one is measured by."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any

from zope.interface import implementer

from oni.errors import LedgerTransactionError
from oni.interfaces import ILedgerStore
from oni.ledger._states import STATES
from oni.ledger._transaction import LedgerTransaction
from oni.values import Decision, Delivery, DeliveryState, LedgerEvent

__all__ = ["MemoryConnection", "MemoryStore"]

_ABSENT = object()


class MemoryConnection:
    """What a handler's effects are written through, in one transaction of a :class:`MemoryStore`.

    Args:
        notes: What others keep in the store.
    """

    def __init__(self, notes: MutableMapping[Any, Any]) -> None:
        self.is_open = True
        self._notes = notes
        self._undo: list[tuple[MutableMapping[Any, Any], Any, Any]] = []

    def put(self, name: str, value: Any) -> None:
        """Keep something beside the ledger."""
        self.set(self._notes, name, value)

    def get(self, name: str) -> Any:
        """Give what was kept under a name, or None."""
        return self._notes.get(name)

    def set(self, table: MutableMapping[Any, Any], key: Any, value: Any) -> None:
        """Change a table so that it can be undone. :obj:`_ABSENT` removes."""
        if not self.is_open:
            raise LedgerTransactionError("the transaction has ended")
        self._undo.append((table, key, table.get(key, _ABSENT)))
        _put(table, key, value)

    def end(self, keep: bool) -> None:
        """Keep everything, or nothing."""
        self.is_open = False
        while self._undo:
            table, key, value = self._undo.pop()
            if not keep:
                _put(table, key, value)


def _put(table: MutableMapping[Any, Any], key: Any, value: Any) -> None:
    if value is _ABSENT:
        table.pop(key, None)
    else:
        table[key] = value


@implementer(ILedgerStore)
class MemoryStore:
    """Keeps a ledger's data for as long as it lives itself. One transaction runs at a time.

    Args:
        namespace: What idempotency keys begin with.
        clock: Gives the time, seconds since 1970.
    """

    label = "effects once, as long as the process lives"

    def __init__(self, namespace: str = "oni", clock: Callable[[], float] = time.time) -> None:
        self.namespace = namespace
        self.clock = clock
        self.notes: dict[str, Any] = {}
        self.events: dict[str, tuple[LedgerEvent, bytes, float]] = {}
        self.rows: dict[tuple[str, str], Delivery] = {}
        self.decided: dict[str, tuple[Decision, ...]] = {}
        self._owners: set[str] = set()
        self._lock = RLock()

    def open(self) -> Sequence[str]:
        """See :class:`oni.interfaces.ILedgerStore`."""
        return ["the ledger is kept in memory, and forgets everything when the process ends"]

    def close(self) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._owners.clear()

    @contextmanager
    def transaction(self, read: bool = False) -> Iterator[LedgerTransaction]:
        """See :class:`oni.interfaces.ILedgerStore`."""
        with self._lock:
            connection = MemoryConnection(self.notes)
            keep = False
            try:
                yield _MemoryTransaction(self, connection)
                keep = True
            finally:
                connection.end(keep)

    def join(self, connection: Any) -> LedgerTransaction:
        """See :class:`oni.interfaces.ILedgerStore`."""
        if not isinstance(connection, MemoryConnection) or not connection.is_open:
            raise LedgerTransactionError(
                f"{connection!r} is no connection of this store with a transaction on it"
            )
        return _MemoryTransaction(self, connection)

    def enter(self, owner: str) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._owners.add(owner)

    def leave(self, owner: str) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._owners.discard(owner)

    def is_alive(self, owner: str) -> bool:
        """See :class:`oni.interfaces.ILedgerStore`."""
        return owner in self._owners


class _MemoryTransaction(LedgerTransaction):
    """One transaction of a :class:`MemoryStore`."""

    connection: MemoryConnection

    def __init__(self, store: MemoryStore, connection: MemoryConnection) -> None:
        super().__init__(connection, store.namespace)
        self._store = store

    def now(self) -> float:
        return self._store.clock()

    def add_event(self, event: LedgerEvent, digest: bytes, now: float) -> bool:
        if event.key in self._store.events:
            return False
        kept = LedgerEvent(event.key, event.group, event.payload)
        self.connection.set(self._store.events, event.key, (kept, digest, now))
        return True

    def add_delivery(self, delivery: Delivery) -> None:
        self.connection.set(self._store.rows, (delivery.key, delivery.handler), delivery)

    def add_decision(self, decision: Decision) -> None:
        decided = (*self._store.decided.get(decision.key, ()), decision)
        self.connection.set(self._store.decided, decision.key, decided)

    def digest(self, key: str) -> bytes | None:
        found = self._store.events.get(key)
        return found[1] if found else None

    def due(
        self, handler: str, now: float, limit: int, keys: Collection[str] | None
    ) -> Sequence[tuple[Delivery, str, bytes]]:
        due = [
            row
            for row in self._store.rows.values()
            if row.handler == handler
            and row.state == "pending"
            and not row.waits_for
            and row.next_at <= now
            and (keys is None or row.key in keys)
        ]
        due.sort(key=lambda row: (row.next_at, row.key))
        events = (self._store.events[row.key][0] for row in due)
        return [
            (row, event.group, event.payload)
            for row, event in zip(due[:limit], events, strict=False)
        ]

    def find(self, handler: str, key: str) -> Delivery | None:
        return self._store.rows.get((key, handler))

    def write(self, before: Delivery, after: Delivery, unless_extended: bool = False) -> bool:
        row = self.find(before.handler, before.key)
        if row is None or _name(row) != _name(before):
            return False
        if unless_extended and row.lease_until != before.lease_until:
            return False
        self.add_delivery(replace(after, waits_for=row.waits_for))
        return True

    def let_wait(self, key: str, rank: int, more: int) -> None:
        for row in self.of_key(key):
            if row.rank > rank:
                self.add_delivery(replace(row, waits_for=row.waits_for + more))

    def running(self) -> Sequence[Delivery]:
        return [row for row in self._store.rows.values() if row.state == "running"]

    def changed_after(self, time: float) -> Sequence[Delivery]:
        return [
            row
            for row in self._store.rows.values()
            if row.state == "pending" and row.changed_at > time
        ]

    def finished(self, before: float, limit: int) -> Sequence[str]:
        kept = {
            row.key
            for row in self._store.rows.values()
            if row.state != "done" or row.changed_at > before
        }
        old = [
            key
            for key, (_, _, admitted_at) in self._store.events.items()
            if key not in kept and admitted_at <= before
        ]
        return old[:limit]

    def remove(self, key: str) -> None:
        for row in self.of_key(key):
            self.connection.set(self._store.rows, (row.key, row.handler), _ABSENT)
        self.connection.set(self._store.decided, key, _ABSENT)
        self.connection.set(self._store.events, key, _ABSENT)

    def event(self, key: str) -> tuple[LedgerEvent, float] | None:
        found = self._store.events.get(key)
        return (found[0], found[2]) if found else None

    def of_key(self, key: str) -> Sequence[Delivery]:
        rows = (row for row in self._store.rows.values() if row.key == key)
        return sorted(rows, key=lambda row: row.handler)

    def decisions(self, key: str) -> Sequence[Decision]:
        return self._store.decided.get(key, ())

    def deliveries(
        self, state: DeliveryState | None, handler: str | None, limit: int
    ) -> Sequence[Delivery]:
        rows = [
            row
            for row in self._store.rows.values()
            if state in (None, row.state) and handler in (None, row.handler)
        ]
        rows.sort(key=lambda row: (-row.changed_at, row.key, row.handler))
        return rows[:limit]

    def count(self) -> dict[DeliveryState, int]:
        states = [row.state for row in self._store.rows.values()]
        return {state: states.count(state) for state in STATES}

    def due_since(self) -> float | None:
        rows = self._store.rows.values()
        pending = (row.next_at for row in rows if row.state == "pending" and not row.waits_for)
        return min(pending, default=None)


def _name(row: Delivery) -> tuple[int, str, str]:
    """Give what a claim is known by."""
    return row.token, row.owner, row.state
