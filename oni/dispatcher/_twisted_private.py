"""What waits for a Deferred: the one place that reads Twisted's private fields.

Twisted offers no public way to ask. Where these fields are missing or mean something else (a later
Twisted), nothing is known, and of the search for cycles only the stall warning remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

__all__ = ["AVAILABLE", "LIST", "has_result", "undecided", "waiters"]

# To a type checker DeferredList is a function.
LIST: type[Any] = cast("type[Any]", defer.DeferredList)

_CONTINUE: Any = getattr(defer, "_CONTINUE", None)
_RESUME: Any = getattr(defer, "_gotResultInlineCallbacks", None)
_FIRES = frozenset({Deferred.callback, Deferred.errback})


def has_result(deferred: Deferred[Any]) -> bool:
    """Say whether a Deferred has a result that a callback added now would be called with."""
    return (
        deferred.called
        and not deferred.paused
        and not getattr(deferred, "_runningCallbacks", True)
        and not isinstance(deferred.result, Failure)
    )


def waiters(deferred: Deferred[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Give what cannot go on before a Deferred has fired.

    Yields:
        A Deferred (chained to it, or of a coroutine that awaits it) or a DeferredList that counts
        it, with no arguments; or another bound method that is called with its result, and its
        further arguments.
    """
    return _waiters(deferred) if AVAILABLE else iter(())


def _waiters(deferred: Deferred[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    callbacks: Any = deferred._callbacks
    for (callback, args, _), _errback in callbacks:
        if callback is _CONTINUE:
            yield args[0], ()
        elif callback is _RESUME:
            yield from _not_fired(args[2].deferred)
        elif type(callback) is MethodType:
            owner = callback.__self__
            if not isinstance(owner, Deferred):
                yield callback, args
            elif callback.__func__ not in _FIRES:
                if isinstance(owner, LIST):
                    yield from _not_fired(owner)
            elif owner._chainedTo is deferred:
                yield from _not_fired(owner)


def _not_fired(waiter: Deferred[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Leave out what has fired without having waited to the end, as by a cancellation."""
    if not waiter.called:
        yield waiter, ()


def undecided(deferreds: Any) -> list[Deferred[Any]] | None:
    """Give the Deferreds that each could still fire a DeferredList alone.

    Returns:
        None if it needs every one of its Deferreds, so that one stuck is enough.
    """
    if not (deferreds.fireOnOneCallback or deferreds.fireOnOneErrback):
        return None
    pairs = zip(deferreds._deferredList, deferreds.resultList, strict=True)
    return [each for each, result in pairs if result is None]


def _is_available() -> bool:
    """Ask for waiters that are known, one of each kind, and see whether they are found."""

    @inlineCallbacks
    def wait() -> Any:
        yield awaited

    awaited: Deferred[Any] = Deferred()
    inner: Deferred[Any] = Deferred()
    outer: Deferred[Any] = Deferred()
    following: Deferred[Any] = Deferred()
    other: Deferred[Any] = Deferred()
    outer.callback(None)
    outer.addCallback(lambda _: inner)
    inner.chainDeferred(following)
    every = LIST([inner, other], fireOnOneErrback=True)
    known = [wait(), outer, following, every]
    try:
        found = [waiter for each in (awaited, inner) for waiter, _ in _waiters(each)]
        return found == known and undecided(every) == [inner, other]
    except (AttributeError, IndexError, TypeError, ValueError):
        return False


AVAILABLE = _is_available()
