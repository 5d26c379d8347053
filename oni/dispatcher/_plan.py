"""Handlers compiled into flat lists, and the loops that call them: the hot path.

Its benchmark is ``benchmarks/dispatch.py``. The loops here look different from the rest: they test
results only by ``is not None``, hold no lock, make no object for a handler that returns None, and
have no test whether a handler is still registered. A removal overwrites its place instead.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextvars import copy_context
from operator import itemgetter
from types import CoroutineType
from typing import Any

from twisted.python.failure import Failure

from oni.dispatcher._coroutines import finish_later
from oni.dispatcher._registration import COROUTINE, METHOD, REMOVED, STRONG, WEAK, Registration
from oni.values import SKIPPED, Phase

__all__ = ["NO_PLAN", "PhasePlan", "Plan", "call_all", "call_one", "compile_plan", "only_plain", "start_coroutine", "PLAIN_TYPES"]

Kept = list[tuple[int, Any]]


class PhasePlan:
    """The handlers of one phase, in call order.

    A segment is (kind, place of its first handler, list of slots): neighbours of one kind.
    """

    __slots__ = ("ids", "name", "phase", "registrations", "segments")

    def __init__(self, phase: Phase, registrations: Sequence[Registration]) -> None:
        self.phase = phase
        self.name = phase.name
        self.registrations = tuple(registrations)
        self.ids = tuple(r.handler_id for r in registrations)
        self.segments: list[tuple[int, int, list[Any]]] = []
        last = None
        for place, registration in enumerate(registrations):
            if registration.kind != last:
                last = registration.kind
                self.segments.append((last, place, []))
            self.segments[-1][2].append(registration.slot)

    def overwrite(self, handler_id: int) -> None:
        """Let running and later loops pass over a handler."""
        place = bisect_left(self.ids, handler_id)
        if place < len(self.ids) and self.ids[place] == handler_id:
            for kind, start, slots in self.segments:
                if start <= place < start + len(slots):
                    slots[place - start] = REMOVED[kind]


class Plan:
    """All that an event calls: the phases that have handlers for it, in order.

    Attributes:
        phases: Those phases.
        simple: Whether no phase has an order, a time limit or an end of its own to watch over.
        runs: How many events ran it since the calls were last counted.
    """

    __slots__ = ("__weakref__", "phases", "runs", "simple")

    def __init__(self, phases: Sequence[PhasePlan], simple: bool) -> None:
        self.phases = tuple(phases)
        self.simple = simple
        self.runs = 0

    def overwrite(self, registration: Registration) -> None:
        """Let running and later loops pass over a removed handler."""
        for part in self.phases:
            if part.name == registration.phase:
                part.overwrite(registration.handler_id)

    def count_calls(self) -> None:
        """Add what was called since the last count to the handlers' own counters."""
        runs, self.runs = self.runs, 0
        if runs:
            for part in self.phases:
                for registration in part.registrations:
                    registration.calls += runs


NO_PLAN = Plan((), simple=True)


def compile_plan(registrations: Iterable[Registration], phases: Iterable[Phase]) -> Plan:
    """Lay registrations, given in registration order, out by phase."""
    by_phase: dict[str, list[Registration]] = {}
    for registration in registrations:
        by_phase.setdefault(registration.phase, []).append(registration)
    parts = [PhasePlan(p, by_phase[p.name]) for p in phases if p.name in by_phase]
    simple = all(
        p.phase.concurrent
        and p.phase.on_error == "continue"
        and p.phase.timeout is None
        and p.phase.holds_turn
        for p in parts
    )
    return Plan(parts, simple)


def call_all(part: PhasePlan, event: Any) -> Kept:
    """Call every handler of a phase and give what is not None, with its place.

    A handler that raised has a Failure; a coroutine that has to wait has a Deferred; a handler
    that was removed or died meanwhile has ``SKIPPED``.
    """
    kept: Kept = []
    keep = kept.append
    for kind, start, slots in part.segments:
        # The place is only worked out where it is wanted: from what the iterator has left.
        last = start + len(slots) - 1
        rest = iter(slots)
        left = rest.__length_hint__
        if kind == WEAK:
            for give in rest:
                try:
                    handler = give()
                    if handler is None:
                        keep((last - left(), SKIPPED))
                    else:
                        value = handler(event)
                        if value is not None:
                            keep((last - left(), value))
                except BaseException:
                    keep((last - left(), Failure()))
            handler = None
        elif kind == STRONG:
            for handler in rest:
                try:
                    value = handler(event)
                    if value is not None:
                        keep((last - left(), value))
                except BaseException:
                    keep((last - left(), Failure()))
        elif kind == METHOD:
            for ref, function in rest:
                try:
                    instance = ref()
                    if instance is None:
                        keep((last - left(), SKIPPED))
                    else:
                        value = function(instance, event)
                        if value is not None:
                            keep((last - left(), value))
                except BaseException:
                    keep((last - left(), Failure()))
            instance = None
        else:
            for give in rest:
                value = _call_coroutine(give, event)
                if value is not None:
                    keep((last - left(), value))
    return kept


def call_one(part: PhasePlan, place: int, event: Any) -> Any:
    """Call one handler of a phase; give what :func:`call_all` would have kept, or None."""
    for kind, start, slots in part.segments:
        if place - start < len(slots):
            slot = slots[place - start]
            break
    if kind == COROUTINE:
        return _call_coroutine(slot, event)
    try:
        if kind == STRONG:
            return slot(event)
        if kind == METHOD:
            instance = slot[0]()
            return SKIPPED if instance is None else slot[1](instance, event)
        handler = slot()
        return SKIPPED if handler is None else handler(event)
    except BaseException:
        return Failure()


def _call_coroutine(give: Any, event: Any) -> Any:
    try:
        handler = give()
        if handler is None:
            return SKIPPED
        coroutine = handler(event)
        if type(coroutine) is not CoroutineType:
            return coroutine
        return start_coroutine(coroutine)
    except BaseException:
        return Failure()


def start_coroutine(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """Run a coroutine in a copy of this context as far as it goes.

    Returns:
        What it returned, or a Deferred if it has to wait.

    Raises:
        BaseException: What it raised.
    """
    context = copy_context()
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration as stop:
        return stop.value
    return finish_later(coroutine, awaited, context)


_value_of = itemgetter(1)
PLAIN_TYPES: set[type] = {bool, int, float, str, bytes, tuple, list, dict, set, frozenset, type(SKIPPED)}


def only_plain(kept: Kept) -> bool:
    """Say whether all that was kept are plain values: nothing to wait for, nothing failed."""
    return PLAIN_TYPES.issuperset(map(type, map(_value_of, kept)))
