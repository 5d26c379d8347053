"""The ledger in SQL: the same statements for every database, over a small connection."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Protocol

from oni.ledger._states import STATES
from oni.ledger._transaction import LedgerTransaction, LostRaceError
from oni.values import Decision, Delivery, DeliveryState, LedgerEvent

__all__ = [
    "PROBE",
    "VERSION",
    "Connection",
    "Connections",
    "Database",
    "Dedicated",
    "SqlTransaction",
    "with_percent",
]

VERSION = 1
"""What this program writes into each row. Rows of another version are another program's: they are
left alone."""

Row = Sequence[Any]
Values = Mapping[str, Any]
_COLUMNS = (
    "handler, key, state, on_crash, max_attempts, attempts, crashes, token, owner, lease_until, "
    "next_at, changed_at, last_error, rank, waits_for, awaited_by"
)
_D_COLUMNS = ", ".join(f"d.{name}" for name in _COLUMNS.split(", "))

PROBE = f"SELECT {_COLUMNS}, version FROM oni_delivery WHERE 1 = 0"
"""Fails where the table is another program's."""

_ADD_EVENT = (
    "INSERT INTO oni_event (key, group_name, digest, payload, admitted_at, version) "
    "VALUES (:key, :group_name, :digest, :payload, :admitted_at, :version) "
    "ON CONFLICT (key) DO NOTHING"
)
_ADD_DELIVERY = (
    f"INSERT INTO oni_delivery ({_COLUMNS}, version) VALUES ("
    + ", ".join(f":{name}" for name in _COLUMNS.split(", "))
    + ", :version)"
)
_ADD_DECISION = (
    "INSERT INTO oni_decision (key, handler, decision, was, who, decided_at) "
    "VALUES (:key, :handler, :decision, :was, :who, :decided_at)"
)
_DIGEST = "SELECT digest FROM oni_event WHERE key = :key"
_DUE = (
    f"SELECT {_D_COLUMNS}, e.group_name, e.payload FROM oni_delivery AS d "
    "JOIN oni_event AS e ON e.key = d.key "
    "WHERE d.state = 'pending' AND d.handler = :handler AND d.waits_for = 0 "
    "AND d.next_at <= :now AND d.version = :version AND e.version = :version {keys}"
    "ORDER BY d.next_at, d.key LIMIT :limit"
)
_FIND = (
    f"SELECT {_COLUMNS} FROM oni_delivery "
    "WHERE key = :key AND handler = :handler AND version = :version"
)
_WRITE = (
    "UPDATE oni_delivery SET state = :state, attempts = :attempts, crashes = :crashes, "
    "token = :token, owner = :owner, lease_until = :lease_until, next_at = :next_at, "
    "changed_at = :changed_at, last_error = :last_error "
    "WHERE key = :key AND handler = :handler AND token = :was_token AND state = :was_state "
    "AND owner = :was_owner"
)
_LET_WAIT = (
    "UPDATE oni_delivery SET waits_for = waits_for + :more WHERE key = :key AND rank > :rank"
)
_WRITE_UNLESS_EXTENDED = f"{_WRITE} AND lease_until = :was_lease"
_RUNNING = f"SELECT {_COLUMNS} FROM oni_delivery WHERE state = 'running' AND version = :version"
_CHANGED_AFTER = (
    f"SELECT {_COLUMNS} FROM oni_delivery WHERE changed_at > :time AND state = 'pending' "
    "AND version = :version ORDER BY changed_at LIMIT 64"
)
_HOLD = "SELECT state, changed_at, version FROM oni_delivery WHERE key = :key ORDER BY handler"
_FINISHED = (
    "SELECT e.key FROM oni_event AS e WHERE e.admitted_at <= :before AND e.version = :version "
    "AND NOT EXISTS (SELECT 1 FROM oni_delivery AS d WHERE d.key = e.key AND (d.state <> 'done' "
    "OR d.changed_at > :before OR d.version <> :version)) ORDER BY e.admitted_at LIMIT :limit"
)
_REMOVE = tuple(
    f"DELETE FROM {table} WHERE key = :key"
    for table in ("oni_decision", "oni_delivery", "oni_event")
)
_EVENT = "SELECT key, group_name, payload, admitted_at FROM oni_event WHERE key = :key"
_OF_KEY = f"SELECT {_COLUMNS} FROM oni_delivery WHERE key = :key ORDER BY handler"
_DECISIONS = (
    "SELECT handler, key, decision, was, who, decided_at FROM oni_decision WHERE key = :key "
    "ORDER BY id"
)
_DELIVERIES = (
    f"SELECT {_COLUMNS} FROM oni_delivery {{where}} "
    "ORDER BY changed_at DESC, key, handler LIMIT :limit"
)
_COUNT = "SELECT state, COUNT(*) FROM oni_delivery GROUP BY state"
_DUE_SINCE = (
    "SELECT MIN(next_at) FROM oni_delivery WHERE state = 'pending' AND waits_for = 0 "
    "AND version = :version"
)


