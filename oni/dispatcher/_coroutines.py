"""Coroutine handlers: started in their turn, and only given to Twisted if they have to wait."""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

__all__ = ["finish_later"]


def finish_later(
    coroutine: Coroutine[Any, Any, Any], awaited: Any, context: Context
) -> Deferred[Any]:
    """Drive a coroutine on that has been started in a context and now awaits something.

    That is a Deferred or, where Twisted runs on asyncio, a future: in the place of a task, which
    it has none of its own.

    Returns:
        A Deferred that fires with the coroutine's result. Cancelling it cancels what the
        coroutine awaits.
    """
    return context.run(_rest, coroutine, awaited)


@inlineCallbacks
def _rest(coroutine: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Deferred[Any], Any, Any]:
    try:
        while True:
            try:
                value = yield _deferred(awaited)
            except GeneratorExit:  # what it awaits is lost, and both are collected
                coroutine.close()
                raise
            except BaseException as error:
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(value)
    except StopIteration as stop:
        value = stop.value
    if isinstance(value, Deferred):
        value = yield value
    return value


def _deferred(awaited: Any) -> Any:
    """Give the Deferred to wait for; what is nothing to wait for here stays as it is."""
    if isinstance(awaited, Deferred) or (loop := _running_loop()) is None:
        return awaited
    if awaited is None:  # a task's way to let others have their turn
        turn: Deferred[None] = Deferred()
        loop.call_soon(turn.callback, None)
        return turn
    if getattr(awaited, "_asyncio_future_blocking", False) and awaited.get_loop() is loop:
        awaited._asyncio_future_blocking = False  # as tasks do: somebody waits for it now
        done: Deferred[None] = Deferred(lambda _: awaited.cancel())
        awaited.add_done_callback(lambda _: None if done.called else done.callback(None))
        return done  # how it ended it says itself, to whoever awaits it
    return awaited


def _running_loop() -> Any:
    """Give the loop of asyncio that runs in this thread, or None."""
    asyncio: Any = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None
