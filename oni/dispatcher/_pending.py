"""The events that have not ended, oldest first, and what each of them waits for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from oni.dispatcher._frames import Frame, ancestors
from oni.dispatcher._run import EventRun
from oni.values import PendingEvent

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["describe", "run_of", "unfinished"]

# A queued event has no frame yet; one that never had to wait has no run.
Unfinished = Frame | EventRun


def unfinished(engine: Engine) -> list[Unfinished]:
    """Give the events that have not ended, oldest first."""
    everyone: list[Unfinished] = [*engine.frames()]
    everyone += [run for lane in engine.turns.crowded() for run in lane.waiting]
    in_order: dict[Unfinished, None] = {}
    for each in sorted(everyone, key=_since):
        if isinstance(each, Frame):  # an event may have had to wait before its parent had to
            outer = [frame for frame in ancestors(each) if frame.engine is engine]
            in_order |= dict.fromkeys(reversed(outer))
        else:
            in_order[each] = None
    return list(in_order)


def run_of(each: Unfinished) -> EventRun | None:
    """Give the record of an event, if it had to wait."""
    return each.run if isinstance(each, Frame) else each


def _since(each: Unfinished) -> float:
    run = run_of(each)
    return math.inf if run is None or run.since is None else run.since


def describe(each: Unfinished, engine: Engine) -> PendingEvent:
    """Describe an event for ``pending()``."""
    state: Literal["queued", "running", "nested"] = "queued"
    if isinstance(each, Frame):
        state = "nested" if engine.is_nested(each.parent) else "running"
    run = run_of(each)
    if run is None:
        frame: Any = each
        return PendingEvent(frame.event, frame.details, state, "", (), None)
    age = None if run.since is None else engine.clock.seconds() - run.since
    return PendingEvent(
        run.result.event, run.result.details, state, run.phase, tuple(run.waits_for()), age
    )
