"""Handlers that are called with what an event carries, in the place of the event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

__all__ = ["Sent", "Spread", "call_spread", "spread_method"]


class Sent(Struct, frozen=True, eq=False):
    """An event that is nothing but the arguments of its handlers.

    Attributes:
        sender: What it is about: their first argument.
        arguments: The rest of them, by name.
    """

    sender: Any
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        """Name the sender: the arguments may be long."""
        return f"<Sent by {self.sender!r}>"


class Spread:
    """A handler that is called as ``receiver(sender, **arguments)`` for each :class:`Sent`.

    What a dispatcher finds out of a handler, and how weakly it holds it, is the receiver's.
    """

    __slots__ = ("receiver",)

    def __init__(self, receiver: Callable[..., Any]) -> None:
        self.receiver = receiver

    def __call__(self, sent: Sent) -> Any:
        """Call the receiver."""
        return self.receiver(sent.sender, **sent.arguments)


# Hot: once per receiver of each signal.
def call_spread(receiver: Callable[..., Any], sent: Sent) -> Any:
    """Call a receiver with what was sent."""
    return receiver(sent.sender, **sent.arguments)


def spread_method(function: Callable[..., Any]) -> Callable[[Any, Sent], Any]:
    """Make a function of an instance and its arguments one of the instance and what was sent."""

    def call(instance: Any, sent: Sent) -> Any:
        return function(instance, sent.sender, **sent.arguments)

    return call
