"""The end of a transaction: those who may refuse are asked, sources run, events are admitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from oni.errors import ChangeRoundsError, LedgerTransactionError
from oni.interfaces import IEventSources, IOutbox
from oni.sources.sqlalchemy._pending import Pending, Row
from oni.values import Event, ModelChange

__all__ = ["HandOver", "Listener"]

Listener = Callable[[Session, Sequence[ModelChange]], object]
"""Is called with a session and its changes before they are committed, and refuses by raising."""

_ROUNDS = 10


class HandOver:
    """Hands a transaction's changes over, as a part of it.

    Args:
        sources: Makes events of changes and instances.
        has_sources: Says whether a class has event sources.
        outbox: Where events are put if the ledger is in another database.

    Attributes:
        listeners: Are asked, in this order.
    """

    def __init__(
        self,
        sources: IEventSources,
        has_sources: Callable[[type], bool],
        outbox: IOutbox | None,
    ) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self._sources = sources
        self._has_sources = has_sources
        self._outbox = outbox

    def run(self, session: Session, pending: Pending, flush: bool = True) -> None:
        """Do it.

        Args:
            session: The session, before its commit.
            pending: What it has changed.
            flush: Whether it can be flushed now. If not, what is changed now comes later.

        Raises:
            ChangeRoundsError: Every time that listeners were asked there were new changes.
            LedgerTransactionError: The events cannot be admitted in this transaction.
        """
        pending.is_handing = True
        try:
            produced = self._settle(session, pending, flush)
            self._admit(session, pending, produced)
        finally:
            pending.is_handing = False
        pending.handed = True

    def run_late(self, session: Session, pending: Pending) -> None:
        """Do it for what comes when it was done already, as no other turn may follow.

        In a savepoint it is done within that, and shares its fate.
        """
        if pending and pending.handed and not pending.is_handing:
            self.run(session, pending, flush=False)

    def wake(self) -> None:
        """Let what was handed over be delivered soon. It is committed."""
        if self._outbox is not None:
            self._outbox.wake()
        else:
            self._sources.wake()

    def _settle(
        self, session: Session, pending: Pending, flush: bool
    ) -> dict[Row, Sequence[Event]]:
        """Ask listeners, and let sources run, until nothing changes any more."""
        produced: dict[Row, Sequence[Event]] = {}
        waiting: dict[Row, None] = {}
        savepoint = session.get_nested_transaction()
        if flush:
            session.flush()
        changes = pending.tell_again()
        while changes or waiting:
            if changes:
                self._ask(session, pending, changes)
                waiting.update(dict.fromkeys(_rows(changes)))
            else:
                for row in waiting:
                    produced[row] = self._events_of(session, pending, row)
                waiting = {}
            if session.get_nested_transaction() is not savepoint:
                raise LedgerTransactionError(
                    "a source, or a function in before_commit, has left a savepoint open; what "
                    "comes now could be rolled back with it: let it end what it begins"
                )
            if flush:
                session.flush()
            changes = pending.take_fresh()
        return produced

    def _ask(self, session: Session, pending: Pending, changes: Sequence[ModelChange]) -> None:
        pending.rounds += 1
        if pending.rounds > _ROUNDS:
            raise ChangeRoundsError(_ROUNDS, [_name(listener) for listener in self.listeners])
        for listener in self.listeners:
            listener(session, changes)

    def _events_of(self, session: Session, pending: Pending, row: Row) -> Sequence[Event]:
        model, identity = pending.identities[row]
        if not self._has_sources(model):
            return ()
        instance = session.get(model, identity)
        return () if instance is None else self._sources.model_events(instance)

    # --- Admission

    def _admit(
        self, session: Session, pending: Pending, produced: dict[Row, Sequence[Event]]
    ) -> None:
        changes: dict[sa.Connection, list[ModelChange]] = {}
        for change in pending.net():
            model, _ = pending.identities[change.model, change.id]
            connection = session.connection(bind_arguments={"mapper": sa.inspect(model)})
            changes.setdefault(connection, []).append(change)
        told = [
            (connection, events)
            for connection, each in changes.items()
            if (events := self._events(each, produced))
        ]
        if len(told) > 1 and self._outbox is None:
            raise LedgerTransactionError(
                "one transaction has changed watched rows in several databases, and the ledger is "
                "in one of them: watch with outbox=..., or change them in several transactions"
            )
        for connection, events in told:
            self._put(connection, events)
            pending.admitted = True
        pending.forget()

    def _events(
        self, changes: Sequence[ModelChange], produced: dict[Row, Sequence[Event]]
    ) -> Sequence[Event]:
        events = list(self._sources.change_events(changes))
        for row in _rows(changes):
            events.extend(produced.get(row, ()))
        return events

    def _put(self, connection: sa.Connection, events: Sequence[Event]) -> None:
        try:
            if self._outbox is not None:
                self._outbox.put(connection, self._sources.ledger_events(events))
            else:
                self._sources.admit_within(connection, events)
        except DBAPIError as error:
            where = "the ledger" if self._outbox is None else "the outbox"
            raise LedgerTransactionError(
                f"{where} could not be written to in the transaction of the session: {error.orig} "
                f"- its tables are made when it is opened for the first time; and if the ledger "
                f"is in another database than the session's, watch with outbox=..."
            ) from error


def _rows(changes: Iterable[ModelChange]) -> Iterable[Row]:
    """Name the rows that are there after the changes."""
    for change in changes:
        if change.action in ("created", "modified"):
            yield change.model, change.id


def _name(function: Any) -> str:
    module = getattr(function, "__module__", "")
    name = getattr(function, "__qualname__", None)
    return f"{module}.{name}" if name else repr(function)
