"""Places in a worker's work at which it can be made to die, or to wait."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Lock

from tests.integration.kill_harness.history import History

__all__ = ["POINTS", "Points"]

POINTS = {
    "P0": "claim.before",
    "P1": "claim.written",
    "P2": "claim.committed",
    "P3": "book.begun",
    "P4": "mail.sent",
    "P5": "book.written",
    "P6": "complete.written",
    "P7": "complete.committed",
    "P8": "rescue.written",
    "P9": "prune.written",
    "P10": "tables.half",
    "P11": "admit.committed",
    "P12": "relay.admitted",
}
"""The points that have a name in the ledger's tests. ``book``, ``mail`` and ``pay`` are handlers;
the other words in front are the steps of a transaction: before it, written but not committed, and
committed."""

_STEP = 0.01  # seconds


class Points:
    """Counts how often a worker comes by a point, and ends or holds it there.

    Attributes:
        armed: Which point it is.

    Args:
        history: Where it is written when that happens.
        armed: Which point; ``""`` for none.
        nth: At which time of coming by.
        hold: A file. If it is given, the worker does not die: the thread waits until it is there.
    """

    def __init__(
        self, history: History, armed: str = "", nth: int = 1, hold: Path | None = None
    ) -> None:
        self._history = history
        self.armed = armed
        self._nth = nth
        self._hold = hold
        self._lock = Lock()
        self._passed = 0

    def hit(self, name: str) -> None:
        """Come by a point, in whatever thread."""
        if name != self.armed:
            return
        with self._lock:
            self._passed += 1
            if self._passed != self._nth:
                return
        if self._hold is None:
            self._history.add("killed", victim=os.getpid(), point=name)
            os.kill(os.getpid(), signal.SIGKILL)
        self._history.add("held", point=name)
        while not (self._hold and self._hold.exists()):
            time.sleep(_STEP)
        self._history.add("let go", point=name)
