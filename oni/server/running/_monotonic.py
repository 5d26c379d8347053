"""Let the reactor's timers run on a clock that does not jump.

Twisted's reactor takes ``time.time`` for its clock. When the machine's date is corrected, timers
of hours end at once, or those of seconds take hours.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

__all__ = ["run_on_monotonic_time"]


def run_on_monotonic_time(reactor: Any, seconds: Callable[[], float] = monotonic) -> None:
    """Let a reactor measure intervals by another clock; what it waits for already goes on.

    It is for the daemon's process alone, before its reactor runs: ``reactor.seconds()`` is no
    date any more. Who wants the date asks ``time.time()``.

    Args:
        reactor: A reactor of Twisted's. Each of them reads its clock through ``seconds``.
        seconds: The clock.
    """
    if reactor.seconds is seconds:
        return
    left = [(call, call.getTime() - reactor.seconds()) for call in reactor.getDelayedCalls()]
    reactor.seconds = seconds
    for call, wait in left:
        call.seconds = seconds
        call.reset(max(wait, 0.0))
