"""One phase of one event: its handlers are called, and their Deferreds waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher._clock import Timer
from oni.dispatcher._kinds import settled
from oni.dispatcher._plan import Kept, PhasePlan, only_plain
from oni.errors import HandlerTimeoutError
from oni.values import SKIPPED

if TYPE_CHECKING:
    from oni.dispatcher._run import EventRun

__all__ = ["PhaseRun", "take_back_calls"]

_log = Logger()
_PHASE = -1  # the place, among time limits, of the phase's own


def _cancelled(handler: str, phase: str) -> Exception:
    return CancelledError(f"{handler} was cancelled in phase {phase!r}")


def take_back_calls(part: PhasePlan, place: int) -> None:
    """Take back the calls, from a place on, that the plan counted in advance."""
    for registration in part.registrations[place:]:
        registration.calls -= 1


class PhaseRun:
    """The handlers of one phase while an event is in it.

    Attributes:
        run: The event on its way.
        part: What the phase calls.
    """

    __slots__ = ("_cancelled", "_kept", "_news", "_place", "_timers", "_waits", "part", "run")

    def __init__(self, run: EventRun, part: PhasePlan, cancelled: bool = False) -> None:
        self.run = run
        self.part = part
        self._cancelled = cancelled
        # What handlers are done with, in their places.
        self._kept: list[Any] = [None] * len(part.ids)
        # What handlers returned and nobody has looked at yet.
        self._news: Kept = ()
        self._place = len(part.ids)  # of the handler that is called next
        self._waits: dict[int, Deferred[Any]] = {}
        self._timers: dict[int, Timer] = {}

    # --- Calling handlers ---------------------------------------------------------------------

    def start(self) -> None:
        """Call the handlers of a concurrent phase, or make ready for those of a sequential one."""
        part, phase = self.part, self.part.phase
        if phase.timeout is not None:
            self._limit(_PHASE, phase.timeout, self._phase_timed_out)
        if phase.concurrent:
            self._news = part.loop(part.slots, self.run.result.event)
            self.run.parts.append((part.head, self._kept))
        else:
            self._place = 0
            self.run.parts.append(((phase.name, ()), self._kept))

    def take_over(self, kept: list[Any], called: int | None = None) -> None:
        """Take what handlers returned that were called already: a list that the result holds."""
        if called is not None:
            self._place = called
        self._news = kept[:called]
        kept[:] = self._kept
        self._kept = kept

    def proceed(self) -> bool:
        """Go on until a handler must be waited for; say whether the phase has ended."""
        if self._news:
            self._sort()
        while True:
            if self._waits:
                if not self._cancelled:
                    return False
                self._give_up(list(self._waits), _cancelled)
            elif self._place < len(self.part.ids):
                self._call_next()
            else:
                return True

    def _sort(self) -> None:
        news, self._news = self._news, ()
        if only_plain(news):
            self._kept[: len(news)] = news
        else:
            for place, value in enumerate(news):
                self._receive(place, value)

    def _call_next(self) -> None:
        part, place = self.part, self._place
        self._place = place + 1
        self.run.parts[-1] = ((part.phase.name, part.ids[: place + 1]), self._kept)
        self._receive(place, part.call_one(place, self.run.result.event))

    def _skip_rest(self) -> None:
        take_back_calls(self.part, self._place)
        self._place = len(self.part.ids)

    def end(self) -> None:
        """Leave the phase."""
        self._unlimit(_PHASE)

    # --- Results ------------------------------------------------------------------------------

    def _receive(self, place: int, value: Any) -> None:
        value = settled(value)
        if isinstance(value, Deferred):
            self._wait(place, value)
        else:
            self._keep(place, value)

    def _wait(self, place: int, deferred: Deferred[Any]) -> None:
        self._waits[place] = deferred
        deferred.addCallbacks(
            self.handler_ended, self.handler_failed, callbackArgs=(place,), errbackArgs=(place,)
        )
        seconds = self.part.registrations[place].timeout
        if seconds is not None and place in self._waits:
            self._limit(place, seconds, self._handler_timed_out, place, seconds)

    def _keep(self, place: int, value: Any) -> None:
        self._kept[place] = value
        if isinstance(value, Failure):
            self._failed(place, value)
        elif value is SKIPPED:  # not called, though the plan counted it
            self.part.registrations[place].calls -= 1

    def _failed(self, place: int, failure: Failure) -> None:
        part = self.part
        self.run.engine.counters["handler_failures"] += 1
        aborts = part.phase.on_error == "abort"
        if aborts:
            self.run.abort(part.phase.name)
            self._skip_rest()
        is_raised = aborts and not self.run.cancelled  # to whoever fired the event
        is_ours = self._cancelled and failure.check(CancelledError)
        if not is_raised and not is_ours:
            _log.failure(
                "{handler} failed in phase {phase}",
                failure=failure,
                handler=part.registrations[place],
                phase=part.phase.name,
            )

    # --- Waiting ------------------------------------------------------------------------------

    def handler_ended(self, value: Any, place: int) -> Any:
        """Take the result of a handler's Deferred."""
        if self._take(place):
            self._keep(place, value)
            self._go_on()
        else:
            _log.debug("{handler} ended after it was given up", handler=self._named(place))
        return value

    def handler_failed(self, failure: Failure, place: int) -> None:
        """Take the failure of a handler's Deferred."""
        if self._take(place):
            self._keep(place, failure)
            self._go_on()
        elif not failure.check(CancelledError):
            _log.failure(
                "{handler} failed after it was given up",
                failure=failure,
                handler=self._named(place),
            )

    def holds_up(self, place: int) -> bool:
        """Say whether the handler in this place is waited for."""
        return place in self._waits

    def waits_for(self) -> list[str]:
        """Name the handlers whose Deferreds have not fired."""
        return [self._named(place) for place in self._waits]

    def _take(self, place: int) -> bool:
        """End a wait; say whether it was still wanted."""
        self._unlimit(place)
        return self._waits.pop(place, None) is not None

    def _named(self, place: int) -> str:
        return str(self.part.registrations[place])

    def _go_on(self) -> None:
        if not self._waits:
            self.run.go_on()

    # --- Ends before the end ------------------------------------------------------------------

    def _limit(
        self, place: int, seconds: float, call: Callable[..., object], *args: object
    ) -> None:
        self._timers[place] = self.run.engine.clock.timer(seconds, call, *args)

    def _unlimit(self, place: int) -> None:
        timer = self._timers.pop(place, None)
        if timer is not None:
            timer.cancel()

    def _handler_timed_out(self, place: int, seconds: float) -> None:
        self._time_out([place], seconds)

    def _phase_timed_out(self) -> None:
        self._skip_rest()
        self._time_out(list(self._waits), self.part.phase.timeout or 0.0)

    def _time_out(self, places: list[int], seconds: float) -> None:
        self.run.engine.enter_thread()
        self._give_up(places, lambda handler, phase: HandlerTimeoutError(handler, phase, seconds))
        self._go_on()

    def cancel(self) -> None:
        """Call no more handlers, and give up those that must be waited for, now or later."""
        self._cancelled = True
        self._skip_rest()

    def _give_up(self, places: list[int], error: Callable[[str, str], Exception]) -> None:
        """Record handlers as failed at once, and cancel them. What they do later is dropped."""
        abandoned = [(place, self._waits[place]) for place in places]
        for place in places:
            self._take(place)
            self._keep(place, Failure(error(self._named(place), self.part.phase.name)))
        for place, deferred in abandoned:
            try:
                deferred.cancel()
            except Exception:
                _log.failure("cancelling {handler} failed", handler=self._named(place))
