"""The last resort: a process that was told to end does end.

Twisted waits for stopping services; Python waits for threads, as those of a thread pool; and a
handler that never returns to the reactor lets nothing stop at all. None of that may keep a
daemon from ending.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["ExitDeadline"]


def _end_process_after(seconds: float) -> None:
    """Say after that time what every thread is doing, on standard error, and exit with 1.

    It is a thread of the interpreter's own, which works even if Python code never runs again.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)


class ExitDeadline:
    """Ends the process, if it has not ended by itself some time after it was told to.

    Args:
        seconds: How long that may take.
        end_process_after: What ends it.
    """

    def __init__(
        self, seconds: float, end_process_after: Callable[[float], None] = _end_process_after
    ) -> None:
        self._seconds = seconds
        self._end_process_after = end_process_after
        self._begun = False

    def begin(self) -> None:
        """Start to count. Only the first call does."""
        if not self._begun:
            self._begun = True
            self._end_process_after(self._seconds)

    def watch_signals(self) -> None:
        """Begin when SIGTERM or SIGINT comes, before the reactor's own handler acts.

        So it also counts where the reactor is busy and never hears of the signal. Call it in the
        main thread, after the reactor has installed its handlers.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, self._begin_then(handler))

    def _begin_then(self, handler: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
        def begin_then_handle(number: int, frame: Any) -> Any:
            self.begin()
            return handler(number, frame)

        return begin_then_handle
