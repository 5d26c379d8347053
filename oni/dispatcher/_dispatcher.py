"""The event dispatcher: registration, firing, life cycle and introspection."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oni.dispatcher._clock import Clock
from oni.dispatcher._engine import Engine
from oni.dispatcher._firing import Firing
from oni.dispatcher._frames import ancestors, current_frame
from oni.dispatcher._here import Wait, run_here
from oni.dispatcher._index import HandlerIndex
from oni.dispatcher._keywords import check_keyword, checked_keywords
from oni.dispatcher._phases import Phases
from oni.dispatcher._registering import registering_here
from oni.dispatcher._registration import Registration
from oni.dispatcher._turns import Turns
from oni.errors import (
    DispatcherStateError,
    InvalidTimeoutError,
    InvalidTimesError,
    KeywordInUseError,
    PhaseInUseError,
    UnknownHandlerError,
)
from oni.interfaces import IEventDispatcher
from oni.values import EventResult, HandlerInfo, PendingEvent, Phase, is_seconds

__all__ = ["EventDispatcher"]


@implementer(IEventDispatcher)
class EventDispatcher(Firing):
    """Calls the handlers whose match spec fits a fired event, phase by phase.

    It may be made, and handlers added, before any reactor runs. See
    :class:`oni.interfaces.IEventDispatcher` for the contract of each method.

    Args:
        allowed_match_spec_keywords: The keywords that match specs and details may have.
        phases: The phases, in order: names or :class:`oni.values.Phase`.
        order_by: ``()``: one top-level event at a time, first in first out. None: all at once.
            Keywords: events with equal details in these one at a time, others at once.
        max_pending: How many events may wait for their turn, and how many may go on after they
            gave it away (``Phase.holds_turn``). None: any number.
        max_pending_per_key: How many may wait behind one event. None: any number.
        max_wait: Seconds after which a queued event is given up. None: never.
        stall_warning: Seconds after which the log names what holds up an event or a stop.
            None: never.
        reactor: An ``IReactorTime`` for time limits; the global one when first needed.

    Raises:
        InvalidKeywordError: A keyword is an argument's name, or no identifier.
        InvalidPhaseError: A phase is none, or there is none at all.
        DuplicatePhaseError: Two phases have one name.
        UnknownKeywordError: ``order_by`` names a keyword that is not allowed.
        InvalidTimeoutError: A number of seconds is not positive.
        ValueError: A bound is not a positive integer.
    """

    def __init__(
        self,
        allowed_match_spec_keywords: Iterable[str] = (),
        phases: Iterable[str | Phase] = ("before", "during", "after"),
        order_by: Sequence[str] | None = (),
        max_pending: int | None = 10_000,
        max_pending_per_key: int | None = None,
        max_wait: float | None = None,
        stall_warning: float | None = 5.0,
        reactor: IReactorTime | None = None,
    ) -> None:
        _check_seconds(max_wait=max_wait, stall_warning=stall_warning)
        _check_bounds(max_pending=max_pending, max_pending_per_key=max_pending_per_key)
        self._phases = Phases(phases)
        keywords = checked_keywords(allowed_match_spec_keywords)
        self._index = HandlerIndex(keywords, self._phases)
        order = None if order_by is None else checked_keywords(order_by)
        self._index.check(order or ())
        self._engine = Engine(
            self._index,
            Turns(order, max_pending, max_pending_per_key),
            Clock(reactor),
            max_trailing=max_pending,
            max_wait=max_wait,
            stall_warning=stall_warning,
        )
        self._ids = itertools.count(1)

    # --- Handlers -----------------------------------------------------------------------------

    def add_event_handler(
        self,
        listen_fn: Callable[[Any], Any],
        phase: str,
        /,
        use_weakref: bool = True,
        *,
        times: int | None = None,
        timeout: float | None = None,
        **match_spec: Any,
    ) -> Deferred[int]:
        """Register a handler; see the interface."""
        handler_id = self._register(
            listen_fn, phase, match_spec, use_weakref, times, timeout, sys._getframe(1)
        )
        return succeed(handler_id)

    def _register(
        self,
        handler: Callable[[Any], Any],
        phase: str,
        match_spec: dict[str, Any],
        weak: bool,
        times: int | None,
        timeout: float | None,
        caller: FrameType,
    ) -> int:
        engine = self._engine
        engine.check_thread()
        if match_spec:
            self._index.check(match_spec)
        phase = self._phases[phase].name
        if times is not None and (type(times) is not int or times < 1):
            raise InvalidTimesError(times)
        if timeout is not None:
            _check_seconds(timeout=timeout)
        place = (caller.f_code.co_filename, caller.f_lineno)
        said = registering_here()
        if said is not None:
            weak = weak and not said.strongly
            place = said.at or place
        registration = Registration(
            next(self._ids),
            handler,
            phase,
            match_spec,
            weak,
            times,
            timeout,
            place,
            self._index.dead,
        )
        if times is not None:
            registration.claim_before_call(self._index.remove)
        with engine.here:
            self._index.add(registration)
        return registration.handler_id

    def remove_event_handler(self, handler_id: int) -> Deferred[None]:
        """Remove a handler; see the interface."""
        self._engine.check_thread()
        try:
            registration = self._index.by_id[handler_id]
        except (KeyError, TypeError):
            return fail(UnknownHandlerError(handler_id))
        waiter = self._engine.awaiting.get(registration.handler_id)
        if waiter is not None:
            waiter.cancel()
        with self._engine.here:
            self._index.remove(registration)
        return succeed(None)

    def has_event_handler(self, handler_id: int) -> bool:
        """Say whether a handler is registered: not removed, used up or found dead."""
        self._engine.check_thread()
        return handler_id in self._index.by_id

    @property
    def has_event_handlers(self) -> bool:
        """Whether any handler is registered. Any thread may ask; one that has died may count."""
        return bool(self._index.by_id)

    def next_event(self, phase: str | None = None, /, **match_spec: Any) -> Deferred[Any]:
        """Wait for the next event that fits; see the interface."""
        deferred: Deferred[Any] = Deferred(lambda _: self._forget_waiter(handler_id))

        def heard(event: Any) -> None:
            self._engine.awaiting.pop(handler_id, None)
            deferred.callback(event)

        first = next(iter(self._phases)) if phase is None else phase
        handler_id = self._register(heard, first, match_spec, False, 1, None, sys._getframe(1))
        self._engine.awaiting[handler_id] = deferred
        return deferred

    def _forget_waiter(self, handler_id: int) -> None:
        self._engine.awaiting.pop(handler_id, None)
        registration = self._index.by_id.get(handler_id)
        if registration is not None:
            self._index.remove(registration)

    # --- Events -------------------------------------------------------------------------------

    def fire_event_here(self, event: Any, wait: Wait, /, **details: Any) -> EventResult:
        """Call the handlers in this thread, and wait for them; see :func:`oni.blocking.fire_here`.

        Several threads may do this at the same time. Such events have no order between each
        other, nor to those of :meth:`fire_event`, and are not among :meth:`pending` ones. Handlers
        may be added and removed meanwhile, in any of these threads.

        Args:
            event: The event.
            wait: Is given what handlers have left to wait for, and gives what came of each. It
                must keep to their time limits.
            details: What it is matched by.

        Returns:
            What became of it.

        Raises:
            UnknownKeywordError: The details have a keyword that is not allowed.
            EventNestingError: Too many events are inside each other.
            EventAbortedError: A handler failed in a phase that aborts on errors.
        """
        if self._engine.state != "started":
            return self._engine.refuse(event, details)
        return run_here(self._engine, event, details, wait)

    @contextmanager
    def inside(self, event: Any) -> Iterator[None]:
        """Mark what is fired in a ``with`` block as nested in an event that still runs.

        For plain callbacks, which do not know which event they belong to.

        Raises:
            LookupError: The event does not run.
        """
        frame = next((f for f in self._engine.frames() if f.event is event), None)
        if frame is None:
            raise LookupError(f"no running event is {event!r}")
        token = current_frame.set(frame)
        try:
            yield
        finally:
            current_frame.reset(token)

    def result_so_far(self) -> EventResult:
        """Give what the handlers of the event that is being handled here have done until now.

        Raises:
            LookupError: No event of this dispatcher is being handled in this context.
        """
        for frame in ancestors(current_frame.get()):
            if frame.engine is self._engine:
                parts = [(head, list(kept)) for head, kept in frame.parts]
                return EventResult(frame.event, frame.details, parts)
        raise LookupError("no event of this dispatcher is being handled here")

    # --- Life cycle ---------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``"new"``, ``"started"``, ``"stopping"`` or ``"stopped"``."""
        return self._engine.state

    def start(self) -> None:
        """Take events from now on. Allowed again after a stop.

        Raises:
            DispatcherStateError: It is stopping just now.
        """
        self._engine.check_thread()
        if self._engine.state == "stopping":
            raise DispatcherStateError("stopping", "wait for the Deferred of stop, then start")
        self._engine.set_state("started")

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Take no new events, and wait for those that run or are queued.

        Called from inside a handler, it waits for all but the events that it is called from.
        These give their turn away, for what is queued behind them has to end first.

        Args:
            timeout: Seconds after which what still runs is cancelled. None: wait for it.

        Returns:
            A Deferred that fires with None when nothing runs any more, or, after the timeout,
            fails with :class:`oni.errors.StopTimeoutError`, which names what hung.
        """
        self._engine.check_thread()
        _check_seconds(timeout=timeout)
        return self._engine.stop(timeout)

    # --- Keywords and phases ------------------------------------------------------------------

    def add_match_spec_keyword(self, keyword: str) -> None:
        """Allow one more keyword."""
        self._engine.check_thread()
        self._index.allow_keyword(check_keyword(keyword))

    def remove_match_spec_keyword(self, keyword: str) -> None:
        """Allow a keyword no more; see the interface."""
        self._engine.check_thread()
        self._index.check((keyword,))
        users = [r for r in self._index.by_id.values() if keyword in r.spec]
        if users:
            raise KeywordInUseError(keyword, _names(users), [r.handler_id for r in users])
        if keyword in (self._engine.turns.order_by or ()):
            raise KeywordInUseError(keyword, "order_by")
        self._index.forget_keyword(keyword)

    def add_phase(
        self, phase: str | Phase, before: str | None = None, after: str | None = None
    ) -> None:
        """Add a phase; see the interface."""
        self._engine.check_thread()
        self._phases.add(phase, before, after)

    def remove_phase(self, name: str) -> None:
        """Remove a phase; see the interface."""
        self._engine.check_thread()
        users = [r for r in self._index.by_id.values() if r.phase == self._phases[name].name]
        if users:
            raise PhaseInUseError(name, _names(users), [r.handler_id for r in users])
        self._phases.remove(name)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases, in order."""
        return tuple(self._phases.values())

    @property
    def allowed_match_spec_keywords(self) -> tuple[str, ...]:
        """The keywords that match specs and details may have."""
        return self._index.keywords

    # --- Introspection ------------------------------------------------------------------------

    def handlers(self, limit: int | None = None) -> Sequence[HandlerInfo]:
        """Give every registered handler, or so many of them, in registration order."""
        self._engine.check_thread()
        registrations = itertools.islice(self._index.by_id.values(), limit)
        return [self._info(registration) for registration in registrations]

    def matching(self, /, **details: Any) -> Sequence[HandlerInfo]:
        """Give the handlers that an event with these details would call, in call order."""
        self._engine.check_thread()
        return [self._info(registration) for registration in self._index.matching(details)]

    def _info(self, registration: Registration) -> HandlerInfo:
        self._index.count_calls(registration)
        return registration.info()

    def pending(self) -> Sequence[PendingEvent]:
        """Give the events that have not ended, oldest first."""
        return self._engine.pending()

    def statistics(self) -> Mapping[str, int]:
        """Give counters and gauges by name.

        Counters: ``events_fired``, ``events_refused``, ``event_cycles``, ``handler_failures``,
        ``handlers_died``. Gauges: ``handlers``, ``events_running``, ``events_queued``.
        """
        return self._engine.statistics()


def _names(registrations: Iterable[Registration]) -> str:
    return ", ".join(f"handler {r.handler_id}: {r}" for r in registrations)


def _check_seconds(**limits: float | None) -> None:
    for name, value in limits.items():
        if value is not None and not is_seconds(value):
            raise InvalidTimeoutError(name, value)


def _check_bounds(**bounds: int | None) -> None:
    for name, value in bounds.items():
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a positive integer or None, not {value!r}")
