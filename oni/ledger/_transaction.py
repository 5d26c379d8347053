"""What can be done with a ledger's data in one transaction, whatever keeps them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from hashlib import sha256
from math import ceil
from typing import Any, Literal

from zope.interface import implementer

from oni.errors import LedgerUnavailableError, StaleClaimError, UnknownDeliveryError
from oni.interfaces import ILedgerTransaction
from oni.ledger import _states
from oni.values import (
    Admission,
    Claim,
    Decision,
    Delivery,
    DeliveryState,
    LedgerEvent,
    LedgerRecord,
)

__all__ = ["LedgerTransaction", "LockedError", "LostRaceError"]

_TRIES = 3
_AHEAD = 1.0  # seconds; clocks of several processors may be a little apart


class LockedError(LedgerUnavailableError):
    """Somebody else has held what this transaction needs for too long."""


class LostRaceError(LedgerUnavailableError):
    """The database chose this one of two transactions that were in each other's way.

    Nothing of it was kept, so that it can be done again at once.
    """


@implementer(ILedgerTransaction)
class LedgerTransaction(ABC):
    """Takes the steps of the state machine; a store says how rows are found and written.

    Args:
        connection: What others may write to the same database through.
        namespace: What idempotency keys begin with.
    """

    def __init__(self, connection: Any, namespace: str) -> None:
        self.connection = connection
        self._namespace = namespace

    # --- The steps

    def admit(self, event: LedgerEvent) -> Admission:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        digest = sha256(event.payload).digest()
        now = self.now()
        for _ in range(_TRIES):
            if self.add_event(event, digest, now):
                for delivery in _states.admitted(event, now):
                    self.add_delivery(delivery)
                return "admitted"
            known = self.digest(event.key)
            if known is not None:
                return "duplicate" if known == digest else "conflict"
        raise LedgerUnavailableError(f"{event.key!r} comes and goes; try again")

    def claim(
        self,
        handlers: Collection[str],
        limit: int,
        owner: str,
        lease: float,
        keys: Collection[str] | None = None,
    ) -> Sequence[Claim]:
        """See :class:`oni.interfaces.ILedgerTransaction`. Each handler has its share.

        The order of the handlers counts: the first one's deliveries cannot be kept from their turn
        by another's. So whoever calls this again and again lets them change places.
        """
        claims: list[Claim] = []
        if keys is not None and not keys:
            return claims
        now = self.now()
        for place, handler in enumerate(handlers):
            share = ceil((limit - len(claims)) / (len(handlers) - place))
            due = self.due(handler, now, share, keys) if share else ()
            # Who has outlived an owner comes alone, when it is the first.
            suspect = next((place for place, row in enumerate(due) if row[0].crashes), len(due))
            chosen = due[:1] if suspect == 0 and not claims else due[:suspect]
            after = [_states.claimed(delivery, owner, now, lease) for delivery, _, _ in chosen]
            pairs = [(row[0], each) for row, each in zip(chosen, after, strict=True)]
            for is_ours, each, row in zip(self.write_each(pairs), after, chosen, strict=True):
                if is_ours:
                    claims.append(Claim(each, row[1], row[2], self._idempotency_key(each)))
            if claims and claims[0].delivery.crashes:
                break
        return claims

    def complete(self, claim: Claim) -> None:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        self._step(claim, _states.completed(claim.delivery, self.now()))

    def fail(self, claim: Claim, error: str, permanent: bool, delay: float | None) -> Delivery:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        after = _states.failed(claim.delivery, error, self.now(), permanent, delay)
        self._step(claim, after)
        return after

    def release(self, claim: Claim) -> bool:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        return self.write(claim.delivery, _states.released(claim.delivery, self.now()))

    def extend(self, claim: Claim, lease: float) -> bool:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        return self.write(claim.delivery, _states.extended(claim.delivery, self.now(), lease))

    def rescue(self, delivery: Delivery) -> bool:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        after = _states.rescued(delivery, self.now())
        return self._change(delivery, after, unless_extended=True)

    def ahead(self) -> Sequence[Delivery]:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        return self.changed_after(self.now() + _AHEAD)

    def catch_up(self, delivery: Delivery) -> bool:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        return self.write(delivery, _states.caught_up(delivery, self.now()))

    def resolve(
        self, handler: str, key: str, decision: Literal["done", "retry"], who: str
    ) -> Delivery:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        before = self.find(handler, key)
        if before is None:
            raise UnknownDeliveryError(handler, key)
        now = self.now()
        after = _states.resolved(before, decision, now)
        if not self._change(before, after):
            raise StaleClaimError(handler, key, before.token)
        self.add_decision(Decision(handler, key, decision, before.state, who, now))
        return after

    def prune(self, older_than: float, limit: int) -> int:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        keys = self.finished(self.now() - older_than, limit)
        for key in keys:
            self.remove(key)
        return len(keys)

    def show(self, key: str) -> LedgerRecord | None:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        found = self.event(key)
        if found is None:
            return None
        event, admitted_at = found
        return LedgerRecord(event, admitted_at, self.of_key(key), self.decisions(key))

    def lag(self) -> float:
        """See :class:`oni.interfaces.ILedgerTransaction`."""
        since = self.due_since()
        return 0.0 if since is None else max(0.0, self.now() - since)

    def _step(self, claim: Claim, after: Delivery) -> None:
        """Write what a claim's owner has come to, if it still has the claim."""
        if not self._change(claim.delivery, after):
            raise StaleClaimError(claim.handler, claim.key, claim.token)

    def _change(self, before: Delivery, after: Delivery, unless_extended: bool = False) -> bool:
        """Write a delivery, and tell those of a higher rank when it ends, or begins again."""
        if not self.write(before, after, unless_extended):
            return False
        more = _states.has_ended(before) - _states.has_ended(after)
        if more and before.awaited_by:
            self.let_wait(before.key, before.rank, more)
        return True

    def _idempotency_key(self, delivery: Delivery) -> str:
        return f"{self._namespace}/{delivery.handler}/{delivery.key}"

    # --- What a store does

    @abstractmethod
    def now(self) -> float:
        """See :class:`oni.interfaces.ILedgerTransaction`."""

    @abstractmethod
    def add_event(self, event: LedgerEvent, digest: bytes, now: float) -> bool:
        """Keep an event; say whether its key is new."""

    @abstractmethod
    def add_delivery(self, delivery: Delivery) -> None:
        """Keep a delivery of an event that is new."""

    @abstractmethod
    def add_decision(self, decision: Decision) -> None:
        """Keep what an operator decided."""

    @abstractmethod
    def digest(self, key: str) -> bytes | None:
        """Give the digest that an event was added with."""

    @abstractmethod
    def due(
        self, handler: str, now: float, limit: int, keys: Collection[str] | None
    ) -> Sequence[tuple[Delivery, str, bytes]]:
        """Give pending deliveries whose time has come, that which waits longest first.

        Only those that wait for none of a lower rank, and, unless it is None, only of these keys.
        With each: its event's group and payload. Nobody else is given the same ones before this
        transaction ends, where the store can see to that.
        """

    @abstractmethod
    def find(self, handler: str, key: str) -> Delivery | None:
        """Give a delivery, so that nobody changes it before this transaction ends."""

    @abstractmethod
    def write(self, before: Delivery, after: Delivery, unless_extended: bool = False) -> bool:
        """Write a delivery, if it still has the token, the owner and the state it had before.

        For how many others it waits stays as it is kept.

        Args:
            before: How it was.
            after: How it shall be.
            unless_extended: Also its lease must be as it was.

        Returns:
            Whether it was so.
        """

    def write_each(self, pairs: Sequence[tuple[Delivery, Delivery]]) -> Sequence[bool]:
        """Write deliveries that :meth:`due` gave: each pair is one before and after."""
        return [self.write(before, after) for before, after in pairs]

    @abstractmethod
    def let_wait(self, key: str, rank: int, more: int) -> None:
        """Let the key's deliveries of a higher rank wait for so many more of this one; or less."""

    @abstractmethod
    def running(self) -> Sequence[Delivery]:
        """See :class:`oni.interfaces.ILedgerTransaction`."""

    @abstractmethod
    def changed_after(self, time: float) -> Sequence[Delivery]:
        """Give some of the pending deliveries that came into their state after this time."""

    @abstractmethod
    def finished(self, before: float, limit: int) -> Sequence[str]:
        """Give keys of which each delivery is done, and was before this time.

        Nobody changes that before this transaction ends.
        """

    @abstractmethod
    def remove(self, key: str) -> None:
        """Forget an event, its deliveries, and what was decided about them."""

    @abstractmethod
    def event(self, key: str) -> tuple[LedgerEvent, float] | None:
        """Give an event without its handlings, and when it was admitted."""

    @abstractmethod
    def of_key(self, key: str) -> Sequence[Delivery]:
        """Give a key's deliveries, by handler."""

    @abstractmethod
    def decisions(self, key: str) -> Sequence[Decision]:
        """Give what was decided about a key, the oldest first."""

    @abstractmethod
    def deliveries(
        self, state: DeliveryState | None, handler: str | None, limit: int
    ) -> Sequence[Delivery]:
        """See :class:`oni.interfaces.ILedgerTransaction`."""

    @abstractmethod
    def count(self) -> dict[DeliveryState, int]:
        """See :class:`oni.interfaces.ILedgerTransaction`."""

    @abstractmethod
    def due_since(self) -> float | None:
        """Give the time from which on the first of all pending deliveries may be claimed."""
