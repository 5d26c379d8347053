"""What a function has come to that is called where nobody can wait."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

__all__ = ["settled"]


def settled(value: Any, who: str) -> Any:
    """Give what a function has returned, of a Deferred that has fired its result.

    Args:
        value: What it has returned.
        who: What the function is, for the error: ``"a watcher in a thread of its own"``.

    Returns:
        The value; a :class:`twisted.python.failure.Failure` where a Deferred has failed.

    Raises:
        TypeError: It is something that has to be waited for.
    """
    if isinstance(value, Deferred):
        found: list[Any] = []
        value.addBoth(found.append)
        if found:
            return found[0]
    if isinstance(value, Awaitable):
        if isinstance(value, Coroutine):
            value.close()  # it never began, and says nothing of it
        raise TypeError(f"{who} has returned what must be waited for: {type(value).__name__}")
    return value
