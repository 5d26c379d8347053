"""Coroutine handlers: started in their turn, and only given to Twisted if they have to wait."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

__all__ = ["finish_later"]


def finish_later(
    coroutine: Coroutine[Any, Any, Any], awaited: Any, context: Context
) -> Deferred[Any]:
    """Drive a coroutine on that has been started in a context and now awaits something.

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
                value = yield awaited
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
