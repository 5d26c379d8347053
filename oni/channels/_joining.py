"""Calls that subscribe one carrier at the same time."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import DeferredLock

__all__ = ["Joining"]


class Joining:
    """What calls of one subscription have in common until the last of them is answered.

    The first one finds where the subscription stands; the others must not move it.

    Attributes:
        pending: The events of the calls that are not answered yet.
        joined: The events that stay, whatever becomes of those.
        turn: One after the other.
    """

    __slots__ = ("joined", "pending", "turn")

    def __init__(self, joined: Iterable[str | None]) -> None:
        self.joined = set(joined)
        self.pending: list[str | None] = []
        self.turn = DeferredLock()