class Connection(Protocol):
    """What the ledger needs of a connection, within a transaction.

    Values stand in a statement as ``:name``.
    """

    @property
    def raw(self) -> Any:
        """What it is made of, and what handlers write through."""

    @property
    def in_transaction(self) -> bool:
        """Whether the database itself is in a transaction."""

    def rows(self, statement: str, values: Values = ...) -> Sequence[Row]:
        """Read."""

    def change(self, statement: str, values: Values = ...) -> int:
        """Write, and say how many rows were changed."""

    def change_each(self, statement: str, values: Sequence[Values]) -> int:
        """Write the same with each of these values, and say how many rows were changed in all."""


class Dedicated(Protocol):
    """A connection that lives until it is closed, and has no transaction."""

    def rows(self, statement: str, values: Values = ...) -> Sequence[Row]:
        """Read."""

    def close(self) -> None:
        """End it."""


class Connections(Protocol):
    """Where a database finds its connections to itself."""

    def begin(self, read: bool = False) -> AbstractContextManager[Connection]:
        """Give one with a transaction of its own."""

    def join(self, connection: Any) -> Connection:
        """Give one that takes part in somebody else's transaction.

        Raises:
            LedgerTransactionError: It is none to this database, or is in no transaction.
        """

    def dedicate(self) -> Dedicated:
        """Give one that belongs to whoever asked."""

    def close(self) -> None:
        """End those that were made for this."""


class Database(Protocol):
    """What is different from one database to the other."""

    label: str
    """What it can promise, in a few words."""

    begins_with: Sequence[str]
    """What is said at the beginning of a transaction that writes."""

    joins_with: Sequence[str]
    """What is said before something is done in somebody else's transaction."""

    alone: Sequence[str]
    """What is said so that only one process at a time makes the tables."""

    skip_locked: str
    """What is added to a SELECT of rows so that nobody else is given the same ones.

    An empty text where only one transaction writes at a time anyway.
    """

    locked: str
    """What is added to a SELECT of a row so that nobody changes it. See above."""

    def now(self, connection: Connection) -> float:
        """Give the time on the database's clock, seconds since 1970."""

    def check(self, connections: Connections) -> Sequence[str]:
        """Give warnings, or raise :class:`oni.errors.UnsafeLedgerError`."""

    def translate(self, error: BaseException) -> Exception | None:
        """Say in Oni's errors what a driver's error means; None: a mistake in the program."""

    def enter(self, connections: Connections, owner: str) -> None:
        """Let others see that an owner lives, or see that they still can."""

    def leave(self, owner: str) -> None:
        """Let an owner live no more."""

    def close(self) -> None:
        """Let every owner leave."""

    def is_alive(self, connections: Connections, owner: str) -> bool:
        """Say whether an owner lives."""


