"""Deferreds that may be forgotten without ending what is behind them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import NotRunningError

__all__ = ["seen", "shielded"]

_log = Logger()

_T = TypeVar("_T")


def shielded(
    coroutine: Coroutine[Any, Any, _T], cancelled: Callable[[], object] | None = None
) -> Deferred[_T]:
    """Run a coroutine to its end, whatever becomes of the Deferred that tells of it.

    A claim that nobody takes is nobody's until its lease is over, so that whoever claims must not
    be cancelled.

    Args:
        coroutine: What is run.
        cancelled: Is called when nobody waits for it any more.
    """
    late = "What nobody waits for any more failed"
    return seen(Deferred.fromCoroutine(coroutine), late, cancelled)


def seen(
    deferred: Deferred[_T], late: str = "", cancelled: Callable[[], object] | None = None
) -> Deferred[_T]:
    """Give a Deferred that fires as another one does, and can be cancelled alone.

    The other one goes on with None.

    Args:
        deferred: The other one.
        late: What to log when it fails after nobody waits for it any more; ``""``: nothing. That
            it came to a stop meanwhile is no failure.
        cancelled: Is called when nobody waits for it any more.
    """

    def cancel(told: Deferred[_T]) -> None:
        if cancelled is not None:
            cancelled()

    told: Deferred[_T] = Deferred(cancel)

    def tell(result: Any) -> None:
        if not told.called:
            told.callback(result)  # a Failure is an errback
        elif late and isinstance(result, Failure) and not result.check(NotRunningError):
            _log.failure(late, failure=result)

    deferred.addBoth(tell)
    return told
