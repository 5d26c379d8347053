"""Who reads a channel: its subscriptions, and what they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from oni.channels._crowd import Crowds
from oni.channels._kept import Kept
from oni.channels._laggards import Laggards
from oni.channels._ring import Ring
from oni.interfaces import ICarrier
from oni.values import ClientInfo, StreamOptions

if TYPE_CHECKING:
    from oni.channels._channels import Channels
    from oni.channels._subscription import Subscription

__all__ = ["Audience"]

_log = Logger()


class Audience:
    """The subscriptions of a channel, one for each carrier, and the page that they share."""

    __slots__ = (
        "_by_carrier",
        "_crowds",
        "_kept",
        "_laggards",
        "_name",
        "_node",
        "_ring",
        "_single",
    )

    def __init__(self, name: str, node: Channels, ring: Ring, options: StreamOptions) -> None:
        """Begin without any.

        Args:
            name: The channel's name.
            node: The channels of this process.
            ring: What they read.
            options: What becomes of those who are behind.
        """
        self._name = name
        self._node = node
        self._ring = ring
        self._by_carrier: dict[ICarrier, Subscription] = {}
        self._crowds = Crowds(ring)
        self._single: list[Subscription] | None = None  # those in no crowd; None: not known now
        self._kept: Kept | None = None
        self._laggards: Laggards | None = None
        if options.behind == "disconnect":
            self._laggards = Laggards(
                ring, options.max_lag, node.clock, self._by_carrier.values, self._overdue
            )

    def __len__(self) -> int:
        """Count them."""
        return len(self._by_carrier)

    def __iter__(self) -> Iterator[Subscription]:
        """Give those of now, whatever becomes of them meanwhile."""
        return iter(tuple(self._by_carrier.values()))

    def of(self, carrier: ICarrier) -> Subscription | None:
        """Give a carrier's subscription."""
        return self._by_carrier.get(carrier)

    def add(self, subscription: Subscription) -> None:
        """Add one."""
        self._by_carrier[subscription.carrier] = subscription
        self._scatter()
        subscription.count_in(1)

    def remove(self, subscription: Subscription) -> bool:
        """Remove one. Say whether it was one of them."""
        if self._by_carrier.get(subscription.carrier) is not subscription:
            return False
        del self._by_carrier[subscription.carrier]
        self._scatter()
        subscription.count_in(-1)
        if self._kept is not None:
            self._kept.forget(subscription)
        if subscription.begun and not subscription.asleep:
            self._ring.readers -= 1
        return True

    def _scatter(self) -> None:
        """Forget who is in which crowd: that is sorted out when there is something to tell."""
        if self._single is not None:
            self._single = None
            self._crowds.scatter()

    def stop(self) -> None:
        """Read nothing more for them, and look no more who lags."""
        self._release()
        if self._laggards is not None:
            self._laggards.stop()

    # --- Those behind ---------------------------------------------------------------------------

    @property
    def kept(self) -> Kept:
        """What reads for those who have fallen off the ring."""
        if self._kept is None:
            self._kept = Kept(self._name, self._node, self._ring)
        return self._kept

    @property
    def waiting(self) -> int:
        """How many wait for history."""
        return 0 if self._kept is None else self._kept.waiting

    def _release(self) -> None:
        """Let the page go, which nobody needs any more."""
        if self._kept is not None:
            self._kept.drop_page()
            self._kept = None

    def behind(self, life: int, offset: int) -> Sequence[Subscription]:
        """Give those who have not taken everything up to this offset of a life of the ring."""
        return [
            subscription
            for subscription in self._by_carrier.values()
            if subscription.begun and (subscription.life, subscription.offset) < (life, offset)
        ]

    def count_lags(self, lags: Counter[int]) -> None:
        """Count, by how many publications of the ring each subscription has not taken."""
        ring = self._ring
        if not ring.readers:
            lags[0] += len(self._by_carrier)
            return
        for subscription in self._by_carrier.values():
            if subscription.life == ring.life:
                lags[ring.count(subscription.offset, ring.top)] += 1
            else:
                lags[len(ring)] += 1

    def _overdue(self, subscription: Subscription) -> None:
        self._node.overdue += 1
        subscription.carrier.overdue(subscription)

    # --- What they are told ---------------------------------------------------------------------

    def wake_sleepers(self) -> None:
        """Wake those who had taken everything; those in crowds in a later turn."""
        ring = self._ring
        if self._kept is not None and not ring.readers and not self._kept.waiting:
            self._release()
        single = self._single
        if single is None:
            single = self._single = self._crowds.gather(self._by_carrier.values())
        self._crowds.wake()
        for subscription in single:
            if subscription.asleep and not subscription.closed:
                subscription.asleep = False
                ring.readers += 1
                subscription.wake()
        if self._laggards is not None and ring.readers:
            self._laggards.watch()

    def moved(self, info: ClientInfo, has_entered: bool) -> None:
        """Tell those who asked that a client has entered or left."""
        for subscription in self:
            if subscription.join_leave and subscription.begun:
                carrier = subscription.carrier
                tell = carrier.joined if has_entered else carrier.left
                maybeDeferred(tell, subscription, info).addErrback(
                    lambda failure: _log.failure(
                        "a carrier could not be told of presence", failure
                    )
                )
