"""Waiting for a dispatcher to be quiescent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni.dispatcher._frames import Frame, ancestors, current_frame
from oni.errors import StopTimeoutError

if TYPE_CHECKING:
    from oni.dispatcher._engine import Engine

__all__ = ["Stops"]

_log = Logger()


class _Stop:
    """Somebody who called ``stop``, and the events that the call was made from."""

    __slots__ = ("callers", "deferred", "timer")

    def __init__(self, callers: frozenset[Frame]) -> None:
        self.callers = callers
        self.deferred: Deferred[None] = Deferred()
        self.timer: Any = None


class Stops:
    """Those who wait for the end of a dispatcher."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
        self.check()
        return stop.deferred

    def check(self) -> None:
        """Fire for those who see nothing of what they wait for any more."""
        if self._engine.turns.waiting:
            return
        for stop in self.waiting.copy():
            if all(frame in stop.callers for frame in self._engine.frames()):
                self._finish(stop)

    def _finish(self, stop: _Stop, error: Exception | None = None) -> None:
        self.waiting.remove(stop)
        if stop.timer is not None:
            stop.timer.cancel()
        self._engine.set_stopped()
        if error is None:
            stop.deferred.callback(None)
        else:
            stop.deferred.errback(error)

    def _give_up(self, stop: _Stop, seconds: float) -> None:
        if stop not in self.waiting:
            return
        engine = self._engine
        engine.enter_thread()
        runs = [run for lane in engine.turns.crowded() for run in lane.waiting]
        runs += [f.run for f in engine.frames() if f not in stop.callers and f.run is not None]
        hung = [run.pending() for run in runs]
        names = "; ".join(f"{run.describe()} waiting for {run.waits_for()}" for run in runs)
        _log.error(
            "{count} event(s) did not end within {seconds} s of stop and are cancelled: {names}",
            count=len(hung),
            seconds=seconds,
            names=names,
        )
        for run in runs:
            run.abandon()
        if stop in self.waiting:
            self._finish(stop, StopTimeoutError(seconds, hung))
