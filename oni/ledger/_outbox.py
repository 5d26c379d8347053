"""The outbox: events that wait, in the program's own database, for a ledger that is elsewhere."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from zope.interface import implementer

from oni.interfaces import IOutbox, IOutboxBatch
from oni.ledger._keys import check_event
from oni.ledger._sql import VERSION, Connection, Connections, Database
from oni.ledger._states import keepable
from oni.values import Handling, LedgerEvent, OutboxBacklog

__all__ = ["SqlOutbox", "decode_handlings", "encode_handlings"]

_PUT = (
    "INSERT INTO oni_outbox (key, group_name, payload, handlings, created_at, error, version) "
    "VALUES (:key, :group_name, :payload, :handlings, :created_at, '', :version)"
)
_TAKE = (
    "SELECT d.id, d.key, d.group_name, d.payload, d.handlings FROM oni_outbox AS d "
    "WHERE d.error = '' AND d.version = :version ORDER BY d.id LIMIT :limit"
)
_REMOVE = "DELETE FROM oni_outbox WHERE id IN ({ids})"
_REFUSE = "UPDATE oni_outbox SET error = :error WHERE id = :id"
# Counted up to a limit: a table with millions of rows is not read to say that they are many.
_WAITING = (
    "SELECT COUNT(*), MIN(d.created_at) FROM (SELECT created_at FROM oni_outbox "
    "WHERE error = '' AND version = :version ORDER BY id LIMIT :limit) AS d"
)
_ASIDE = "SELECT COUNT(*) FROM (SELECT 1 FROM oni_outbox WHERE error <> '' LIMIT :limit) AS d"


def encode_handlings(handlings: Sequence[Handling]) -> str:
    """Give handlings as the outbox keeps them: JSON, with their fields' names."""
    return json.dumps(
        [
            {
                "handler": each.handler,
                "on_crash": each.on_crash,
                "max_attempts": each.max_attempts,
                "rank": each.rank,
            }
            for each in handlings
        ],
        ensure_ascii=False,
    )


def decode_handlings(text: str) -> tuple[Handling, ...]:
    """Give handlings back.

    Raises:
        ValueError: It is something else.
    """
    try:
        return tuple(Handling(**each) for each in json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the handlings are not what they must be: {error}") from error


@implementer(IOutbox)
class SqlOutbox(ABC):
    """An outbox in an SQL database: a table ``oni_outbox``.

    Args:
        connections: To the database that it is in.
        database: What is special about it.
    """

    def __init__(self, connections: Connections, database: Database) -> None:
        self._connections = connections
        self._database = database
        self._wake: Callable[[], object] | None = None

    def open(self) -> Sequence[str]:
        """See :class:`oni.interfaces.IOutbox`."""
        warnings = self._database.check(self._connections)
        self.find_table()
        return warnings

    @abstractmethod
    def find_table(self) -> None:
        """Make the table if it is missing, or refuse to go on without it."""

    def close(self) -> None:
        """See :class:`oni.interfaces.IOutbox`."""
        self._database.close()
        self._connections.close()

    def put(self, connection: Any, events: Sequence[LedgerEvent]) -> None:
        """See :class:`oni.interfaces.IOutbox`."""
        for event in events:
            check_event(event)
        joined = self._connections.join(connection)
        now = self._database.now(joined)
        for event in events:
            values = {
                "key": event.key,
                "group_name": event.group,
                "payload": event.payload,
                "handlings": encode_handlings(event.handlings),
                "created_at": now,
                "version": VERSION,
            }
            joined.change(_PUT, values)

    def take(self, limit: int) -> SqlBatch:
        """See :class:`oni.interfaces.IOutbox`.

        Where the database can lock single rows, these are locked until the batch has ended. Where
        it cannot, one that writes would keep the whole program from writing while the ledger is
        waited for; so nothing is locked, and two that take at the same time may take the same.
        """
        held = ExitStack()
        with ExitStack() as taking:
            locks = bool(self._database.skip_locked)
            connection = taking.enter_context(self._connections.begin(read=not locks))
            rows = connection.rows(
                _TAKE + self._database.skip_locked, {"limit": limit, "version": VERSION}
            )
            if locks:
                held = taking.pop_all()
        return SqlBatch(self._connections, connection if locks else None, held, rows)

    def backlog(self, limit: int) -> OutboxBacklog:
        """See :class:`oni.interfaces.IOutbox`."""
        with self._connections.begin(read=True) as connection:
            values = {"limit": limit, "version": VERSION}
            waiting, since = connection.rows(_WAITING, values)[0]
            aside = connection.rows(_ASIDE, {"limit": limit})[0][0]
            age = 0.0 if since is None else self._database.now(connection) - since
            return OutboxBacklog(waiting, aside, max(0.0, age))

    def relayed_by(self, wake: Callable[[], object] | None) -> None:
        """See :class:`oni.interfaces.IOutbox`."""
        self._wake = wake

    def wake(self) -> None:
        """See :class:`oni.interfaces.IOutbox`."""
        wake = self._wake
        if wake is not None:
            wake()


@implementer(IOutboxBatch)
class SqlBatch:
    """Some rows.

    Args:
        connections: To their database.
        connection: The one that they are locked on; None: they are not.
        held: The transaction that they are locked in.
        rows: Their ids, keys, groups, payloads and handlings.
    """

    def __init__(
        self,
        connections: Connections,
        connection: Connection | None,
        held: ExitStack,
        rows: Sequence[Sequence[Any]],
    ) -> None:
        self.size = len(rows)
        self.events: list[LedgerEvent] = []
        self._connections = connections
        self._connection = connection
        self._held = held
        self._ids: list[int] = []
        self._unreadable: dict[int, str] = {}
        for id, key, group, payload, handlings in rows:
            try:
                event = LedgerEvent(key, group, bytes(payload), decode_handlings(handlings))
                self.events.append(check_event(event))
            except ValueError as error:
                self._unreadable[id] = str(error)
            else:
                self._ids.append(id)

    def end(self, refused: Mapping[int, str]) -> Mapping[int, str]:
        """See :class:`oni.interfaces.IOutboxBatch`."""
        errors = self._unreadable | {self._ids[place]: why for place, why in refused.items()}
        admitted = [id for id in self._ids if id not in errors]
        with self._held as held:
            connection = self._connection
            if connection is None and self.size:
                connection = held.enter_context(self._connections.begin())
            if connection is not None:
                _end(connection, admitted, errors)
        return errors

    def give_up(self) -> None:
        """See :class:`oni.interfaces.IOutboxBatch`."""
        self._held.close()


def _end(connection: Connection, admitted: Sequence[int], errors: Mapping[int, str]) -> None:
    ids = {f"id_{place}": id for place, id in enumerate(admitted)}
    if ids:
        connection.change(_REMOVE.format(ids=", ".join(f":{name}" for name in ids)), ids)
    for id, error in errors.items():
        connection.change(_REFUSE, {"id": id, "error": keepable(error) or "it was refused"})
