"""The time, on a reactor that is asked for when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Clock"]


class Clock:
    """Tells the time and sets timers, on the global reactor where none is given."""

    __slots__ = ("_reactor",)

    def __init__(self, reactor: IReactorTime | None = None) -> None:
        self._reactor = reactor

    @property
    def reactor(self) -> Any:
        """The reactor. Asking for the global one installs the default one if there is none."""
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = IReactorTime(reactor)
        return self._reactor

    def seconds(self) -> float:
        """Give the reactor's time in seconds."""
        return float(self.reactor.seconds())

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> IDelayedCall:
        """Call something after so many seconds. Only in the reactor's thread."""
        delayed: IDelayedCall = self.reactor.callLater(delay, call, *args)
        return delayed
