"""An event whose handlers are called in the caller's thread, which waits for each of them.

The way of a program that handles a request in one thread: several of its threads may fire at the
same time, and no event waits for another. What cannot be called to its end here (a coroutine, a
Deferred) is given to a function that waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher._engine import MAX_NESTING, Engine
from oni.dispatcher._frames import ancestors, current_frame, new_frame
from oni.dispatcher._kinds import settled
from oni.dispatcher._plan import PhasePlan, Plan
from oni.dispatcher._registration import Registration
from oni.dispatcher._spread import in_this_thread
from oni.errors import EventAbortedError, EventNestingError
from oni.values import SKIPPED, EventResult

__all__ = ["Awaited", "Wait", "run_here"]

_log = Logger()


class Awaited(NamedTuple):
    """What a handler has left to wait for.

    Attributes:
        what: A Deferred, or an awaitable that was not begun.
        handler: The handler's name.
        phase: The phase's name.
        timeout: Seconds after which it is cancelled, or None.
    """

    what: Any
    handler: str
    phase: str
    timeout: float | None

    def begin(self) -> Deferred[Any]:
        """Begin what was not begun yet, in the reactor's thread, as the dispatcher would."""
        return maybeDeferred(settled, self.what)


Wait = Callable[[Sequence[Awaited]], Sequence[Any]]
"""Waits for all of these, and gives what each came to: a value or a Failure.

What it raises they have failed with.
"""


def run_here(engine: Engine, event: Any, details: dict[str, Any], wait: Wait) -> EventResult:
    """Call the handlers of all phases, here and now.

    Raises:
        UnknownKeywordError: The details have a keyword that is not allowed.
        EventNestingError: Too many events are inside each other.
        EventAbortedError: A handler failed in a phase that aborts on errors.
    """
    around = list(ancestors(current_frame.get()))
    if len(around) >= MAX_NESTING:
        raise EventNestingError(event, MAX_NESTING)
    with engine.here:
        if engine.index.dead:
            engine.bury()
        plan = engine.index.plan(details)
        engine.fired += 1
    parts: list[Any] = []
    frame = new_frame(engine, event, details, current_frame.get(), parts)
    token = current_frame.set(frame)
    try:
        aborted_in = _call_phases(engine, plan, event, parts, wait)
    finally:
        current_frame.reset(token)
        frame.empty()
    result = EventResult(event, details, parts)
    if aborted_in:
        raise EventAbortedError(aborted_in, result.failures, result)
    return result


def _call_phases(engine: Engine, plan: Plan, event: Any, parts: list[Any], wait: Wait) -> str:
    """Call them; give the name of the phase that has aborted, or nothing."""
    aborted_in = ""
    for part in plan.phases:
        if aborted_in and not part.phase.always:
            continue
        kept: list[Any] = []
        aborts = part.phase.on_error == "abort"
        called = 0
        steps = [range(len(part.ids))]
        if not part.phase.concurrent:
            steps = [range(place, place + 1) for place in range(len(part.ids))]
        parts.append(((part.phase.name, ()), kept))
        for places in steps:
            called = places.stop
            parts[-1] = ((part.phase.name, part.ids[:called]), kept)
            kept += _call(engine, part, places, event, wait)
            failed = [value for value in kept[places.start :] if isinstance(value, Failure)]
            if failed and aborts:
                aborted_in = aborted_in or part.phase.name
                break
    return aborted_in


def _call(engine: Engine, part: PhasePlan, places: range, event: Any, wait: Wait) -> list[Any]:
    """Call some handlers of a phase, then wait for them together."""
    values = [_call_one(engine, part.registrations[place], event) for place in places]
    later = [
        (number, value)
        for number, value in enumerate(values)
        if value is not None and isinstance(value, Deferred | Awaitable)
    ]
    if later:
        registrations = [part.registrations[places[number]] for number, _ in later]
        phase = part.phase
        told = [
            Awaited(value, str(registration), phase.name, registration.timeout or phase.timeout)
            for registration, (_, value) in zip(registrations, later, strict=True)
        ]
        for (number, _), value in zip(later, _outcomes(told, wait), strict=True):
            values[number] = value
    for place, value in zip(places, values, strict=True):
        if isinstance(value, Failure):
            with engine.here:
                engine.counters["handler_failures"] += 1
            if part.phase.on_error != "abort":
                _log.failure(
                    "{handler} failed in phase {phase}",
                    failure=value,
                    handler=part.registrations[place],
                    phase=part.phase.name,
                )
    return values


def _outcomes(told: Sequence[Awaited], wait: Wait) -> Sequence[Any]:
    """Wait for all of these. Where that cannot be, each of them has failed, and nobody else."""
    try:
        return wait(told)
    except Exception:
        failure = Failure()
    for each in told:
        if iscoroutine(each.what) and getcoroutinestate(each.what) == CORO_CREATED:
            each.what.close()
    return [failure] * len(told)


def _call_one(engine: Engine, registration: Registration, event: Any) -> Any:
    """Call a handler; give what it returned, of a coroutine function the coroutine itself."""
    try:
        with engine.here:  # whoever is for a number of calls claims one
            handler = registration.getter()() if registration.buckets else None
            if handler is None:  # removed or dead
                return SKIPPED
            registration.calls += 1
        return in_this_thread(handler)(event)
    except BaseException:
        return Failure()
