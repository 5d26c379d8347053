"""Mistakes that others have made. With each of them a run must be found to be wrong.

They are put into a worker's process (see :mod:`.seams`); the product has none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from socket import gethostname
from typing import Any
from unittest import mock

from oni.errors import DeliveryStateError, StaleClaimError, UnknownDeliveryError
from oni.values import Claim, Delivery
from tests.integration.kill_harness.seams import Watched

__all__ = ["MUTANTS", "watched_with"]


class DoneAtClaim(Watched):
    """Marks a delivery as done when it is claimed, and runs it afterwards."""

    def claim(self, *arguments: Any, **named: Any) -> Sequence[Claim]:
        """Claim, and complete."""
        claims = super().claim(*arguments, **named)
        for claim in claims:
            self._inner.complete(claim)
        return claims

    def complete(self, claim: Claim) -> None:
        """Do nothing: it is done."""

    def extend(self, claim: Claim, lease: float) -> bool:
        """Do nothing: there is no lease."""
        return True


class TwoCommits(Watched):
    """Commits a handler's effect first and its completion afterwards."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._late: list[Claim] = []

    def complete(self, claim: Claim) -> None:
        """Leave it for later."""
        self._points.hit("complete.before")
        self._late.append(claim)

    def committed(self) -> None:
        """Complete, in another transaction."""
        for claim in self._late:
            with self._anew() as transaction:
                transaction.complete(claim)
                self._written("complete", None)
        super().committed()


class NoGuard(Watched):
    """Lets an owner write although its claim was taken away."""

    def complete(self, claim: Claim) -> None:
        """Complete as if nobody else could have."""
        with suppress(StaleClaimError):
            super().complete(claim)


class BlindRescue(Watched):
    """Rescues what it saw to be orphaned, whatever has become of it since."""

    def rescue(self, delivery: Delivery) -> bool:
        """Let it run again, in any state."""
        if not super().rescue(delivery):
            with suppress(DeliveryStateError, UnknownDeliveryError, StaleClaimError):
                self._inner.resolve(delivery.handler, delivery.key, "retry", "a blind rescuer")
        return True


class EarlyPrune(Watched):
    """Forgets what is done at once, while its source may still bring it again."""

    def prune(self, older_than: float, limit: int) -> int:
        """Prune without a horizon."""
        return super().prune(0.0, limit)


class NoRanks(Watched):
    """Admits every delivery as if its phase were the first."""

    def admit(self, event: Any) -> Any:
        """Admit without an order."""
        handlings = tuple(replace(each, rank=0) for each in event.handlings)
        return super().admit(replace(event, handlings=handlings))


def _named_after_the_host(role: str) -> None:
    """Let every worker of this machine be the same owner."""
    name = sha256(f"{gethostname()} {role}".encode()).hexdigest()
    mock.patch("oni.ledger._ledger.token_hex", lambda size: name[: 2 * size]).start()


MUTANTS: dict[str, type[Watched] | Callable[[str], None]] = {
    "A": DoneAtClaim,
    "B": TwoCommits,
    "C": NoGuard,
    "D": BlindRescue,
    "E": _named_after_the_host,
    "F": EarlyPrune,
    "G": NoRanks,
}
"""The mistakes by their letters; A to F are those of the ledger's design, G lets phases go."""


def watched_with(letter: str, role: str) -> type[Watched]:
    """Give what watches transactions; a mistake that lies elsewhere is made at once.

    Args:
        letter: The mistake's, ``""`` for none.
        role: What the process is.
    """
    mutant = MUTANTS[letter] if letter else Watched
    if isinstance(mutant, type):
        return mutant
    mutant(role)
    return Watched
