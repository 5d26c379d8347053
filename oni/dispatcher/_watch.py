"""Watches over queued events while there are any: cycles are ended, stalls are warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from oni._text import few
from oni.dispatcher._clock import Timer
from oni.dispatcher._cycles import find_cycle, find_wait_for_itself
from oni.dispatcher._turns import Lane
from oni.errors import EventCycleError

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["Watch"]

_log = Logger()
# Seconds between two looks. A search costs by the length of the queue, and so does its pause.
_SHORTEST_PAUSE = 0.01
_PAUSE_PER_EVENT = 0.0001
_LONGEST_PAUSE = 1.0


class Watch:
    """Looks at the lanes in which somebody waits, again and again, less and less often.

    A lane whose turn has changed hands since the last look is getting on and is not searched, so
    a long but healthy queue costs next to nothing.
    """

    def __init__(self, engine: Engine, stall_warning: float | None) -> None:
        self._engine = engine
        self._stall_warning = stall_warning
        self._timer: Timer | None = None
        self._pause = _SHORTEST_PAUSE

    def look(self) -> None:
        """Look soon: an event was queued."""
        shortest = self._shortest_pause()
        if self._timer is None or self._pause > 4 * shortest:
            self.rest()
            self._pause = shortest
            self._timer = self._engine.clock.timer(0, self._look)

    def rest(self) -> None:
        """Look no more: nobody waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        engine = self._engine
        for lane in list(engine.turns.crowded()):
            if lane.active is not lane.suspect:
                lane.suspect = lane.active
            elif lane.waiting:  # still: ending a cycle may have emptied this lane too
                self._examine(lane)
        if engine.turns.waiting and self._timer is None:
            self._pause = max(self._pause, self._shortest_pause())
            self._timer = engine.clock.timer(self._pause, self._look)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _shortest_pause(self) -> float:
        pause = _PAUSE_PER_EVENT * self._engine.turns.waiting
        return min(max(pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _examine(self, lane: Lane) -> None:
        cycle = find_cycle(lane)
        if cycle is not None:
            newest = cycle[0]
            chain = [run.describe() for run in [*cycle, newest]]
            newest.engine.counters["event_cycles"] += 1
            newest.engine.enter_thread()
            newest.refuse(EventCycleError(newest.result.event, chain))
        elif self._stall_warning is not None and lane.warned is not lane.active:
            self._warn(lane, self._stall_warning)

    def _warn(self, lane: Lane, limit: float) -> None:
        oldest = next(iter(lane.waiting))
        holder = lane.active.run if lane.active is not None else None
        if self._engine.clock.seconds() - oldest.since < limit or holder is None:
            return
        lane.warned = lane.active
        cause = few(", ", holder.waits_for()) or "nothing that is known"
        if (own := find_wait_for_itself(lane)) is not None:
            chain = ", which waits for ".join(run.describe() for run in [*own, holder])
            cause = f"itself ({chain}), in {cause}"
        _log.warn(
            "{count} event(s) have waited over {seconds} s for their turn: {holder} waits for "
            "{cause}",
            count=len(lane.waiting),
            seconds=limit,
            holder=holder.describe(),
            cause=cause,
        )
