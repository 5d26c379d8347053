"""The short way through all phases of an event whose handlers are done when they have been called.

Phases may be sequential, abort on errors, always run or give the turn away. As soon as a handler
fails, has to be waited for, was removed, or returns what has to be looked at with care, the
event is handed over to an :class:`oni.dispatcher._run.EventRun`, as if that had called it until
there. Hot: ``benchmarks/fanout.py`` measures it as one publish without subscribers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from oni.dispatcher._frames import Frame
from oni.dispatcher._kinds import settle
from oni.dispatcher._plan import PLAIN_TYPES, PhasePlan, Plan
from oni.dispatcher._turns import Lane
from oni.values import EventResult

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["Short"]

_all_plain = PLAIN_TYPES.issuperset


class Short:
    """An event on the short way.

    Attributes:
        lane: The lane whose turn it has; None when it has none (any more).
    """

    __slots__ = ("_engine", "_frame", "_plan", "_trailing", "lane")

    def __init__(self, engine: Engine, frame: Frame, plan: Plan, lane: Lane | None) -> None:
        self._engine = engine
        self._frame = frame
        self._plan = plan
        self._trailing = False
        self.lane = lane

    def go(self, event: Any, details: dict[str, Any]) -> tuple[Any, Deferred[EventResult] | None]:
        """Call the handlers of all phases.

        Returns:
            What they have done, and None; or anything and what the fire returns, where the event
            goes on.
        """
        frame = self._frame
        parts: Any = ()
        for number, part in enumerate(self._plan.phases):
            frame.parts = parts
            free = None
            if not part.phase.holds_turn:
                free = self._release_turn()
                if free is not None and not part.phase.concurrent:
                    self._engine.next_turn(free)
                    free = None
            if part.phase.concurrent:
                kept: Any = part.loop(part.slots, event)
                done = len(part.ids)
                entry = (part.head, kept)
                is_done = not kept or _all_plain(map(type, kept)) or settle(kept)
            else:
                kept = [None] * len(part.ids)
                done, is_done = self._call_each(part, kept, parts, event)
                entry = ((part.phase.name, part.ids[:done]), kept)
            if not is_done:
                result = EventResult(event, details, [*parts, entry])
                frame.parts = result.parts
                run = self._engine.new_run(result, self.lane)
                run.trailing, self._trailing = self._trailing, False
                return (), run.take_over(frame, self._plan, number, kept, done, free)
            if free is not None:
                self._engine.next_turn(free)
            parts += (entry,)
        return parts, None

    def _call_each(
        self, part: PhasePlan, kept: list[Any], parts: Any, event: Any
    ) -> tuple[int, bool]:
        """Call one handler after the other; say how many, and whether all are done."""
        name, ids, frame = part.phase.name, part.ids, self._frame
        for place in range(len(ids)):
            frame.parts = (*parts, ((name, ids[: place + 1]), kept))
            value = part.call_one(place, event)
            if value is not None:
                kept[place] = value
                if type(value) not in PLAIN_TYPES and not settle(kept, place):
                    return place + 1, False
        return len(ids), True

    def _release_turn(self) -> Lane | None:
        """Take the turn from the event; give the lane that is free now."""
        lane = self.lane
        if lane is not None and self._engine.may_trail():
            lane.active = None
            self.lane = None
            self._trailing = True
            self._engine.trailing += 1
            return lane
        return None

    def end(self) -> None:
        """End: it trails no more."""
        if self._trailing:
            self._trailing = False
            self._engine.trailing -= 1
