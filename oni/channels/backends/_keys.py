"""Idempotency keys: which publication they were used for, for some minutes."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from oni._clock import Clock
from oni.values import Position

__all__ = ["Keys"]

_KEY_TTL = 300.0  # seconds for which a key is known
_MAX_KEYS = 100_000


class Keys:
    """Knows a bounded number of keys, those that were used last.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[Position, float]] = OrderedDict()

    def __len__(self) -> int:
        """Count them."""
        return len(self._known)

    def position(self, channel: str, key: str) -> Position | None:
        """Give the position of the publication that has this key in its channel, if any."""
        now = self._clock.seconds()
        for other in tuple(islice(self._known, 2)):  # two go for each that comes
            if self._known[other][1] <= now:
                del self._known[other]
        known = self._known.get((channel, key))
        return known[0] if known is not None and known[1] > now else None

    def remember(self, channel: str, key: str, position: Position) -> None:
        """Note the publication that has a key; the key used longest ago goes for too many."""
        self._known[channel, key] = (position, self._clock.seconds() + _KEY_TTL)
        self._known.move_to_end((channel, key))
        if len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
