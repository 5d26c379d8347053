"""Senders by their identity, which is never mistaken for that of one that is gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import ref

__all__ = ["Senders"]


class Senders:
    """The senders that receivers are connected to.

    A sender is known by its ``id()``, which another object may have once it has died. So it is
    held weakly, and told of before its memory can be used again; one that cannot be held weakly
    is kept alive.

    Attributes:
        gone: The ids of those that have died. Whoever looks for one takes them out first.
    """

    __slots__ = ("_held", "gone")

    def __init__(self) -> None:
        # By its id: what holds a sender, and the keys of what is connected to it.
        self._held: dict[int, tuple[Any, set[Any]]] = {}
        self.gone: deque[int] = deque()

    def add(self, sender: Any, key: Any) -> None:
        """Hold a sender, as long as something is connected to it."""
        number = id(sender)
        if number not in self._held:
            self._held[number] = _held(sender, self._telling(number)), set()
        self._held[number][1].add(key)

    def remove(self, number: int, key: Any) -> None:
        """Take back that something is connected to a sender."""
        _, keys = self._held.get(number, (None, set()))
        keys.discard(key)
        if not keys:
            self._held.pop(number, None)

    def keys_of(self, number: int) -> list[Any]:
        """Give the keys of what is connected to a sender."""
        return list(self._held[number][1]) if number in self._held else []

    def _telling(self, number: int) -> Callable[[Any], object]:
        gone = self.gone

        def tell(_: Any) -> None:
            gone.append(number)  # in whatever thread the sender died

        return tell


def _held(sender: Any, on_death: Callable[[Any], object]) -> Any:
    try:
        return ref(sender, on_death)
    except TypeError:
        return sender
