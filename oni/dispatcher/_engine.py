"""The running part of a dispatcher: its state, who runs, who may run next."""

from __future__ import annotations

from collections import Counter
from contextvars import copy_context
from threading import RLock, get_ident
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from oni.dispatcher._clock import Clock
from oni.dispatcher._frames import Frame, ancestors, current_frame, new_frame
from oni.dispatcher._index import HandlerIndex
from oni.dispatcher._pending import describe, unfinished
from oni.dispatcher._run import EventRun
from oni.dispatcher._stops import Stops
from oni.dispatcher._turns import Lane, Turns
from oni.dispatcher._watch import Watch
from oni.errors import (
    DispatcherStoppedError,
    EventNestingError,
    EventWaitTimeoutError,
    WrongThreadError,
)
from oni.values import EventResult, PendingEvent

__all__ = ["MAX_NESTING", "Engine"]

# How many events may run one in the other, of all dispatchers together. Python's own stack ends
# somewhat later, and at places where nothing can be told any more.
MAX_NESTING = 100

_log = Logger()
_COUNTERS = (
    "events_refused",
    "event_cycles",
    "handler_failures",
    "handlers_died",
)


class Engine:
    """Runs events.

    Attributes:
        state: ``"new"``, ``"started"``, ``"stopping"`` or ``"stopped"``.
        running: The frames of the events that run and may have to wait, nested ones too.
        trailing: How many of them gave their turn away before their end.
        thread: The thread in which an event was last active.
        awaiting: The Deferreds of ``next_event``, by handler id.
    """

    def __init__(
        self,
        index: HandlerIndex,
        turns: Turns,
        clock: Clock,
        *,
        max_trailing: int | None,
        max_wait: float | None,
        stall_warning: float | None,
    ) -> None:
        self.index = index
        self.turns = turns
        self.clock = clock
        self.state = "new"
        self.running: dict[Frame, None] = {}
        self.trailing = 0
        self.thread = 0
        self.counters: Counter[str] = Counter()
        self.awaiting: dict[int, Deferred[Any]] = {}
        self.watch = Watch(self, stall_warning)
        self.stops = Stops(self, stall_warning)
        self.fired = 0
        # What the hot path looks at: the frame whose handlers are being called, the lane of all
        # events, whether an event may take the short way, whether somebody waits for its end.
        self.lane = turns.only
        self.direct = False
        self.unsettled = False
        self.active: Frame | None = None
        # Held where several threads at once look for handlers that they call themselves.
        self.here = RLock()
        self._max_trailing = max_trailing
        self._max_wait = max_wait
        self._refused_in = ""

    # --- Coming in ----------------------------------------------------------------------------

    def admit(
        self, event: Any, details: dict[str, Any]
    ) -> tuple[Lane | None, Deferred[EventResult] | None]:
        """Decide what a fired event has to do: the careful way.

        Returns:
            The lane whose turn it takes (None: it needs none) and nothing else, if it may run
            now; else what its fire returns.
        """
        self.check_thread()
        frame = current_frame.get()
        around = [] if frame is None else list(ancestors(frame))
        nested = bool(around) and any(each.engine is self for each in around)
        if self.state != "started" and not (nested and self.state == "stopping"):
            return None, succeed(self.refuse(event, details))
        if nested:
            if len(around) >= MAX_NESTING:
                return None, fail(EventNestingError(event, MAX_NESTING))
            return None, None
        try:
            lane = self.turns.lane(details)
            if lane is None or (lane.active is None and not lane.waiting):
                return lane, None
            return None, self._queue(event, details, lane)
        except Exception:  # unknown, unhashable or uncomparable details, a full queue
            return None, fail()

    def is_nested(self, frame: Frame | None) -> bool:
        """Say whether this frame's event runs inside an event of this dispatcher."""
        return any(each.engine is self for each in ancestors(frame))

    def new_run(self, result: EventResult, lane: Lane | None) -> EventRun:
        """Make the record of an event that is queued or not simple."""
        return EventRun(self, result, lane)

    # --- Turns --------------------------------------------------------------------------------

    def _queue(self, event: Any, details: dict[str, Any], lane: Lane) -> Deferred[EventResult]:
        self.index.check(details)
        run = self.new_run(EventResult(event, details, []), lane)
        run.since = self.clock.seconds()
        run.context = copy_context()
        self.turns.put(lane, run)
        self.consider()
        if self._max_wait is not None:
            error = EventWaitTimeoutError(event, self._max_wait)
            run.patience = self.clock.timer(self._max_wait, run.refuse, error)
        self.watch.look()
        return run.deferred

    def next_turn(self, lane: Lane | None) -> None:
        """Start who waits in a lane whose turn is free, one after the other."""
        if lane is not None and lane.waiting and not lane.draining:
            lane.draining = True
            try:
                while lane.waiting and lane.active is None:
                    run = self.turns.take(lane)
                    run.context.run(self._begin, run, lane)
            finally:
                lane.draining = False
        if lane is not None:
            self.turns.leave(lane)
        self.stops.check()

    def _begin(self, run: EventRun, lane: Lane) -> None:
        try:
            plan = self.index.plan(dict(run.result.details))
        except Exception as error:  # the keyword was removed while the event waited
            run.refuse(error)
            return
        if run.patience is not None:
            run.patience.cancel()
        result = run.result
        frame = new_frame(self, result.event, result.details, current_frame.get(), run.parts)
        current_frame.set(frame)
        self.fired += 1
        self.thread = get_ident()
        lane.active = frame
        plan.runs += 1
        run.begin(frame, plan)

    def release_turn(self, run: EventRun, bounded: bool = True) -> Lane | None:
        """Take the turn from an event that goes on without it; give the lane that is free now.

        Beyond the bound of events that go on so, the event keeps its turn.
        """
        lane = run.lane
        if lane is None or (bounded and not self.may_trail()):
            return None
        lane.active = None
        run.lane = None
        run.trailing = True
        self.trailing += 1
        return lane

    def may_trail(self) -> bool:
        """Say whether one more event may go on after it gave its turn away."""
        return self._max_trailing is None or self.trailing < self._max_trailing

    def leave_queue(self, run: EventRun) -> None:
        """Note that an event waits for its turn no more, and will not have one."""
        assert run.lane is not None
        self.turns.discard(run.lane, run)
        self.consider()

    def enter(self, frame: Frame) -> None:
        """Note that an event runs that may have to wait."""
        self.running[frame] = None
        self.consider()

    def leave(self, run: EventRun) -> None:
        """Note that such an event has ended. The second time, nothing happens."""
        frame = run.frame
        assert frame is not None
        self.running.pop(frame, None)
        if run.lane is not None and run.lane.active is frame:
            run.lane.active = None
        if run.trailing:
            run.trailing = False
            self.trailing -= 1
        around = frame.outer
        frame.empty()
        if self.active is frame:  # what starts now is not called from it, but from what is around
            self.active = around
        self.consider()

    def break_off(self, frame: Frame, lane: Lane | None) -> Deferred[EventResult]:
        """End an event whose fire raises, but not in a handler; give what the fire returns."""
        self.active = frame.outer
        self.running.pop(frame, None)
        if lane is not None and lane.active is frame:
            lane.active = None
        answer: Deferred[EventResult] = fail()
        frame.empty()
        self.consider()
        self.next_turn(lane)
        return answer

    def consider(self) -> None:
        """Find out whether the next event may take the short way, and end on it."""
        busy = bool(self.running or self.turns.waiting)
        if not self.turns.waiting:
            self.watch.rest()
        self.direct = self.state == "started" and not self.turns.order_by and not busy
        self.unsettled = busy or bool(self.stops.waiting)

    def frames(self) -> list[Frame]:
        """Give the frames of all events that run, also of those that never have to wait."""
        frames = dict(self.running)
        frame = self.active
        while frame is not None:
            frames[frame] = None
            frame = frame.outer
        return list(frames)

    # --- Threads, life cycle ------------------------------------------------------------------

    def check_thread(self) -> None:
        """Refuse a call while an event is active in another thread, and clean up the dead.

        Raises:
            WrongThreadError: One is.
        """
        if (self.active is not None or self.running) and self.thread != get_ident():
            raise WrongThreadError
        if self.index.dead:
            self.bury()

    def enter_thread(self) -> None:
        """Note that an event goes on in this thread."""
        self.thread = get_ident()

    def set_state(self, state: str) -> None:
        """Change the state."""
        self.state = state
        self._refused_in = ""
        self.consider()

    def stop(self, timeout: float | None) -> Deferred[None]:
        """Take no new events, and wait for quiescence."""
        if self.state == "started":
            self.set_state("stopping")
        return self.stops.add(timeout)

    def set_stopped(self) -> None:
        """Note that nothing runs any more, and let those who wait for events know."""
        if self.state != "stopping":  # it was started again meanwhile, or never
            return
        self.set_state("stopped")
        awaiting, self.awaiting = self.awaiting, {}
        for handler_id, deferred in awaiting.items():
            registration = self.index.by_id.get(handler_id)
            if registration is not None:
                self.index.remove(registration)
            if not deferred.called:
                error = DispatcherStoppedError("the dispatcher stopped before such an event")
                deferred.errback(error)

    def refuse(self, event: Any, details: dict[str, Any]) -> EventResult:
        """Call nobody: the dispatcher is not started."""
        self.counters["events_refused"] += 1
        if self._refused_in != self.state:
            self._refused_in = self.state
            _log.warn(
                "an event was fired at a dispatcher that is {state}: no handler is called "
                "(said once until the state changes)",
                state=self.state,
            )
        return EventResult(event, details, (), self.state)

    def bury(self) -> None:
        """Remove the registrations whose handlers have died."""
        dead = self.index.dead
        while dead:
            registration = dead.popleft()
            if registration.handler_id not in self.index.by_id:  # removed before it died
                continue
            self.counters["handlers_died"] += 1
            calls = self.index.count_calls(registration)
            self.index.remove(registration)
            if not calls:
                _log.warn(
                    "{handler} died before any event reached it: nothing else refers to it. "
                    "Keep a reference to it, or register it with use_weakref=False (a signal's "
                    "receiver: weak=False)",
                    handler=registration,
                )

    # --- Looking at it ------------------------------------------------------------------------

    def pending(self) -> list[PendingEvent]:
        """Describe the events that have not ended, oldest first."""
        return [describe(each, self) for each in unfinished(self)]

    def statistics(self) -> dict[str, int]:
        """Give counters and gauges."""
        counters = dict.fromkeys(_COUNTERS, 0) | self.counters
        return counters | {
            "events_fired": self.fired,
            "handlers": len(self.index.by_id),
            "events_running": len(self.frames()),
            "events_queued": self.turns.waiting,
        }
