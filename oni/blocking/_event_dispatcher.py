"""A dispatcher whose methods block until their Deferred has fired."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from zope.interface.verify import verifyObject

from oni.blocking._face import Face
from oni.blocking._reactor_thread import ReactorThread, reactor_thread
from oni.dispatcher import registering
from oni.interfaces import IEventDispatcher
from oni.values import EventResult, HandlerInfo, PendingEvent, Phase

__all__ = ["BlockingEventDispatcher"]


class BlockingEventDispatcher(Face):
    """The methods of :class:`oni.interfaces.IEventDispatcher` as plain calls.

    They may be called in any thread but the reactor's, by several threads at once. Each runs
    whole in the reactor's thread, in a copy of the caller's context: handlers are called there,
    and what the caller gets is the Deferred's result, or its exception with its own type. So a
    handler that runs in a pool thread may fire through this face: the event is nested.

    It differs from the dispatcher in one more thing: handlers are held strongly by default.

    Every method raises, beside what the dispatcher's own raises:

    * :class:`oni.errors.CallTimeoutError`: There was no answer in time. The call's Deferred was
      cancelled: a queued event is taken out of its queue, a running one's handlers are cancelled,
      a wait for the next event ends.
    * :class:`oni.errors.ReactorThreadError`: It was called in the reactor's thread.
    * :class:`oni.errors.NotRunningError`: The reactor does not run: :func:`oni.blocking.setup`
      was not called, or the reactor stopped.
    * :class:`oni.errors.ForkedProcessError`: This process was forked from the one in which the
      reactor runs.
    """

    def __init__(
        self,
        dispatcher: IEventDispatcher,
        timeout: float | None = 5.0,
        *,
        thread: ReactorThread = reactor_thread,
    ) -> None:
        """Put a synchronous face on a dispatcher. Nothing runs for it.

        Args:
            dispatcher: The dispatcher. It may have several faces, each with its own time limit.
            timeout: Seconds that each call waits for its answer; None: for ever.
            thread: How to reach the reactor's thread; for tests.

        Raises:
            zope.interface.exceptions.Invalid: ``dispatcher`` is none.
            InvalidTimeoutError: ``timeout`` is not a positive number.
        """
        verifyObject(IEventDispatcher, dispatcher)
        super().__init__(timeout, thread=thread)
        self._dispatcher = dispatcher

    @property
    def dispatcher(self) -> IEventDispatcher:
        """The dispatcher itself, for the reactor's thread."""
        return self._dispatcher

    def __repr__(self) -> str:
        """Show the dispatcher and the time limit."""
        return f"BlockingEventDispatcher({self._dispatcher!r}, timeout={self._timeout!r})"

    def start(self) -> None:
        """Begin to dispatch."""
        self._call("start", self._dispatcher.start)

    def stop(self, timeout: float | None = None) -> None:
        """Return when the dispatcher is quiescent.

        Args:
            timeout: Seconds after which what still runs is cancelled. They are added to the
                face's own time limit.
        """
        patience = self._timeout
        if patience is not None and timeout is not None:
            patience += timeout
        self._thread.call("stop", patience, partial(self._dispatcher.stop, timeout))

    def add_event_handler(
        self,
        listen_fn: Callable[[Any], Any],
        phase: str,
        /,
        use_weakref: bool = False,
        *,
        times: int | None = None,
        timeout: float | None = None,
        **match_spec: Any,
    ) -> int:
        """Register a handler, by default strongly, and return its id.

        It is called in the reactor's thread, where it must not block: wrap one that does in
        ``in_thread``. ``timeout`` is the handler's, not this call's.
        """
        caller = sys._getframe(1)
        with registering(at=(caller.f_code.co_filename, caller.f_lineno)):
            result = self._call(
                "add_event_handler",
                self._dispatcher.add_event_handler,
                listen_fn,
                phase,
                use_weakref,
                times=times,
                timeout=timeout,
                **match_spec,
            )
        return cast(int, result)

    def remove_event_handler(self, handler_id: int) -> None:
        """Remove a handler."""
        self._call("remove_event_handler", self._dispatcher.remove_event_handler, handler_id)

    def fire_event(self, event: Any, /, **details: Any) -> EventResult:
        """Fire an event and return its result when its last phase has ended."""
        result = self._call("fire_event", self._dispatcher.fire_event, event, **details)
        return cast(EventResult, result)

    def next_event(self, phase: str | None = None, /, **match_spec: Any) -> Any:
        """Return the next event that fits."""
        return self._call("next_event", self._dispatcher.next_event, phase, **match_spec)

    def add_match_spec_keyword(self, keyword: str) -> None:
        """Allow one more keyword in match specs and details."""
        self._call("add_match_spec_keyword", self._dispatcher.add_match_spec_keyword, keyword)

    def remove_match_spec_keyword(self, keyword: str) -> None:
        """Allow a keyword no more."""
        self._call(
            "remove_match_spec_keyword", self._dispatcher.remove_match_spec_keyword, keyword
        )

    def add_phase(
        self, phase: str | Phase, before: str | None = None, after: str | None = None
    ) -> None:
        """Add a phase at the end, or before or after a named one."""
        self._call("add_phase", self._dispatcher.add_phase, phase, before, after)

    def remove_phase(self, name: str) -> None:
        """Remove a phase."""
        self._call("remove_phase", self._dispatcher.remove_phase, name)

    def handlers(self, limit: int | None = None) -> Sequence[HandlerInfo]:
        """Return every registered handler, or so many of them, in registration order."""
        found = self._call("handlers", self._dispatcher.handlers, limit)
        return cast("Sequence[HandlerInfo]", found)

    def matching(self, /, **details: Any) -> Sequence[HandlerInfo]:
        """Return the handlers that an event with these details would call, in call order."""
        found = self._call("matching", self._dispatcher.matching, **details)
        return cast("Sequence[HandlerInfo]", found)

    def pending(self) -> Sequence[PendingEvent]:
        """Return the events that have not ended, oldest first."""
        return cast("Sequence[PendingEvent]", self._call("pending", self._dispatcher.pending))

    def statistics(self) -> Mapping[str, int]:
        """Return counters and gauges by name."""
        return cast("Mapping[str, int]", self._call("statistics", self._dispatcher.statistics))