class SqlTransaction(LedgerTransaction):
    """One transaction of an SQL database."""

    def __init__(self, connection: Connection, database: Database, namespace: str) -> None:
        super().__init__(connection.raw, namespace)
        self._connection = connection
        self._database = database
        self._now: float | None = None

    def now(self) -> float:
        """Give the time at which it was first asked for: one for the whole transaction."""
        if self._now is None:
            self._now = self._database.now(self._connection)
        return self._now

    def add_event(self, event: LedgerEvent, digest: bytes, now: float) -> bool:
        """See the base class."""
        values = {
            "key": event.key,
            "group_name": event.group,
            "digest": digest,
            "payload": event.payload,
            "admitted_at": now,
            "version": VERSION,
        }
        return self._connection.change(_ADD_EVENT, values) == 1

    def add_delivery(self, delivery: Delivery) -> None:
        """See the base class."""
        values = _values(delivery) | {
            "on_crash": delivery.on_crash,
            "max_attempts": delivery.max_attempts,
            "rank": delivery.rank,
            "waits_for": delivery.waits_for,
            "awaited_by": delivery.awaited_by,
            "version": VERSION,
        }
        self._connection.change(_ADD_DELIVERY, values)

    def add_decision(self, decision: Decision) -> None:
        """See the base class."""
        values = {
            "key": decision.key,
            "handler": decision.handler,
            "decision": decision.decision,
            "was": decision.was,
            "who": decision.who,
            "decided_at": decision.at,
        }
        self._connection.change(_ADD_DECISION, values)

    def digest(self, key: str) -> bytes | None:
        """See the base class."""
        found = self._connection.rows(_DIGEST, {"key": key})
        return bytes(found[0][0]) if found else None

    def due(
        self, handler: str, now: float, limit: int, keys: Collection[str] | None
    ) -> Sequence[tuple[Delivery, str, bytes]]:
        """See the base class."""
        values = {"handler": handler, "now": now, "limit": limit, "version": VERSION}
        among = ""
        if keys is not None:
            named = {f"key_{number}": key for number, key in enumerate(keys)}
            among = f"AND d.key IN ({', '.join(f':{name}' for name in named)}) "
            values |= named
        statement = _DUE.format(keys=among) + self._database.skip_locked
        found = self._connection.rows(statement, values)
        return [(Delivery(*row[:-2]), row[-2], bytes(row[-1])) for row in found]

    def find(self, handler: str, key: str) -> Delivery | None:
        """See the base class."""
        statement = _FIND + self._database.locked
        values = {"key": key, "handler": handler, "version": VERSION}
        found = self._connection.rows(statement, values)
        return Delivery(*found[0]) if found else None

    def write(self, before: Delivery, after: Delivery, unless_extended: bool = False) -> bool:
        """See the base class."""
        values = _change(before, after)
        if not unless_extended:
            return self._connection.change(_WRITE, values) == 1
        values["was_lease"] = before.lease_until
        return self._connection.change(_WRITE_UNLESS_EXTENDED, values) == 1

    def write_each(self, pairs: Sequence[tuple[Delivery, Delivery]]) -> Sequence[bool]:
        """See the base class. Nobody else can have changed them: they are locked."""
        values = [_change(before, after) for before, after in pairs]
        if values and self._connection.change_each(_WRITE, values) != len(values):
            raise LostRaceError("a delivery was changed by somebody who does not know locks")
        return [True] * len(values)

    def let_wait(self, key: str, rank: int, more: int) -> None:
        """See the base class."""
        self._connection.change(_LET_WAIT, {"key": key, "rank": rank, "more": more})

    def running(self) -> Sequence[Delivery]:
        """See the base class."""
        return self._deliveries(_RUNNING, {"version": VERSION})

    def changed_after(self, time: float) -> Sequence[Delivery]:
        """See the base class."""
        return self._deliveries(_CHANGED_AFTER, {"time": time, "version": VERSION})

    def finished(self, before: float, limit: int) -> Sequence[str]:
        """See the base class."""
        values = {"before": before, "limit": limit, "version": VERSION}
        keys = sorted(row[0] for row in self._connection.rows(_FINISHED, values))
        if not self._database.locked:
            return keys
        return [key for key in keys if self._stays_finished(key, before)]

    def _stays_finished(self, key: str, before: float) -> bool:
        """Keep others from a key's deliveries, and see whether nobody was faster."""
        rows = self._connection.rows(_HOLD + self._database.locked, {"key": key})
        return all((row[0], row[2]) == ("done", VERSION) and row[1] <= before for row in rows)

    def remove(self, key: str) -> None:
        """See the base class."""
        for statement in _REMOVE:
            self._connection.change(statement, {"key": key})

    def event(self, key: str) -> tuple[LedgerEvent, float] | None:
        """See the base class."""
        for _, group, payload, admitted_at in self._connection.rows(_EVENT, {"key": key}):
            return LedgerEvent(key, group, bytes(payload)), admitted_at
        return None

    def of_key(self, key: str) -> Sequence[Delivery]:
        """See the base class."""
        return self._deliveries(_OF_KEY, {"key": key})

    def decisions(self, key: str) -> Sequence[Decision]:
        """See the base class."""
        return [Decision(*row) for row in self._connection.rows(_DECISIONS, {"key": key})]

    def deliveries(
        self, state: DeliveryState | None, handler: str | None, limit: int
    ) -> Sequence[Delivery]:
        """See the base class."""
        wanted = {"state": state, "handler": handler}
        values: dict[str, Any] = {name: value for name, value in wanted.items() if value}
        where = " AND ".join(f"{name} = :{name}" for name in values)
        statement = _DELIVERIES.format(where=f"WHERE {where}" if where else "")
        return self._deliveries(statement, {**values, "limit": limit})

    def count(self) -> dict[DeliveryState, int]:
        """See the base class."""
        found = {row[0]: row[1] for row in self._connection.rows(_COUNT, {})}
        return {state: found.get(state, 0) for state in STATES}

    def due_since(self) -> float | None:
        """See the base class."""
        found: float | None = self._connection.rows(_DUE_SINCE, {"version": VERSION})[0][0]
        return found

    def _deliveries(self, statement: str, values: Values) -> Sequence[Delivery]:
        return [Delivery(*row) for row in self._connection.rows(statement, values)]


@lru_cache(maxsize=256)
def with_percent(statement: str) -> str:
    """Write a statement's values as ``%(name)s``, for the drivers that know them so."""
    return re.sub(r"(?<!:):([a-z_0-9]+)", r"%(\1)s", statement)


def _change(before: Delivery, after: Delivery) -> dict[str, Any]:
    """Give what is written, and by what it is seen that nobody else was faster."""
    return _values(after) | {
        "was_token": before.token,
        "was_state": before.state,
        "was_owner": before.owner,
    }


def _values(delivery: Delivery) -> dict[str, Any]:
    """Give what may change in a delivery, and what it is found by."""
    return {
        "key": delivery.key,
        "handler": delivery.handler,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "crashes": delivery.crashes,
        "token": delivery.token,
        "owner": delivery.owner,
        "lease_until": delivery.lease_until,
        "next_at": delivery.next_at,
        "changed_at": delivery.changed_at,
        "last_error": delivery.last_error,
    }
