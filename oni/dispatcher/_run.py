"""One event on its way from phase to phase, once it is queued or has something to wait for."""

from __future__ import annotations

import itertools
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher._clock import Timer
from oni.dispatcher._frames import Frame
from oni.dispatcher._phase_run import PhaseRun, take_back_calls
from oni.dispatcher._plan import Plan
from oni.dispatcher._turns import Lane
from oni.errors import EventAbortedError
from oni.values import EventResult

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["EventRun"]

_log = Logger()
_numbers = itertools.count(1)


class EventRun:
    """An event, from the moment it is queued or must wait, to its end.

    Attributes:
        result: The event with its details, and what its handlers have done so far.
        parts: The result's parts, which grow with each phase.
        deferred: What ``fire_event`` returned.
        lane: The lane it waits in, or whose turn it has. None: it has no turn (any more).
        trailing: Whether it gave its turn away before its end.
        cancelled: Whether it was cancelled.
        frame: Its frame while it runs, None while it is queued.
        number: Grows with each run of the process: the newer event has the higher one.
        since: When it began to wait, in the clock's seconds; None if it never had to.
        context: The context variables of its fire, once it had to wait.
        patience: Ends its wait in the queue.
    """

    def __init__(self, engine: Engine, result: EventResult, lane: Lane | None) -> None:
        self.engine = engine
        self.result = result
        self.parts: list[Any] = result.parts  # type: ignore[assignment]
        self.lane = lane
        self.number = next(_numbers)
        self.since: float | None = None
        self.deferred: Deferred[EventResult] = Deferred(lambda _: self.cancel())
        self.context: Context | None = None
        self.frame: Frame | None = None
        self.trailing = False
        self.cancelled = False
        self.patience: Timer | None = None
        self._plan: Plan
        self._number = -1  # of the phase in the plan
        self._phase: PhaseRun | None = None
        self._advancing = False
        self._ended = False
        self._aborted_in = ""
        self._abandoned = False

    # --- Going through the phases -------------------------------------------------------------

    def begin(self, frame: Frame, plan: Plan) -> Deferred[EventResult]:
        """Run a plan from its first phase on."""
        self.frame = frame
        frame.run = self
        self._plan = plan
        self._advance(entering=frame)
        return self.deferred

    def take_over(
        self,
        frame: Frame,
        plan: Plan,
        number: int,
        kept: list[Any],
        called: int | None = None,
        free: Lane | None = None,
    ) -> Deferred[EventResult]:
        """Go on with a plan whose phase of this number has been called and kept these results.

        Args:
            frame: The event's frame.
            plan: The plan.
            number: The phase.
            kept: What its handlers returned: the list that the result holds.
            called: How many of its handlers have been called; all of them if None.
            free: The lane whose turn it gave away, where nobody has it yet.
        """
        self._number = number
        self._phase = PhaseRun(self, plan.phases[number])
        self._phase.take_over(kept, called)
        if free is not None:
            self.frame = frame
            frame.run = self
            self._plan = plan
            self._advancing = True
            self.engine.enter(frame)
            self.engine.next_turn(free)
        return self.begin(frame, plan)

    def _advance(self, entering: Frame | None = None) -> None:
        """Go on until something must be waited for, or the event has ended."""
        self._advancing = True
        try:
            if entering is not None:
                self.engine.enter(entering)
            while self._phase is None or self._phase.proceed():
                if not self._enter_next_phase():
                    self._end()
                    return
        except BaseException:  # not of a handler: Python's stack has ended, or the memory
            self._break_off(Failure())
            return
        finally:
            self._advancing = False
        if self.since is None:
            self.since = self.engine.clock.seconds()
        if self.context is None:
            # Later phases see the context variables of the fire, whoever fires the Deferred.
            self.context = copy_context()
        if self.engine.stops.are_called_from(self.frame):
            self.give_turn_away()

    def go_on(self) -> None:
        """Go on after a wait."""
        if self._advancing or self._ended or self.context is None:
            return
        self.engine.enter_thread()
        self.context.copy().run(self._advance)

    def _enter_next_phase(self) -> bool:
        if self._phase is not None:
            self._phase.end()
        while (number := self._number + 1) < len(self._plan.phases):
            self._number = number
            part = self._plan.phases[number]
            if part.phase.always or not (self._aborted_in or self.cancelled):
                lane = None if part.phase.holds_turn else self.engine.release_turn(self)
                self._phase = PhaseRun(self, part, self._abandoned)
                self._phase.start()
                if lane is not None:
                    self.engine.next_turn(lane)
                return True
            take_back_calls(part, 0)
        return False

    def give_turn_away(self) -> None:
        """Let the next event in, once nothing of this one is being called."""
        if not self._advancing:
            self.engine.next_turn(self.engine.release_turn(self, bounded=False))

    # --- Ends before the end ------------------------------------------------------------------

    def abort(self, phase: str) -> None:
        """Skip the later phases: a handler failed in this one, which aborts on errors."""
        self._aborted_in = self._aborted_in or phase

    def cancel(self) -> None:
        """Leave the queue, or cancel the handlers and skip what is not ``always``."""
        self.cancelled = True
        if self.frame is None:
            self._leave_queue()
            return
        if self._phase is not None:
            self._phase.cancel()
        self.go_on()

    def condemn(self) -> None:
        """See to it that nothing is called any more but phases that always run."""
        self.cancelled = self._abandoned = True
        if self._phase is not None:
            self._phase.cancel()

    def abandon(self) -> None:
        """End, once condemned, without waiting for anything."""
        if self.frame is not None:
            self.go_on()
        else:
            self.refuse(CancelledError())

    def refuse(self, error: Exception) -> None:
        """Leave the queue, and fail with this error."""
        if not self._ended and self.frame is None:
            self._leave_queue()
            self.deferred.errback(error)

    def _leave_queue(self) -> None:
        self._ended = True
        if self.patience is not None:
            self.patience.cancel()
        self.engine.leave_queue(self)

    # --- The end ------------------------------------------------------------------------------

    def _end(self) -> None:
        self._ended = True
        self.engine.leave(self)
        deferred = self.deferred
        self._phase = None  # it refers to this run: no cycle is left
        if not deferred.called:
            if self.cancelled:
                deferred.errback(CancelledError())
            elif self._aborted_in:
                failures = self.result.failures
                deferred.errback(EventAbortedError(self._aborted_in, failures, self.result))
            else:
                deferred.callback(self.result)
        self.engine.next_turn(self.lane)

    def _break_off(self, failure: Failure) -> None:
        self._ended = True
        self.engine.leave(self)
        if not self.deferred.called:
            self.deferred.errback(failure)
        else:
            _log.failure("the end of {run} failed", failure=failure, run=self.describe())
        self.engine.next_turn(self.lane)
        if self._phase is not None:
            self._phase.end()
            self._phase = None

    # --- Looking at it ------------------------------------------------------------------------

    def waits_for(self) -> list[str]:
        """Name the handlers whose Deferreds have not fired; in the queue, the event ahead."""
        if self._phase is not None:
            return self._phase.waits_for()
        ahead = self.lane.active.run if self.lane is not None and self.lane.active else None
        return [ahead.describe() if ahead is not None else "its turn"]

    @property
    def phase(self) -> str:
        """The name of the phase it is in, ``""`` before the first one."""
        return self._phase.part.phase.name if self._phase is not None else ""

    def describe(self) -> str:
        """Name it in a log line: no payload."""
        return f"event {self.number} ({type(self.result.event).__name__})"
