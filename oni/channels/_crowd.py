"""Subscriptions that hear a channel together: the hot path of a live delivery.

Its benchmark is ``benchmarks/fanout.py``. The loop here looks different from the rest: it does for
subscriptions what :meth:`Subscription.take` does, and for carriers what their turns do, with
nothing in between, as long as that is exactly the same. In every other case the carrier is woken,
and takes what there is in a turn of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from oni.channels._ring import Ring
from oni.interfaces import ITurns

if TYPE_CHECKING:
    from oni.channels._subscription import Subscription

__all__ = ["Crowd", "Crowds"]


class Crowds:
    """The subscriptions of a channel, by the turns that their carriers take and their protocol."""

    __slots__ = ("_crowds", "_ring")

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._crowds: dict[Any, Crowd] = {}

    def gather(self, subscriptions: Iterable[Subscription]) -> list[Subscription]:
        """Put these into crowds, and nobody else. Give those whose carriers take their own turns.

        What a crowd has begun it ends with those whom it began it with.
        """
        members: dict[Any, list[Subscription]] = {}
        others = []
        for subscription in subscriptions:
            if subscription.is_direct:
                carrier: Any = subscription.carrier
                members.setdefault((carrier.turns, carrier.encode), []).append(subscription)
            else:
                others.append(subscription)
        self._crowds = {key: self._crowds.get(key) or Crowd(self._ring, *key) for key in members}
        for key, found in members.items():
            self._crowds[key].members = found
        return others

    def scatter(self) -> None:
        """Forget who is where: members refer to the channel, which shall go with its users."""
        for crowd in self._crowds.values():
            crowd.members = []

    def wake(self) -> None:
        """Let all have what has come into the ring."""
        for crowd in self._crowds.values():
            crowd.wake()


class Crowd:
    """Subscriptions whose carriers send the same bytes.

    When something comes nobody is told, nor even looked at, before the crowd has its turn: it
    counts as one reader that is behind. Then it goes from one to the next, and each that is
    asleep is given what is new to it.

    Attributes:
        members: All of them, a list that does not change.
    """

    __slots__ = ("_encode", "_going", "_next", "_ring", "_then", "_turns", "members")

    def __init__(self, ring: Ring, turns: ITurns, encode: Callable[[Any], bytes]) -> None:
        """Begin without members.

        Args:
            ring: Their channel's.
            turns: What gives turns.
            encode: What their carriers send of a publication.
        """
        self.members: list[Subscription] = []
        self._ring = ring
        self._turns = turns
        self._encode = encode
        self._going: list[Subscription] = []  # whom it goes through now; none when it rests
        self._next = 0
        self._then: list[Subscription] = []  # whom it goes through after that

    def __len__(self) -> int:
        """Count those that it still goes to before it looks whether something came meanwhile."""
        return len(self._going) - self._next

    def wake(self) -> None:
        """Go to every member, once more if it is on its way already."""
        if self._next:
            self._then = self.members
        elif self._going:
            self._going = self.members
        else:
            self._going = self.members
            self._ring.readers += 1
            self._turns.invite(self)

    def give(self, number: int, alone: bool) -> bool:
        """Go to the next so many; see :class:`oni.interfaces.ITurns`."""
        start = self._next
        self._next = end = start + number
        ring = self._ring
        life, top = ring.life, ring.top
        data, size, at = b"", 0, top
        for subscription in self._going[start:end]:
            carrier: Any = subscription.carrier
            if subscription.asleep and subscription.is_plain and subscription.life == life:
                if subscription.offset != at:
                    at = subscription.offset
                    data = self._news(at)
                    size = len(data)
                send = carrier.direct
                if size and send is not None and (alone or carrier.heard == 1):
                    subscription.offset = top
                    try:
                        sent = send(data)
                    except OSError:  # it would block, or is broken: the transport finds that out
                        sent = 0
                    if sent != size:
                        carrier.rest(data, sent)
                    continue
            self._wake(subscription)
        if end < len(self._going):
            return True
        self._next = 0
        self._going, self._then = self._then, []
        if self._going:
            return True
        ring.readers -= 1
        return False

    def _news(self, offset: int) -> bytes:
        """Give all that comes after an offset; nothing where that is no single turn's worth."""
        ring = self._ring
        if not ring.base <= offset < ring.top or ring.excluding:
            return b""
        try:
            data, end = ring.chunk(offset, self._encode, self._turns.turn_bytes)
        except Exception:  # noqa: BLE001 - it is met again, and told of, in the carrier's own turn
            return b""
        return data if end == ring.top else b""

    def _wake(self, subscription: Subscription) -> None:
        """Wake a subscription that is asleep, unless there is nothing new to it."""
        ring = self._ring
        is_there = subscription.asleep and not subscription.closed
        if is_there and (subscription.offset != ring.top or subscription.life != ring.life):
            subscription.asleep = False
            ring.readers += 1
            subscription.wake()
