"""One event on its way through the phases, once it is queued or has something to wait for."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher._clock import Timer
from oni.dispatcher._frames import Frame
from oni.dispatcher._kinds import settled
from oni.dispatcher._plan import Kept, PhasePlan, Plan, only_plain
from oni.dispatcher._turns import Lane
from oni.errors import EventAbortedError, HandlerTimeoutError
from oni.values import EventResult, PendingEvent

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["EventRun"]

_log = Logger()


def _cancelled(handler: str, phase: str) -> Exception:
    return CancelledError(f"{handler} was cancelled in phase {phase!r}")


class _Wait:
    """A handler's Deferred that has not fired, with its time limit."""

    __slots__ = ("deferred", "timer")

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred
        self.timer: Timer | None = None

    def end(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class EventRun:
    """An event, from the moment it is queued or must wait, to its end.

    Attributes:
        result: The event with its details, and what its handlers have done so far.
        deferred: What ``fire_event`` returned.
        lane: The lane it waits in, or whose turn it has. None: it has no turn (any more).
        trailing: Whether it gave its turn away before its end.
        frame: Its frame while it runs, None while it is queued.
        number: Grows with each run: the newer event has the higher one.
        since: When it began to wait, in the clock's seconds; None if it never had to.
    """

    def __init__(
        self, engine: Engine, result: EventResult, lane: Lane | None, number: int
    ) -> None:
        self.engine = engine
        self.result = result
        self.lane = lane
        self.number = number
        self.since: float | None = None
        self.deferred: Deferred[EventResult] = Deferred(self._cancelled_by_caller)
        self.context: Context | None = None
        self.frame: Frame | None = None
        self.ended = False
        self.trailing = False
        self.patience: Timer | None = None
        self._plan: Plan
        self._parts: list[Any] = result.parts  # type: ignore[assignment]
        self._number = -1  # of the phase
        self._part: PhasePlan
        self._kept: Kept = []
        self._place = self._stop = 0
        self._waits: dict[int, _Wait] = {}
        self._advancing = False
        self._timer: Timer | None = None
        self._aborted = ""
        self._cancelled = False
        self._cancelled_in = -2

    # --- Going through the phases -------------------------------------------------------------

    def begin(self, frame: Frame, plan: Plan) -> Deferred[EventResult]:
        """Run a plan from its first phase on."""
        self._enter_frame(frame)
        self._plan = plan
        self.advance()
        return self.deferred

    def take_over(
        self, frame: Frame, plan: Plan, number: int, kept: Kept
    ) -> Deferred[EventResult]:
        """Go on with a plan whose phase of this number has been called and kept these results."""
        self._enter_frame(frame)
        self._plan = plan
        self._number = number
        self._part = plan.phases[number]
        self._kept = kept
        self._place = self._stop = len(self._part.ids)
        self._advancing = True
        self._absorb(kept)
        self._advancing = False
        self.advance()
        return self.deferred

    def _enter_frame(self, frame: Frame) -> None:
        self.frame = frame
        frame.run = self
        self.engine.enter(frame)

    def advance(self) -> None:
        """Go on until something must be waited for, or the event has ended."""
        if self._advancing or self.ended:
            return
        self._advancing = True
        try:
            while True:
                if self._waits:
                    if self._cancelled_in != self._number:
                        break
                    self._give_up(list(self._waits), _cancelled)
                elif self._place < self._stop:
                    self._call_next()
                elif not self._enter_next_phase():
                    self._end()
                    return
        finally:
            self._advancing = False
        if self.since is None:
            self.since = self.engine.clock.seconds()
        if self.context is None:
            # Later phases see the context variables of the fire, whoever fires the Deferred.
            self.context = copy_context()

    def _enter_next_phase(self) -> bool:
        self._leave_phase()
        phases = self._plan.phases
        while (number := self._number + 1) < len(phases):
            self._number = number
            part = phases[number]
            if (self._aborted or self._cancelled) and not part.phase.always:
                self._not_called(part, 0)
                continue
            self._enter(part)
            return True
        return False

    def _enter(self, part: PhasePlan) -> None:
        phase = part.phase
        self._part = part
        self._stop = len(part.ids)
        kept: Kept = []
        self._kept = kept
        lane = None
        if not phase.holds_turn and self.lane is not None:
            lane = self.engine.release_turn(self)
        if phase.timeout is not None:
            self._timer = self.engine.clock.timer(phase.timeout, self._phase_timed_out)
        if phase.concurrent:
            self._place = self._stop
            self._parts.append((part.head, kept))
            kept.extend(part.loop(part.slots, part.last, self.result.event))
            self._absorb(kept)
        else:
            self._place = 0
            self._parts.append(((phase.name, ()), kept))
        if lane is not None:
            self.engine.next_turn(lane)

    def _call_next(self) -> None:
        part, place = self._part, self._place
        self._place = place + 1
        self._parts[-1] = ((part.phase.name, part.ids[: place + 1]), self._kept)
        value = part.call_one(place, self.result.event)
        if value is not None:
            self._receive(place, value)

    def _absorb(self, kept: Kept) -> None:
        """Sort what a concurrent phase returned: values to keep, Deferreds to wait for."""
        if only_plain(kept):
            return
        news = kept.copy()
        kept.clear()
        for place, value in news:
            self._receive(place, value)

    def _receive(self, place: int, value: Any) -> None:
        value = settled(value)
        if isinstance(value, Deferred):
            self._wait(place, value)
        else:
            self._keep(place, value)

    def _leave_phase(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _not_called(self, part: PhasePlan, place: int) -> None:
        """Take back the calls that the plan counted in advance."""
        for registration in part.registrations[place:]:
            registration.calls -= 1

    # --- Results ------------------------------------------------------------------------------

    def _keep(self, place: int, value: Any) -> None:
        if value is None:
            return
        self._kept.append((place, value))
        if isinstance(value, Failure):
            self._failed(place, value)

    def _failed(self, place: int, failure: Failure) -> None:
        self.engine.counters["handler_failures"] += 1
        part = self._part
        if not (self._cancelled and failure.check(CancelledError)):
            _log.failure(
                "{handler} failed in phase {phase}",
                failure=failure,
                handler=part.registrations[place],
                phase=part.phase.name,
            )
        if part.phase.on_error == "abort" and not self._aborted:
            self._aborted = part.phase.name
            self._skip_rest()

    def _skip_rest(self) -> None:
        self._not_called(self._part, self._place)
        self._place = self._stop

    def _wait(self, place: int, deferred: Deferred[Any]) -> None:
        wait = self._waits[place] = _Wait(deferred)
        args = (self._number, place)
        deferred.addCallbacks(
            self.handler_ended, self.handler_failed, callbackArgs=args, errbackArgs=args
        )
        if self._waits.get(place) is wait:
            seconds = self._part.registrations[place].timeout
            if seconds is not None:
                wait.timer = self.engine.clock.timer(seconds, self._timed_out, place, seconds)

    def _take(self, number: int, place: int) -> bool:
        """End a wait; say whether it was still wanted."""
        if number != self._number or place not in self._waits:
            return False
        self._waits.pop(place).end()
        return True

    def handler_ended(self, value: Any, number: int, place: int) -> Any:
        """Take the result of a handler's Deferred."""
        if self._take(number, place):
            self._keep(place, value)
            self._go_on()
        else:
            _log.debug("{handler} ended after it was given up", handler=self._named(number, place))
        return value

    def handler_failed(self, failure: Failure, number: int, place: int) -> None:
        """Take the failure of a handler's Deferred."""
        if self._take(number, place):
            self._keep(place, failure)
            self._go_on()
        elif not failure.check(CancelledError):
            _log.failure(
                "{handler} failed after it was given up",
                failure=failure,
                handler=self._named(number, place),
            )

    def _named(self, number: int, place: int) -> str:
        return str(self._plan.phases[number].registrations[place])

    def _go_on(self) -> None:
        if not self._waits and not self._advancing:
            self.engine.enter_thread()
            self._in_context(self.advance)

    def _in_context(self, call: Callable[[], object]) -> None:
        if self.context is None:
            call()
        else:
            self.context.copy().run(call)

    # --- Ends before the end ------------------------------------------------------------------

    def _timed_out(self, place: int, seconds: float) -> None:
        self.engine.enter_thread()
        self._give_up([place], lambda handler, phase: HandlerTimeoutError(handler, phase, seconds))
        self._go_on()

    def _phase_timed_out(self) -> None:
        self.engine.enter_thread()
        seconds = self._part.phase.timeout or 0.0
        self._skip_rest()
        self._give_up(
            list(self._waits), lambda handler, phase: HandlerTimeoutError(handler, phase, seconds)
        )
        self._go_on()

    def _give_up(self, places: list[int], error: Callable[[str, str], Exception]) -> None:
        """Record handlers as failed at once, and cancel them. What they do later is dropped."""
        number, part = self._number, self._part
        abandoned = []
        for place in places:
            wait = self._waits.pop(place)
            wait.end()
            abandoned.append(wait.deferred)
            self._keep(place, Failure(error(str(part.registrations[place]), part.phase.name)))
        for place, deferred in zip(places, abandoned, strict=True):
            try:
                deferred.cancel()
            except Exception:
                _log.failure("cancelling {handler} failed", handler=self._named(number, place))

    def _cancelled_by_caller(self, deferred: Deferred[Any]) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Leave the queue; or cancel the handlers, and skip the phases that are not ``always``."""
        if self.ended or self._cancelled:
            return
        self._cancelled = True
        if self.frame is None:
            self.leave_queue()
            return
        self._cancelled_in = self._number
        self._skip_rest()
        if not self._advancing:
            self.engine.enter_thread()
            self._in_context(self.advance)

    def abandon(self) -> None:
        """Cancel, and end without waiting for anything."""
        self.cancel()
        if not self.ended and self.frame is not None:
            self._give_up(list(self._waits), _cancelled)
            self._end()
        if not self.deferred.called:
            self.deferred.errback(CancelledError())

    def leave_queue(self) -> None:
        """Leave the queue without having had a turn."""
        self.ended = True
        if self.patience is not None:
            self.patience.cancel()
        lane = self.lane
        if lane is not None:
            self.engine.turns.discard(lane, self)
            self.engine.turns.leave(lane)
        self.engine.check_quiet()

    def refuse(self, error: Exception) -> None:
        """Leave the queue, and fail with this error."""
        if not self.ended and self.frame is None:
            self.leave_queue()
            self.deferred.errback(error)

    # --- The end ------------------------------------------------------------------------------

    def _end(self) -> None:
        self._leave_phase()
        self.ended = True
        frame = self.frame
        assert frame is not None
        result = self.result
        self.engine.leave(frame, self.lane)
        if self.trailing:
            self.engine.trailing -= 1
        deferred = self.deferred
        if not deferred.called:
            if self._cancelled:
                deferred.errback(CancelledError())
            elif self._aborted:
                failures = result.failures
                deferred.errback(EventAbortedError(self._aborted, failures, result))
            else:
                deferred.callback(result)
        self.engine.next_turn(self.lane)

    # --- Looking at it ------------------------------------------------------------------------

    def waits_for(self) -> list[str]:
        """Name the handlers whose Deferreds have not fired."""
        return [str(self._part.registrations[place]) for place in self._waits]

    def is_held_up_by(self, number: int, place: int) -> bool:
        """Say whether it waits for this handler of this phase."""
        return number == self._number and place in self._waits

    @property
    def phase(self) -> str:
        """The name of the phase it is in, ``""`` while it is queued."""
        return self._part.phase.name if self.frame is not None and self._number >= 0 else ""

    def describe(self) -> str:
        """Name it in a log line: no payload."""
        return f"event {self.number} ({type(self.result.event).__name__})"

    def pending(self) -> PendingEvent:
        """Describe it for ``pending()``."""
        now = self.engine.clock.seconds
        waits_for = self.waits_for()
        if self.frame is not None:
            state: Literal["queued", "running", "nested"] = (
                "nested" if self.engine.is_nested(self.frame.parent) else "running"
            )
        else:
            state = "queued"
            waits_for.append("its turn")
        age = None if self.since is None else now() - self.since
        return PendingEvent(
            self.result.event, self.result.details, state, self.phase, tuple(waits_for), age
        )
