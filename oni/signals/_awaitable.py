"""A Deferred that tasks of asyncio can await, too."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Self, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["Sending"]

_T = TypeVar("_T")


class Sending(Deferred[_T]):
    """What sending gives: a Deferred that can be awaited everywhere.

    A coroutine that Twisted drives awaits it as any Deferred, and so does a task of asyncio;
    ``asyncio.ensure_future`` takes it, too. Cancelling the task cancels it.
    """

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for it, in whatever drives the coroutine that asks."""
        if _in_task() and (not self.called or self.paused):
            return self._wait(asyncio.get_running_loop())
        return super().__await__()

    @classmethod
    def of(cls, deferred: Deferred[_T]) -> Self:
        """Let a Deferred be one. It stays the same object: a second one would cost too much."""
        deferred.__class__ = cls
        return cast(Self, deferred)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> Generator[Any, None, _T]:
        both = _Both(self, loop)
        try:
            yield both
        except asyncio.CancelledError:
            self.cancel()
            raise
        if isinstance(both.outcome, Failure):
            both.outcome.raiseException()
        return cast(_T, both.outcome)


class _Both(Deferred[None]):
    """Fires when something else has: a Deferred for Twisted, a future for a task of asyncio.

    While a task takes its turn not everything that runs is driven by it: a coroutine that Twisted
    drives may have been begun there. Which of both asks is seen only by what it asks for.

    Attributes:
        outcome: What was waited for, or its Failure.
    """

    def __init__(self, awaited: Deferred[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(lambda _: awaited.cancel())
        self.outcome: Any = None
        self._future: asyncio.Future[None] = loop.create_future()
        # What a task asks of a future that it is to wait for; it sets the first one to False.
        self._asyncio_future_blocking = True
        self.get_loop = self._future.get_loop
        self.add_done_callback = self._future.add_done_callback
        awaited.addBoth(self._end)

    def cancel(self, message: object = None) -> Any:
        """Be cancelled: by Twisted, or by a task, which wants to know whether that helps."""
        if self._asyncio_future_blocking:
            return super().cancel()
        return self._future.cancel(message)

    def _end(self, outcome: Any) -> Any:
        self.outcome = outcome
        if not self._future.done():
            self._future.set_result(None)
        self.callback(None)
        return None if isinstance(outcome, Failure) else outcome  # who awaits it has the failure


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no loop runs here
        return False
