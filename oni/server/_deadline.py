"""The last resort: a process that was told to end does end.

Twisted waits for stopping services; Python waits for threads, as those of a thread pool; and a
handler that never returns to the reactor lets nothing stop at all. None of that may keep a
daemon from ending.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from oni.server.running._logs import end_log
from oni.server.running._stacks import stack_lines

__all__ = ["GIVEN_UP", "ExitDeadline", "leave"]

#: The exit code of a daemon that had to give something up (``EX_TEMPFAIL`` of ``sysexits.h``).
GIVEN_UP = 75

_LAST_WORD = 1.0  # seconds in which it is said what hung
_SAME = 0.25  # seconds within which a second signal is the first one, sent to a whole group


def leave(code: int) -> None:
    """End the process at once, but for what the log still holds."""
    end_log()
    os._exit(code)


def _say_stacks(why: str) -> None:
    """Write on standard error what every thread is doing. It may block for ever."""
    text = "\n".join([why, *stack_lines(), ""])
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode("utf-8", "replace"))


def _give_up(why: str) -> None:
    """Say what every thread is doing, if somebody listens, and end."""
    said = threading.Thread(target=_say_stacks, args=(why,), daemon=True)
    said.start()
    said.join(_LAST_WORD)
    leave(GIVEN_UP)


def _end_process_after(seconds: float) -> None:
    """End the process after that time, whatever it does then."""
    why = f"Oni has not ended {seconds:g} s after it was told to, and is ended. Its threads:"
    timer = threading.Timer(seconds, _give_up, [why])
    timer.daemon = True
    timer.start()
    # Where not even Python's threads run any more, the interpreter's own one still does.
    later = seconds + 2 * _LAST_WORD + 1.0
    faulthandler.dump_traceback_later(later, exit=True, file=sys.__stderr__ or 2)


def _end_process_now() -> None:
    """End the process now: somebody has asked twice."""
    _give_up("Oni was told to end a second time, and ends at once. Its threads:")


class ExitDeadline:
    """Ends the process, if it has not ended by itself some time after it was told to.

    Args:
        seconds: How long that may take.
        end_process_after: What ends it.
        end_process_now: What ends it at a second signal.
        clock: Gives the time.
    """

    def __init__(
        self,
        seconds: float,
        end_process_after: Callable[[float], object] = _end_process_after,
        end_process_now: Callable[[], object] = _end_process_now,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._seconds = seconds
        self._end_process_after = end_process_after
        self._end_process_now = end_process_now
        self._clock = clock
        self._begun = False
        self._signalled_at: float | None = None

    def begin(self) -> None:
        """Start to count. Only the first call does."""
        if not self._begun:
            self._begun = True
            self._end_process_after(self._seconds)

    def watch_signals(self) -> None:
        """Begin when SIGTERM or SIGINT comes, before the reactor's own handler acts.

        So it also counts where the reactor is busy and never hears of the signal. A second signal
        ends the process at once. Call it in the main thread, after the reactor has installed its
        handlers.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, self._begin_then(handler))

    def _begin_then(self, handler: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
        def begin_then_handle(number: int, frame: Any) -> Any:
            now = self._clock()
            if self._signalled_at is None:
                self._signalled_at = now
            elif now - self._signalled_at > _SAME:
                self._end_process_now()
            else:
                return None  # the reactor, which already stops, would only complain
            self.begin()
            return handler(number, frame)

        return begin_then_handle
