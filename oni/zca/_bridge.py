"""What ``zope.event.notify`` announces, fired at a dispatcher."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from importlib import import_module
from threading import get_ident
from typing import Any, cast

import zope.event
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure
from zope.interface.registry import Components
from zope.interface.verify import verifyObject

from oni.errors import EventAbortedError, QueueFullError
from oni.interfaces import IEventDispatcher

__all__ = ["Bridge", "bridge"]

_log = Logger()

Details = Callable[[Any], Mapping[str, Any] | None]


def _no_details(_obj: object) -> Mapping[str, Any]:
    return {}


def bridge(
    dispatcher: IEventDispatcher,
    details: Details = _no_details,
    registry: Components | None = None,
    *,
    max_handed_over: int | None = 10_000,
    reactor: IReactorFromThreads | None = None,
) -> Bridge:
    """Fire at a dispatcher every object that ``zope.event.notify`` announces, from now on.

    ``notify`` does not wait, and gets no error: what goes wrong is logged. In the reactor's
    thread the event is fired before ``notify`` returns; in any other thread the event is handed
    over with ``callFromThread``, in the context of the call, and events of one thread keep their
    order. While no reactor has run in the process, there is no such thread, and events are fired
    where they are announced.

    Args:
        dispatcher: The dispatcher.
        details: Gives the details of an object, or None for an object that is not to be fired.
            It is called in the thread of ``notify``. Without it, events have no details.
        registry: Listen to the events of this component registry (``registry.handle``, and
            ``notify`` where it is the current site's) rather than to ``zope.event`` itself.
        max_handed_over: How many objects that other threads announce may wait for the reactor's
            thread; a few more get in where several threads announce at the same moment. What
            does not fit is not fired: it is counted as ``refused``, and an error is logged, once
            until there is room again. None: any number.
        reactor: The global one if None.

    Returns:
        The bridge. It is held by ``zope.event`` or the registry until it is closed.

    Raises:
        zope.interface.exceptions.Invalid: ``dispatcher`` is none.
        ValueError: ``max_handed_over`` is neither a positive integer nor None.
    """
    verifyObject(IEventDispatcher, dispatcher)
    if max_handed_over is not None and (type(max_handed_over) is not int or max_handed_over < 1):
        raise ValueError(
            f"max_handed_over must be a positive integer or None, not {max_handed_over!r}"
        )
    return Bridge(dispatcher, details, registry, max_handed_over, reactor)


class Bridge:
    """Fires what is announced, until it is closed. Made by :func:`bridge`.

    :meth:`idle`, :meth:`close` and :meth:`statistics` belong to the reactor's thread.
    """

    def __init__(
        self,
        dispatcher: IEventDispatcher,
        details: Details,
        registry: Components | None,
        max_handed_over: int | None,
        reactor: IReactorFromThreads | None,
    ) -> None:
        """Begin to listen; see :func:`bridge`."""
        self._dispatcher = dispatcher
        self._details = details
        self._registry = registry
        self._max_handed_over = max_handed_over
        self._reactor = reactor
        # What other threads handed over.
        self._handed_over: deque[tuple[Context, Any, Mapping[str, Any]]] = deque()
        self._running = 0
        self._fired = 0
        self._failed = 0
        self._refused = 0
        self._is_refusing = False
        self._waiting: list[Deferred[None]] = []
        self._hearing = 0
        self._open = True
        self._listen()

    def idle(self) -> Deferred[None]:
        """Wait until nothing runs any more of what this bridge fired or was handed over.

        A handler of such an event must not wait for it: it would wait for itself.

        Returns:
            A Deferred that fires with None. Cancelling it ends the wait, not the events.
        """
        if self._is_idle():
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def close(self) -> None:
        """Listen no more. What was announced before goes on. The second time nothing happens."""
        if self._open:
            self._open = False
            if self._hearing:
                # notify is walking the list of subscribers, and would leave one out.
                self._get_reactor().callFromThread(self._listen_no_more)
            else:
                self._listen_no_more()

    def statistics(self) -> Mapping[str, int]:
        """Give counters and gauges by name."""
        return {
            "fired": self._fired,
            "failed": self._failed,
            "running": self._running,
            "handed_over": len(self._handed_over),
            "refused": self._refused,
        }

    # Where it listens.

    def _listen(self) -> None:
        if self._registry is None:
            zope.event.subscribers.append(self._heard)
        else:
            import_module("zope.component.event")  # from then on, notify reaches registries
            self._registry.registerHandler(self._heard, (None,), event=False)

    def _listen_no_more(self) -> None:
        if self._registry is None:
            zope.event.subscribers.remove(self._heard)
        else:
            self._registry.unregisterHandler(self._heard, (None,))

    # In any thread.

    def _heard(self, obj: Any) -> None:
        """Take what was announced."""
        if self._open:
            self._hearing += 1
            try:
                self._hear(obj)
            finally:
                self._hearing -= 1

    def _hear(self, obj: Any) -> None:
        try:
            details = self._details(obj)
            if details is None:
                return
            details = dict(details)
        except Exception:  # noqa: BLE001 - notify's caller is not to blame
            _log.failure("no details for an announced {kind}", kind=type(obj).__qualname__)
            return
        if cast("int | None", threadable.ioThread) in (None, get_ident()):
            self._fire(obj, details)
        else:
            self._hand_over(obj, details)

    def _hand_over(self, obj: Any, details: Mapping[str, Any]) -> None:
        limit = self._max_handed_over
        if limit is not None and len(self._handed_over) >= limit:
            self._refuse(obj, limit)
            return
        self._is_refusing = False
        self._handed_over.append((copy_context(), obj, details))
        self._get_reactor().callFromThread(self._take)

    def _refuse(self, obj: Any, limit: int) -> None:
        """Count what does not fit; say so the first time."""
        self._refused += 1
        if not self._is_refusing:
            self._is_refusing = True
            _log.failure(
                "an announced {kind} was not fired, nor will others be until there is room",
                Failure(QueueFullError("objects announced in other threads", limit)),
                kind=type(obj).__qualname__,
            )

    def _get_reactor(self) -> IReactorFromThreads:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = cast(IReactorFromThreads, reactor)
        return self._reactor

    # In the reactor's thread.

    def _take(self) -> None:
        """Fire the oldest event that was handed over."""
        context, obj, details = self._handed_over.popleft()
        context.run(self._fire, obj, details)

    def _fire(self, obj: Any, details: Mapping[str, Any]) -> None:
        self._running += 1
        self._fired += 1
        try:
            fired = self._dispatcher.fire_event(obj, **details)
        except Exception:  # noqa: BLE001 - notify's caller is not to blame
            self._log_failure(Failure(), obj)
            self._ended(None)
        else:
            fired.addErrback(self._log_failure, obj)
            fired.addBoth(self._ended)

    def _log_failure(self, failure: Failure, obj: Any) -> None:
        self._failed += 1
        error = failure.value
        for each in error.failures if isinstance(error, EventAbortedError) else (failure,):
            _log.failure(
                "an announced {kind} could not be fired, or was aborted",
                failure=each,
                kind=type(obj).__qualname__,
            )

    def _ended(self, _result: object) -> None:
        self._running -= 1
        if self._is_idle():
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)

    def _is_idle(self) -> bool:
        return not self._running and not self._handed_over
