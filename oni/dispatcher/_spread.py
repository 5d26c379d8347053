"""Handlers that are called with what an event carries, in the place of the event."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from msgspec import Struct

from oni.dispatcher._threads import InThread

__all__ = ["Sent", "Spread", "call_spread", "in_this_thread", "spread_method"]


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

    def identity(self) -> tuple[Any, ...]:
        """Give what names the receiver while it is held: its instance, and its function.

        A method is made anew each time that it is asked for, and so may be what calls a function
        in a thread: these themselves are nothing that stays.
        """
        return _identity(self.receiver)


def _identity(receiver: Any) -> tuple[Any, ...]:
    if isinstance(receiver, InThread):
        return "in a thread", *_identity(receiver.function)
    instance = getattr(receiver, "__self__", None)
    function = getattr(receiver, "__func__", None)
    if instance is not None and function is None:  # a method of a built-in class
        return id(instance), getattr(receiver, "__name__", id(receiver))
    return id(instance), id(receiver if function is None else function)


# Hot: once per receiver of each signal.
def call_spread(receiver: Callable[..., Any], sent: Sent) -> Any:
    """Call a receiver with what was sent."""
    return receiver(sent.sender, **sent.arguments)


def in_this_thread(handler: Any) -> Any:
    """Give what is called in the place of a handler where the thread may block: itself, mostly."""
    if isinstance(handler, InThread):
        return handler.function
    if isinstance(handler, Spread) and isinstance(handler.receiver, InThread):
        return Spread(handler.receiver.function)
    if type(handler) is MethodType and handler.__func__ is call_spread:
        return partial(call_spread, in_this_thread(handler.__self__))
    return handler


def spread_method(function: Callable[..., Any]) -> Callable[[Any, Sent], Any]:
    """Make a function of an instance and its arguments one of the instance and what was sent."""

    def call(instance: Any, sent: Sent) -> Any:
        return function(instance, sent.sender, **sent.arguments)

    return call
