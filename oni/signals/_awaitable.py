"""A Deferred that tasks of asyncio can await, too."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Self, TypeVar, cast

from twisted.internet.defer import Deferred

__all__ = ["Sending"]

_T = TypeVar("_T")


class Sending(Deferred[_T]):
    """What sending gives: a Deferred that can be awaited everywhere.

    A coroutine that Twisted drives awaits it as any Deferred. A task of asyncio, which takes
    nothing but its own futures, awaits a future of it; so ``asyncio.ensure_future`` takes it, too.
    Cancelling the task cancels it.
    """

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for it, in whatever drives the coroutine that asks."""
        if _in_task():
            return self.asFuture(asyncio.get_running_loop()).__await__()
        return super().__await__()

    @classmethod
    def of(cls, deferred: Deferred[_T]) -> Self:
        """Let a Deferred be one. It stays the same object: a second one would cost too much."""
        deferred.__class__ = cls
        return cast(Self, deferred)


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no loop runs here
        return False
