"""What receivers have left to do that were called in some thread: it goes on in the reactor's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from threading import get_ident
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure

from oni.dispatcher import Awaited
from oni.errors import NotRunningError

__all__ = ["go_on"]

_log = Logger()


def go_on(awaited: Awaited, get_reactor: Callable[[], Any]) -> Any:
    """Let the rest of a receiver happen, and do not wait for it. What fails then is logged.

    Returns:
        What it has come to, if it has come to its end already; else None. A Failure where no
        reactor runs in this process.
    """
    what = awaited.what
    io_thread = cast("int | None", threadable.ioThread)
    if isinstance(what, Deferred) and _has_ended(what):
        return _outcome(what)
    if io_thread not in sys._current_frames():  # it may be a parent's that has forked
        if isinstance(what, Coroutine):
            what.close()  # it never began, and says nothing of it
        kind = type(what).__name__
        reason = f"a receiver has returned a {kind}, which goes on in the reactor's thread"
        return Failure(NotRunningError(f"{reason}: no reactor runs in this process"))
    if io_thread != get_ident():
        get_reactor().callFromThread(copy_context().run, _let, awaited)
        return None
    begun = awaited.begin()
    return _outcome(begun) if _has_ended(begun) else _log_failure(begun, awaited)


def _let(awaited: Awaited) -> None:
    _log_failure(awaited.begin(), awaited)


def _has_ended(deferred: Deferred[Any]) -> bool:
    return bool(deferred.called) and not deferred.paused


def _outcome(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found[0]


def _log_failure(deferred: Deferred[Any], awaited: Awaited) -> None:
    deferred.addErrback(
        lambda failure: _log.failure(
            "{handler} failed in phase {phase}, after it was called",
            failure=failure,
            handler=awaited.handler,
            phase=awaited.phase,
        )
    )
