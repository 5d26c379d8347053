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
        self._held: dict[int, Any] = {}
        self.gone: deque[int] = deque()

    def add(self, sender: Any) -> int:
        """Hold a sender; give its id."""
        number = id(sender)
        if number not in self._held:
            self._held[number] = _held(sender, self._telling(number))
        return number

    def remove(self, number: int) -> None:
        """Hold a sender no more."""
        self._held.pop(number, None)

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
