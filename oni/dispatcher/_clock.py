"""Time limits: a reactor's delayed calls, asked for from whichever thread uses the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.python import threadable

import oni._clock

__all__ = ["Clock", "Timer"]


class Clock(oni._clock.Clock):
    """Sets timers in the reactor's thread from whichever thread."""

    __slots__ = ()

    def timer(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        """Call something in the reactor's thread after so many seconds."""
        return Timer(self.reactor, delay, call, args)


class Timer:
    """One delayed call that may be made and cancelled from outside the reactor's thread."""

    __slots__ = ("_args", "_call", "_cancelled", "_delayed", "_reactor")

    def __init__(
        self, reactor: Any, delay: float, call: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self._reactor = reactor
        self._call = call
        self._args = args
        self._cancelled = False
        self._delayed: IDelayedCall | None = None
        self._in_reactor(self._start, delay)

    def cancel(self) -> None:
        """Call it no more. Nothing happens if it was called already."""
        self._cancelled = True
        self._in_reactor(self._stop)

    def _in_reactor(self, call: Callable[..., object], *args: Any) -> None:
        io_thread: int | None = cast("int | None", threadable.ioThread)
        if io_thread in (None, get_ident()) or not IReactorFromThreads.providedBy(self._reactor):
            call(*args)
        else:
            self._reactor.callFromThread(call, *args)

    def _start(self, delay: float) -> None:
        if not self._cancelled:
            self._delayed = self._reactor.callLater(delay, self._fire)

    def _stop(self) -> None:
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None

    def _fire(self) -> None:
        self._delayed = None
        if not self._cancelled:
            self._call(*self._args)
