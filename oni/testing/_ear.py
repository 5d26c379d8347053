"""A carrier that keeps what it hears."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from msgspec import Raw
from zope.interface import implementer

from oni.interfaces import ICarrier, IEntry, ISubscription
from oni.values import ClientInfo, Position

__all__ = ["Ear"]

_TURN = 16 * 1024


def _line(entry: IEntry) -> bytes:
    """Encode a publication as a line."""
    position = entry.position
    parts = (entry.channel, position.epoch, position.offset, entry.event, Raw(entry.data))
    return msgspec.json.encode(parts).replace(b"\n", b" ") + b"\n"


@implementer(ICarrier)
class Ear:
    """A carrier in memory, for tests. It takes nothing by itself but when it is looked at.

    Attributes:
        is_paused: Whether it takes nothing.
        turn: How many bytes it takes at once.
        gaps: The subscriptions that were told of a gap, with the position that they were told.
        late: The subscriptions that were told that they lag.
        moves: Who has come (True) and gone (False).
        sent: What was taken, as bytes.
    """

    encode = staticmethod(_line)

    def __init__(self, name: str = "", turn: int = _TURN) -> None:
        """Hear nothing yet.

        Args:
            name: Ears of one name are equal; one without is equal to itself only.
            turn: How many bytes it takes at once.
        """
        self.name = name
        self.is_paused = False
        self.turn = turn
        self.gaps: list[tuple[ISubscription, Position]] = []
        self.late: list[ISubscription] = []
        self.moves: list[tuple[str, bool, ClientInfo]] = []
        self.sent: list[bytes] = []
        self._behind: deque[ISubscription] = deque()

    def __eq__(self, other: object) -> bool:
        """Be equal to ears of the same name."""
        return self is other or (bool(self.name) and self.name == getattr(other, "name", None))

    def __hash__(self) -> int:
        """Hash like the name."""
        return hash(self.name) if self.name else id(self)

    def wake(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        if subscription in self._behind:
            raise AssertionError(f"{subscription!r} was woken though it is awake")
        self._behind.append(subscription)

    def lost(self, subscription: ISubscription, position: Position) -> bytes:
        """See :class:`oni.interfaces.ICarrier`."""
        self.gaps.append((subscription, position))
        told = (subscription.channel, position.epoch, position.offset, None, None)
        return msgspec.json.encode(told) + b"\n"

    def overdue(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        self.late.append(subscription)

    def joined(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        self.moves.append((subscription.channel, True, info))

    def left(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        self.moves.append((subscription.channel, False, info))

    def take(self) -> None:
        """Let each subscription that is awake have one turn."""
        for _ in range(len(self._behind)):
            subscription = self._behind.popleft()
            data = subscription.take(self.turn)
            if data:
                self.sent.append(data)
                if not subscription.asleep and not subscription.closed:
                    self._behind.append(subscription)

    @property
    def has_more(self) -> bool:
        """Whether there is something to take, as far as it was told."""
        return bool(self._behind)

    def drain(self) -> None:
        """Take all that there is, if not paused."""
        while self._behind and not self.is_paused:
            self.take()

    @property
    def lines(self) -> list[Any]:
        """Channel, epoch, offset, event and data of all so far; a gap has no event."""
        self.drain()
        return [msgspec.json.decode(line) for line in b"".join(self.sent).splitlines()]

    @property
    def heard(self) -> list[tuple[str, Any]]:
        """Event and data of each publication so far."""
        return [(event, data) for _, _, _, event, data in self.lines if event is not None]

    @property
    def offsets(self) -> list[int]:
        """The offset of each publication so far; of a gap, that of its end, made negative."""
        return [offset if event is not None else -offset for _, _, offset, event, _ in self.lines]
