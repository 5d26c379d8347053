"""Handlers compiled into flat lists, and the loops that call them: the hot path.

Its benchmark is ``benchmarks/dispatch.py``. The loops here look different from the rest: they test
results only by ``is not None``, hold no lock, make no object for a handler that returns None, and
have no test whether a handler is still registered. A removal overwrites its place instead.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from types import CoroutineType
from typing import Any
from weakref import ref

from twisted.python.failure import Failure

from oni.dispatcher._coroutines import finish_later
from oni.dispatcher._registration import (
    COROUTINE,
    METHOD,
    REMOVED,
    STRONG,
    WEAK,
    Registration,
)
from oni.values import SKIPPED, Phase

__all__ = [
    "NO_PLAN",
    "PLAIN_TYPES",
    "Kept",
    "PhasePlan",
    "Plan",
    "compile_plan",
    "only_plain",
    "start_coroutine",
]

Kept = list[Any] | tuple[()]


class PhasePlan:
    """The handlers of one phase, in call order.

    Attributes:
        head: The phase's name, and the handlers' ids.
        silent: What the event's result says of the phase where all returned None.
        loop, slots: ``loop(slots, event)`` calls them all and gives what they returned, or
            nothing where all returned None. A Failure stands for a handler that raised, a
            Deferred for a coroutine that has to wait, ``SKIPPED`` for a handler that was removed
            or died meanwhile.
    """

    __slots__ = ("_segments", "head", "ids", "loop", "phase", "registrations", "silent", "slots")

    def __init__(self, phase: Phase, registrations: Sequence[Registration]) -> None:
        self.phase = phase
        self.registrations = tuple(registrations)
        self.ids = tuple(r.handler_id for r in registrations)
        self.head = (phase.name, self.ids)
        self.silent = ((self.head, ()),)
        # Neighbours of one kind: (kind, place of the first, what is called).
        self._segments: list[tuple[int, int, list[Any]]] = []
        kind = None
        for place, registration in enumerate(registrations):
            if registration.kind != kind:
                kind = registration.kind
                self._segments.append((kind, place, []))
            self._segments[-1][2].append(registration.slot)
        self.slots: list[Any]
        if len(self._segments) == 1:
            self.loop, self.slots = _LOOPS[registrations[0].kind], self._segments[0][2]
        else:
            self.loop, self.slots = _call_segments, self._segments

    def _find(self, place: int) -> tuple[int, list[Any], int]:
        """Give a place's kind, the list that holds it, and where it is in that list."""
        starts = [start for _, start, _ in self._segments]
        kind, start, slots = self._segments[bisect_right(starts, place) - 1]
        return kind, slots, place - start

    def overwrite(self, handler_id: int) -> None:
        """Let running and later loops pass over a handler."""
        place = bisect_left(self.ids, handler_id)
        if place < len(self.ids) and self.ids[place] == handler_id:
            kind, slots, offset = self._find(place)
            slots[offset] = REMOVED[kind]

    def call_one(self, place: int, event: Any) -> Any:
        """Call one handler; give what the loop would have kept of it, or None."""
        if self.loop is _call_segments:
            kind, slots, offset = self._find(place)
            kept = _LOOPS[kind](slots[offset : offset + 1], event)
        else:
            kept = self.loop(self.slots[place : place + 1], event)
        return kept[0] if kept else None


class Plan:
    """All that an event calls: the phases that have handlers for it, in order.

    Attributes:
        phases: Those phases.
        loop, slots, silent: Those of the phase, if it is one alone and simple; else None. They are
            here too, for among very many handlers each object looked at is a wait for memory.
        is_short: Whether no phase has a time limit.
        simple: Whether no phase has an order, a time limit or an end of its own to watch over.
        runs: How many events ran it since the calls were last counted.
    """

    __slots__ = ("__weakref__", "is_short", "loop", "phases", "runs", "silent", "simple", "slots")

    def __init__(self, phases: Sequence[PhasePlan], simple: bool) -> None:
        self.phases = tuple(phases)
        self.simple = simple
        self.is_short = all(part.phase.timeout is None for part in phases)
        only = self.phases[0] if simple and len(self.phases) == 1 else None
        self.loop: Any = only and only.loop
        self.slots: Any = only and only.slots
        self.silent: Any = only and only.silent
        self.runs = 0

    def overwrite(self, registration: Registration) -> None:
        """Let running and later loops pass over a removed handler."""
        for part in self.phases:
            if part.phase.name == registration.phase:
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


