"""Deliveries and events as they are kept in Redis: JSON that its scripts and people can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from msgspec import DecodeError, Struct, json

from oni.ledger import _states
from oni.ledger._redis_scripts import VERSION
from oni.values import Decision, Delivery, DeliveryState, LedgerEvent, OnCrash

__all__ = ["Entry", "Seen", "decision_of", "delivery_of", "text_of", "text_of_decision"]

_DELIVERY = b"d:"


class _Row(Struct, array_like=True):
    """A delivery. The scripts know the first ones by their places."""

    version: int
    state: DeliveryState
    token: int
    owner: str
    lease_until: float
    rank: int
    next_at: float
    changed_at: float
    crashes: int
    attempts: int
    max_attempts: int
    on_crash: OnCrash
    last_error: str
    awaited_by: int


class _EventRow(Struct, array_like=True):
    """An event, without its payload."""

    version: int
    group: str
    admitted_at: float


class _DecisionRow(Struct, array_like=True):
    """What an operator decided."""

    handler: str
    decision: str
    was: str
    who: str
    at: float


_T = TypeVar("_T", _Row, _EventRow)


def _ours(text: bytes | None, kind: type[_T]) -> _T | None:
    """Read a row; None where it is of another version, or is none."""
    if text is None:
        return None
    try:
        row = json.decode(text, type=kind)
    except (DecodeError, UnicodeDecodeError):
        return None
    return row if row.version == VERSION else None


def text_of(delivery: Delivery) -> str:
    """Write a delivery."""
    row = _Row(
        VERSION,
        delivery.state,
        delivery.token,
        delivery.owner,
        delivery.lease_until,
        delivery.rank,
        delivery.next_at,
        delivery.changed_at,
        delivery.crashes,
        delivery.attempts,
        delivery.max_attempts,
        delivery.on_crash,
        delivery.last_error,
        delivery.awaited_by,
    )
    return json.encode(row).decode()


def delivery_of(handler: str, key: str, text: bytes) -> Delivery | None:
    """Read a delivery; None where it is not ours to touch."""
    row = _ours(text, _Row)
    if row is None:
        return None
    return Delivery(
        handler,
        key,
        row.state,
        row.on_crash,
        row.max_attempts,
        row.attempts,
        row.crashes,
        row.token,
        row.owner,
        row.lease_until,
        row.next_at,
        row.changed_at,
        row.last_error,
        row.rank,
        0,
        row.awaited_by,
    )


def text_of_decision(decision: Decision) -> str:
    """Write what was decided about a key."""
    row = _DecisionRow(
        decision.handler, decision.decision, decision.was, decision.who, decision.at
    )
    return json.encode(row).decode()


def decision_of(key: str, text: bytes) -> Decision:
    """Read what was decided about a key."""
    row = json.decode(text, type=_DecisionRow)
    return Decision(row.handler, key, row.decision, row.was, row.who, row.at)  # type: ignore[arg-type]


Seen = tuple[DeliveryState, int, str, float | None]
"""How a delivery was seen: its state, token and owner, and its lease where that counts."""


@dataclass
class Entry:
    """What one transaction knows of a key, and what it makes of it.

    Attributes:
        is_known: Whether all of it was read. Otherwise some of its deliveries are there.
        is_there: Whether the key has been admitted; None while that is not known.
        must_be_absent: Whether the transaction stands on there being none in the server.
        is_anew: Whether what the server has is forgotten before anything is written.
        event: The event without its handlings; its payload is there if this admitted it.
        has_payload: Whether it is.
        admitted_at: When.
        digest: The payload's.
        rows: The deliveries by handler, as this transaction sees them.
        unread: How many deliveries there are that are not ours to touch.
        was: The states that they have in the server.
        seen: How those were seen that are written.
        written: Whose deliveries are written.
        is_admitted: Whether the event is written.
        decisions: Those that are written.
    """

    is_known: bool = False
    is_there: bool | None = None
    must_be_absent: bool = False
    is_anew: bool = False
    event: LedgerEvent | None = None
    has_payload: bool = False
    admitted_at: float = 0.0
    digest: bytes | None = None
    rows: dict[str, Delivery] = field(default_factory=dict)
    unread: int = 0
    was: dict[str, DeliveryState] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    is_admitted: bool = False
    decisions: list[Decision] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether anything is written."""
        return bool(self.is_anew or self.is_admitted or self.written or self.decisions)

    def learn(self, key: str, found: Sequence[bytes]) -> None:
        """Take in what the server has. What this transaction has changed stays as it is."""
        fields: Mapping[bytes, bytes] = dict(zip(found[::2], found[1::2], strict=True))
        self.is_known = True
        self.is_there = bool(fields)
        digest = fields.get(b"digest")
        self.digest = bytes.fromhex(digest.decode()) if digest else None
        event = _ours(fields.get(b"event"), _EventRow)
        if event is not None:
            self.event = LedgerEvent(key, event.group)
            self.admitted_at = event.admitted_at
        for name, text in fields.items():
            if name.startswith(_DELIVERY):
                handler = name[len(_DELIVERY) :].decode()
                row = delivery_of(handler, key, text)
                if row is None:
                    self.unread += 1
                else:
                    self.was[handler] = row.state
                    self.rows.setdefault(handler, row)

    def see(self, row: Delivery) -> None:
        """Take in one delivery, as the server has it, or should."""
        self.is_there = True
        self.was[row.handler] = row.state
        self.rows[row.handler] = row

    def admit(self, event: LedgerEvent, digest: bytes, now: float) -> None:
        """Be a new event."""
        self.must_be_absent = not self.is_anew
        self.is_known = self.is_there = self.is_admitted = self.has_payload = True
        self.event = LedgerEvent(event.key, event.group, event.payload)
        self.digest = digest
        self.admitted_at = now

    def forget(self) -> None:
        """Be no event any more."""
        for handler, row in self.rows.items():
            if handler in self.was and handler not in self.seen:
                self.seen[handler] = (row.state, row.token, row.owner, None)
        self.is_anew = not self.must_be_absent
        self.is_known = True
        self.is_there = self.is_admitted = self.has_payload = False
        self.event = self.digest = None
        self.rows = {}
        self.written = set()
        self.decisions = []

    def deliveries(self) -> Sequence[Delivery]:
        """Give the deliveries by handler, each knowing for how many others it waits."""
        ranks = [row.rank for row in self.rows.values() if not _states.has_ended(row)]
        return [
            replace(row, waits_for=sum(rank < row.rank for rank in ranks))
            for _, row in sorted(self.rows.items())
        ]

    def due(self, handler: str, now: float) -> Delivery | None:
        """Give a handler's delivery if it may be claimed."""
        if self.event is None or self.unread:
            return None
        for row in self.deliveries():
            if row.handler == handler:
                is_due = row.state == "pending" and not row.waits_for and row.next_at <= now
                return row if is_due else None
        return None
