"""The fire itself: the hot path of every event. Its benchmark is ``benchmarks/dispatch.py``.

An event whose handlers are all called and done at once goes through :func:`Firing.fire_event`
alone. Whatever else there may be (a queue, a turn by details, Deferreds, limits) is
:class:`oni.dispatcher._run.EventRun`'s and the engine's.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from oni.dispatcher._engine import Engine
from oni.dispatcher._frames import Frame, current_frame, new_frame
from oni.dispatcher._index import HandlerIndex
from oni.dispatcher._kinds import settle
from oni.dispatcher._plan import NO_PLAN, PLAIN_TYPES, Plan
from oni.dispatcher._short import Short
from oni.dispatcher._turns import Lane
from oni.errors import UnknownKeywordError
from oni.values import EventResult

__all__ = ["Firing"]

# Named here, since CPython makes a method object each time one of an imported thing is called.
_get_frame, _set_frame, _reset_frame = current_frame.get, current_frame.set, current_frame.reset
_all_plain = PLAIN_TYPES.issuperset


class Firing:
    """What fires events: an index and an engine."""

    _engine: Engine
    _index: HandlerIndex

    def fire_event(self, event: Any, /, **details: Any) -> Deferred[EventResult]:
        """Give an event to every handler that fits; see the interface."""
        engine = self._engine
        index = self._index
        lane = engine.lane
        if engine.active is not None or index.dead or not engine.direct:
            lane, answer = engine.admit(event, details)
            if answer is not None:
                return answer
        # What index.plan(details) gives, without a call in the common cases.
        plan = index.everyone.plan
        if details:
            try:
                if len(details) == index.width:  # it names every keyword, or an unknown one
                    wanted = index.values(details)
                    bucket = index.full.get(wanted) if index.full else None
                    if bucket is not None:
                        plan = bucket.plan if plan is NO_PLAN else None
                    lookups = index.partial
                else:
                    lookups = index.shapes[tuple(details)]
                if lookups:  # a loop over none costs as much as a look-up
                    for values, buckets in lookups:
                        bucket = buckets.get(values(details))
                        if bucket is not None:
                            plan = bucket.plan if plan is NO_PLAN else None
            except Exception:  # names or values that have to be looked at with more care
                plan = None
        if plan is None:
            try:
                plan = index.plan(details)
            except UnknownKeywordError:
                engine.next_turn(lane)
                return fail()
        engine.fired += 1
        if plan is NO_PLAN:
            if lane is not engine.lane:
                engine.next_turn(lane)
            return succeed(EventResult(event, details))
        loop = plan.loop
        if loop is None or lane is not engine.lane or engine.active is not None:
            return self._go_through(plan, event, details, lane)
        # What _go_through does, for an event that nests in no other and has one simple phase.
        parent = _get_frame()
        engine.active = frame = Frame()
        frame.engine = engine
        frame.event = event
        frame.details = details
        frame.parent = parent
        frame.outer = frame.run = None
        frame.parts = ()
        engine.thread = get_ident()
        if lane is not None:
            lane.active = frame
        plan.runs += 1
        token = _set_frame(frame)
        try:
            kept = loop(plan.slots, event)
            if kept and not _all_plain(map(type, kept)) and not settle(kept):
                frame.parts = [(plan.phases[0].head, kept)]
                run = engine.new_run(EventResult(event, details, frame.parts), lane)
                return run.take_over(frame, plan, 0, kept)
        except BaseException:  # not of a handler: Python's stack has ended, or the memory
            return engine.break_off(frame, lane)
        finally:
            _reset_frame(token)
            engine.active = None
        if parent is None:
            frame.engine = frame.event = frame.details = None
        else:
            frame.empty()
        if lane is not None:
            lane.active = None
        if engine.unsettled:
            engine.next_turn(lane)
        parts = ((plan.phases[0].head, kept),) if kept else plan.silent
        return succeed(EventResult(event, details, parts))

    def _go_through(
        self, plan: Plan, event: Any, details: dict[str, Any], lane: Lane | None
    ) -> Deferred[EventResult]:
        """Call the handlers of all phases."""
        engine = self._engine
        parent = _get_frame()
        outer = engine.active
        engine.active = frame = new_frame(engine, event, details, parent, ())
        frame.outer = outer
        engine.thread = get_ident()
        if lane is not None:
            lane.active = frame
        plan.runs += 1
        parts: Any = ()
        token = _set_frame(frame)
        try:
            if not plan.is_short:
                frame.parts = []
                result = EventResult(event, details, frame.parts)
                return engine.new_run(result, lane).begin(frame, plan)
            if not plan.simple:
                short = Short(engine, frame, plan, lane)
                try:
                    parts, answer = short.go(event, details)
                finally:
                    short.end()
                    lane = short.lane
                if answer is not None:
                    return answer
            for part in plan.phases if plan.simple else ():
                frame.parts = parts
                kept = part.loop(part.slots, event)
                if not kept:
                    parts += part.silent
                elif _all_plain(map(type, kept)) or settle(kept):
                    parts += ((part.head, kept),)
                else:
                    number = len(parts)
                    frame.parts = [*parts, (part.head, kept)]
                    result = EventResult(event, details, frame.parts)
                    return engine.new_run(result, lane).take_over(frame, plan, number, kept)
        except BaseException:  # not of a handler: Python's stack has ended, or the memory
            return engine.break_off(frame, lane)
        finally:
            _reset_frame(token)
            engine.active = outer
        frame.empty()
        if lane is not None:
            lane.active = None
        if engine.unsettled or lane is not engine.lane:
            engine.next_turn(lane)
        return succeed(EventResult(event, details, parts))
