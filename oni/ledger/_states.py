"""The state machine of a delivery: what may happen to it, and what it is then. No clock, no store.

Every store takes its steps from here, and writes what comes out only where the delivery still is
what it was: it has the same token and the same state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from oni.errors import DeliveryStateError
from oni.values import Delivery, DeliveryState, LedgerEvent

__all__ = [
    "STATES",
    "TRANSITIONS",
    "admitted",
    "backoff",
    "caught_up",
    "claimed",
    "completed",
    "extended",
    "failed",
    "has_ended",
    "keepable",
    "released",
    "rescued",
    "resolved",
]

STATES: tuple[DeliveryState, ...] = ("pending", "running", "done", "dead", "uncertain")

TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    "pending": frozenset({"pending", "running", "done"}),
    "running": frozenset({"running", "pending", "done", "dead", "uncertain"}),
    "done": frozenset({"pending"}),
    "dead": frozenset({"pending", "done"}),
    "uncertain": frozenset({"pending", "done"}),
}
"""Which state may follow which; out of the last three only by an operator's decision."""

_LONGEST_DELAY = 300.0  # seconds
_LONGEST_ERROR = 4096  # characters


def backoff(times: int) -> float:
    """Give the seconds to wait after it has gone wrong so many times: 1, 2, 4, up to 300."""
    return float(min(_LONGEST_DELAY, 2.0 ** min(times - 1, 30)))


def has_ended(delivery: Delivery) -> bool:
    """Say whether those of a higher rank wait for it no more."""
    return delivery.state not in ("pending", "running")


def admitted(event: LedgerEvent, now: float) -> list[Delivery]:
    """Give the deliveries of an event that is new, one for each handler."""
    ranks = [handling.rank for handling in event.handlings]
    return [
        Delivery(
            handler=handling.handler,
            key=event.key,
            on_crash=handling.on_crash,
            max_attempts=handling.max_attempts,
            next_at=now,
            changed_at=now,
            rank=handling.rank,
            waits_for=sum(rank < handling.rank for rank in ranks),
            awaited_by=sum(rank > handling.rank for rank in ranks),
        )
        for handling in event.handlings
    ]


def claimed(delivery: Delivery, owner: str, now: float, lease: float) -> Delivery:
    """Let an owner run it. That is the next attempt, whatever comes of it."""
    _must_be(delivery, "claimed", "pending")
    return replace(
        delivery,
        state="running",
        attempts=delivery.attempts + 1,
        token=delivery.token + 1,
        owner=owner,
        lease_until=now + lease,
        changed_at=now,
    )


def extended(delivery: Delivery, now: float, lease: float) -> Delivery:
    """Let its owner have it for longer."""
    _must_be(delivery, "extended", "running")
    return replace(delivery, lease_until=now + lease)


def completed(delivery: Delivery, now: float) -> Delivery:
    """Let it be done."""
    _must_be(delivery, "completed", "running")
    return _left(delivery, "done", now)


def failed(
    delivery: Delivery, error: str, now: float, permanent: bool, delay: float | None
) -> Delivery:
    """Let its attempt have failed.

    With ``on_crash="park"`` a failure is as bad as a crash: who knows what was done before it?
    Unless whoever failed knows, and says that it is for good.
    """
    _must_be(delivery, "failed", "running")
    delivery = replace(delivery, last_error=keepable(error))
    if delivery.on_crash == "park" and not permanent:
        return _left(delivery, "uncertain", now)
    if permanent or delivery.attempts >= delivery.max_attempts:
        return _left(delivery, "dead", now)
    wait = backoff(delivery.attempts) if delay is None else delay
    return replace(_left(delivery, "pending", now), next_at=now + wait)


def released(delivery: Delivery, now: float) -> Delivery:
    """Let it wait again as if it had not been claimed: its owner never began. Its token stays."""
    _must_be(delivery, "released", "running")
    again = replace(delivery, attempts=delivery.attempts - 1, next_at=now)
    return _left(again, "pending", now)


def rescued(delivery: Delivery, now: float) -> Delivery:
    """Take it from an owner that died or fell silent.

    After the first time it may run again at once; after more of them it waits.
    """
    _must_be(delivery, "rescued", "running")
    crashes = delivery.crashes + 1
    delivery = replace(
        delivery,
        crashes=crashes,
        last_error=f"attempt {delivery.attempts} did not end: its owner died or fell silent",
    )
    if delivery.on_crash == "park":
        return _left(delivery, "uncertain", now)
    if delivery.attempts >= delivery.max_attempts:
        return _left(delivery, "dead", now)
    wait = backoff(crashes - 1) if crashes > 1 else 0.0
    return replace(_left(delivery, "pending", now), next_at=now + wait)


def caught_up(delivery: Delivery, now: float) -> Delivery:
    """Let it wait for as long as it had to, from now on: its clock was set back."""
    _must_be(delivery, "let wait anew", "pending")
    wait = max(0.0, delivery.next_at - delivery.changed_at)
    return replace(_left(delivery, "pending", now), next_at=now + wait)


def resolved(delivery: Delivery, decision: Literal["done", "retry"], now: float) -> Delivery:
    """Let an operator decide."""
    if decision == "done":
        _must_be(delivery, "resolved as done", "pending", "dead", "uncertain")
        return _left(delivery, "done", now)
    _must_be(delivery, "resolved for another try", "pending", "done", "dead", "uncertain")
    again = replace(delivery, attempts=0, crashes=0, next_at=now)
    return _left(again, "pending", now)


def keepable(error: str) -> str:
    """Give an error's text as databases keep it: without NUL and halves of characters, and cut."""
    error = error.replace("\0", "\ufffd")
    return error.encode("utf-8", "backslashreplace").decode()[:_LONGEST_ERROR]


def _left(delivery: Delivery, state: DeliveryState, now: float) -> Delivery:
    return replace(delivery, state=state, owner="", lease_until=0.0, changed_at=now)


def _must_be(delivery: Delivery, wish: str, *states: DeliveryState) -> None:
    if delivery.state not in states:
        raise DeliveryStateError(delivery.handler, delivery.key, delivery.state, wish)