# The loops: as long as handlers return None, as most do, nothing is kept. From the first other
# result on, all are. The `try` stands around the `for`, which goes on with the same iterator: that
# is faster than one inside it.


def _call_weak(slots: list[Any], event: Any) -> Kept:
    rest: Any = iter(slots)
    try:
        for give in rest:
            value = give()(event)
            if value is not None:
                break
        else:
            return ()
    except BaseException as error:
        value = _failed(give, error)
    kept: list[Any] = [None] * (len(slots) - 1 - rest.__length_hint__())
    kept.append(value)
    while True:
        try:
            for give in rest:
                kept.append(give()(event))
            return kept
        except BaseException as error:
            kept.append(_failed(give, error))


def _failed(give: Callable[[], Any], error: BaseException) -> Any:
    """Give the failure, or SKIPPED if there was nobody to call: the handler had died."""
    traceback = error.__traceback__
    in_our_frame = traceback is not None and traceback.tb_next is None
    return SKIPPED if in_our_frame and type(give) is ref and give() is None else Failure()


def _call_strong(slots: list[Any], event: Any) -> Kept:
    rest: Any = iter(slots)
    try:
        for handler in rest:
            value = handler(event)
            if value is not None:
                break
        else:
            return ()
    except BaseException:
        value = Failure()
    kept: list[Any] = [None] * (len(slots) - 1 - rest.__length_hint__())
    kept.append(value)
    while True:
        try:
            for handler in rest:
                kept.append(handler(event))
            return kept
        except BaseException:
            kept.append(Failure())


def _call_methods(slots: list[Any], event: Any) -> Kept:
    rest: Any = iter(slots)
    try:
        for give_instance, function in rest:
            instance = give_instance()
            value = SKIPPED if instance is None else function(instance, event)
            if value is not None:
                break
        else:
            return ()
    except BaseException:
        value = Failure()
    kept: list[Any] = [None] * (len(slots) - 1 - rest.__length_hint__())
    kept.append(value)
    while True:
        try:
            for give_instance, function in rest:
                instance = give_instance()
                kept.append(SKIPPED if instance is None else function(instance, event))
            return kept
        except BaseException:
            kept.append(Failure())


def _call_coroutines(slots: list[Any], event: Any) -> Kept:
    kept: list[Any] = []
    rest: Any = iter(slots)
    while True:
        try:
            for give in rest:
                coroutine = give()(event)
                context = copy_context()
                try:
                    awaited = context.run(coroutine.send, None)
                except StopIteration as stop:
                    kept.append(stop.value)
                else:
                    kept.append(finish_later(coroutine, awaited, context))
            return kept
        except BaseException as error:
            kept.append(_failed(give, error))


def _call_segments(segments: list[Any], event: Any) -> Kept:
    kept: list[Any] = []
    for kind, start, slots in segments:
        values = _LOOPS[kind](slots, event)
        if values:
            kept += [None] * (start - len(kept))
            kept += values
    return kept


_LOOPS: dict[int, Callable[[list[Any], Any], Kept]] = {
    WEAK: _call_weak,
    STRONG: _call_strong,
    METHOD: _call_methods,
    COROUTINE: _call_coroutines,
}


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


PLAIN_TYPES: set[type] = {
    type(None),
    bool,
    int,
    float,
    str,
    bytes,
    tuple,
    list,
    dict,
    set,
    frozenset,
}


def only_plain(kept: Kept) -> bool:
    """Say whether all that was kept are plain values: nothing to wait for, failed or skipped."""
    return PLAIN_TYPES.issuperset(map(type, kept))
