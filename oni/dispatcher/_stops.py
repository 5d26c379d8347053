"""Waiting for a dispatcher to be quiescent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni._text import few
from oni.dispatcher._clock import Timer
from oni.dispatcher._frames import Frame, ancestors, current_frame
from oni.dispatcher._pending import Unfinished, describe, run_of, unfinished
from oni.errors import StopTimeoutError

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["Stops"]

_log = Logger()


class _Stop:
    """Somebody who called ``stop``, and the events that the call was made from."""

    __slots__ = ("callers", "deferred", "timer", "warning")

    def __init__(self, callers: frozenset[Frame]) -> None:
        self.callers = callers
        self.deferred: Deferred[None] = Deferred()
        self.timer: Timer | None = None
        self.warning: Timer | None = None


class Stops:
    """Those who wait for the end of a dispatcher."""

    def __init__(self, engine: Engine, stall_warning: float | None) -> None:
        self._engine = engine
        self._stall_warning = stall_warning
        self.waiting: list[_Stop] = []

    def add(self, timeout: float | None) -> Deferred[None]:
        """Wait until nothing runs but the events that this is called from."""
        callers = frozenset(
            frame for frame in ancestors(current_frame.get()) if frame.engine is self._engine
        )
        stop = _Stop(callers)
        self.waiting.append(stop)
        self._engine.consider()
        if timeout is not None:
            stop.timer = self._engine.clock.timer(timeout, self._give_up, stop, timeout)
        for frame in callers:
            if frame.run is not None:
                frame.run.give_turn_away()
        self.check()
        if stop in self.waiting and self._stall_warning is not None:
            stop.warning = self._engine.clock.timer(
                self._stall_warning, self._warn, stop, self._stall_warning
            )
        return stop.deferred

    def are_called_from(self, frame: Frame | None) -> bool:
        """Say whether somebody called ``stop`` from this event, and still waits.

        What is queued behind it has to end before the stop does, so it gives its turn away.
        """
        return any(frame in stop.callers for stop in self.waiting)

    def check(self) -> None:
        """Fire for those who see nothing of what they wait for any more."""
        while self.waiting and (stop := self._next()) is not None:
            self._leave(stop)
            self._engine.set_stopped()
            stop.deferred.callback(None)

    def _next(self) -> _Stop | None:
        """Give one that waits for nothing, or else for no event but those that wait for it.

        Where events stop from inside, each waits for the others. The oldest of them may go on,
        and the others wait for its event like any other.
        """
        engine = self._engine
        if engine.turns.waiting:
            return None
        running = frozenset(engine.frames())
        for stop in self.waiting:
            if stop.callers >= running:
                return stop
        if frozenset().union(*(stop.callers for stop in self.waiting)) >= running:
            return next(stop for stop in self.waiting if stop.callers & running)
        return None

    def _leave(self, stop: _Stop) -> None:
        self.waiting.remove(stop)
        for timer in (stop.timer, stop.warning):
            if timer is not None:
                timer.cancel()
        self._engine.consider()

    def _warn(self, stop: _Stop, seconds: float) -> None:
        _log.warn(
            "stop has waited over {seconds} s for {count} event(s): {names}",
            seconds=seconds,
            **self._named(self._awaited(stop)),
        )

    def _awaited(self, stop: _Stop) -> list[Unfinished]:
        return [each for each in unfinished(self._engine) if each not in stop.callers]

    def _named(self, events: list[Unfinished]) -> dict[str, Any]:
        runs = [run for each in events if (run := run_of(each)) is not None]
        names = few("; ", (f"{r.describe()} waits for {few(', ', r.waits_for())}" for r in runs))
        return {"count": len(events), "names": names or "one that is being called"}

    def _give_up(self, stop: _Stop, seconds: float) -> None:
        engine = self._engine
        engine.enter_thread()
        self._leave(stop)
        hung = self._awaited(stop)
        runs = [run for each in hung if (run := run_of(each)) is not None]
        error = StopTimeoutError(seconds, [describe(each, engine) for each in hung])
        _log.error(
            "{count} event(s) did not end within {seconds} s of stop and are cancelled: {names}",
            seconds=seconds,
            **self._named(hung),
        )
        engine.set_stopped()  # from now on nothing is nested in them
        for run in runs:
            run.condemn()
        for run in sorted(runs, key=lambda run: run.frame is not None):  # the queued ones first
            run.abandon()
        stop.deferred.errback(error)
