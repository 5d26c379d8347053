"""Events whose handlers are called in the thread that fires them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.blocking._reactor_thread import ReactorThread, reactor_thread
from oni.dispatcher import Awaited, EventDispatcher
from oni.errors import HandlerTimeoutError, InvalidTimeoutError
from oni.values import EventResult, is_seconds

__all__ = ["fire_here"]

_log = Logger()

_PATIENCE = 30.0  # seconds
_MARGIN = 1.0  # seconds


def fire_here(
    dispatcher: EventDispatcher,
    event: Any,
    /,
    *,
    timeout: float | None = _PATIENCE,
    _thread: ReactorThread = reactor_thread,
    **details: Any,
) -> EventResult:
    """Fire an event, and call its handlers in this thread, phase by phase.

    For what handles a request in a thread of its own: handlers may use what belongs to that
    thread, its session for example, and what they raise may still undo it. Only what returns a
    Deferred or a coroutine is waited for in the reactor's thread, through crochet; the handlers of
    a concurrent phase are called first, and waited for together. Where nothing of that kind is
    returned, no reactor is needed.

    Any thread but the reactor's may call this, several at once: these events have no order
    between them, and take no turn among those of ``fire_event``. A handler that fires further
    events does so here, too: ``fire_event`` is for one thread. Handlers made by
    :func:`oni.dispatcher.in_thread` are called here like all others. A Deferred must be one that
    fires in the reactor's thread.

    Where a handler has something left to wait for and that cannot be, it has failed, and no other:
    with :class:`oni.errors.ReactorThreadError` in the reactor's thread, with
    :class:`oni.errors.NotRunningError` where no reactor runs, with
    :class:`oni.errors.CallTimeoutError` where the reactor does not come round to it.

    Args:
        dispatcher: The dispatcher; it is started.
        event: The event.
        timeout: Seconds in which the Deferreds and coroutines of one step must have ended, a
            shorter limit of handler or phase aside. None: for ever. What a handler does here,
            before it returns, is not limited.
        details: What it is matched by.

    Returns:
        What became of it, as :meth:`oni.interfaces.IEventDispatcher.fire_event` would tell.

    Raises:
        UnknownKeywordError: The details have a keyword that is not allowed.
        EventAbortedError: A handler failed in a phase that aborts on errors, ``before`` perhaps;
            its cause is what that handler raised. Whoever fired it lets it pass, and what was to
            be done is undone.
        InvalidTimeoutError: ``timeout`` is no positive number of seconds.
    """
    if timeout is not None and not is_seconds(timeout):
        raise InvalidTimeoutError("timeout", timeout)

    def wait(awaited: Sequence[Awaited]) -> Sequence[Any]:
        limits = [_shorter(each.timeout, timeout) for each in awaited]
        # What is late is told by its own end; this is for a reactor that does not come round.
        longest = None if None in limits else max(filter(None, limits)) + _MARGIN
        return list(
            _thread.call("fire_here", longest, partial(_end_all, awaited, timeout, _thread))
        )

    return dispatcher.fire_event_here(event, wait, **details)


def _end_all(
    awaited: Sequence[Awaited], timeout: float | None, thread: ReactorThread
) -> Deferred[Sequence[Any]]:
    """Wait for all of them, in the reactor's thread."""
    ends = [_end_of(each, timeout, thread.reactor) for each in awaited]
    told = DeferredList(ends, consumeErrors=True)
    return told.addCallback(lambda results: [result for _, result in results])


def _end_of(awaited: Awaited, timeout: float | None, reactor: Any) -> Deferred[Any]:
    ended = awaited.begin()
    seconds = _shorter(awaited.timeout, timeout)
    if seconds is not None:

        def too_late(value: Any, seconds: float) -> Failure:
            if isinstance(value, Failure) and not value.check(CancelledError):
                _log.failure(
                    "{handler} failed after it was given up",
                    failure=value,
                    handler=awaited.handler,
                )
            return Failure(HandlerTimeoutError(awaited.handler, awaited.phase, seconds))

        ended.addTimeout(seconds, reactor, too_late)
    return ended


def _shorter(*limits: float | None) -> float | None:
    return min((seconds for seconds in limits if seconds is not None), default=None)
