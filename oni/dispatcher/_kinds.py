"""What a handler returned: a value, or something to wait for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oni.dispatcher._plan import PLAIN_TYPES, start_coroutine
from oni.dispatcher._twisted_private import has_result
from oni.values import SKIPPED

__all__ = ["settle", "settled"]

_MAX_TYPES = 10_000
_MADE_AT_RUN_TIME = 1 << 9  # CPython's Py_TPFLAGS_HEAPTYPE


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def settled(value: Any) -> Any:
    """Give the value itself, or the Deferred that has to be waited for.

    Coroutines that a plain function returned are started, futures of the asyncio loop are
    adapted. Types that are never waited for are remembered, so that they cost nothing next time,
    if they stay as long as their module does.
    """
    kind = type(value)
    if kind in PLAIN_TYPES or value is SKIPPED or isinstance(value, Deferred | Failure):
        return value
    if "_asyncio" in sys.modules and asyncio.isfuture(value):
        return Deferred.fromFuture(value)
    if isinstance(value, Awaitable):
        try:
            return start_coroutine(value if kind is CoroutineType else _wait_for(value))  # type: ignore[arg-type]
        except BaseException:
            return Failure()
    if len(PLAIN_TYPES) < _MAX_TYPES and _stays(kind):
        PLAIN_TYPES.add(kind)
    return value


def settle(kept: list[Any], start: int = 0) -> bool:
    """Put the results of Deferreds that have fired in their places, from this one on.

    Returns:
        Whether all is done then. If not, nothing is changed: something has to be waited for,
        failed, or must be looked at with care.
    """
    results = []
    for value in kept[start:]:
        if type(value) not in PLAIN_TYPES:
            if type(value) is not Deferred or not has_result(value):
                return False
            value = value.result
        results.append(value)
    kept[start:] = results
    return True


def _stays(kind: type) -> bool:
    """Say whether a class is kept alive by its module anyway: those of functions may go."""
    if not kind.__flags__ & _MADE_AT_RUN_TIME:
        return True
    try:
        found: Any = sys.modules[kind.__module__]
        for name in kind.__qualname__.split("."):
            found = vars(found)[name]
    except (KeyError, TypeError):
        return False
    return found is kind
