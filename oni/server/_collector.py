"""The garbage collector, set for a server.

Nearly everything goes by reference counts. What is left to the collector is little, but it looks
for it among all objects that there are, again and again while connections come, and stops the
process meanwhile. So it looks less often here, and not at what stays anyway. This changes the
whole process; that is why only the daemon does it.
"""

from __future__ import annotations

import gc

from oni.server._collector_settings import CollectorSettings

__all__ = ["Collector"]

# So many looks at the youngest come before one at the next older ones, and so many of those before
# one at all; then Python still waits until a quarter more has become old.
_OLDER, _ALL = 5, 20


class Collector:
    """Sets Python's garbage collector, and takes it back.

    Args:
        settings: How.
    """

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._before: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """Begin, when everything has started. The second time, nothing happens."""
        if self._before is not None:
            return
        self._before = gc.get_threshold()
        if self._settings.freeze:
            gc.collect()
            gc.freeze()
        if self._settings.young:
            gc.set_threshold(self._settings.young, _OLDER, _ALL)

    def end(self) -> None:
        """Let it be as it was before. Nothing happens where it has not begun."""
        before, self._before = self._before, None
        if before is not None:
            gc.set_threshold(*before)
            if self._settings.freeze:
                gc.unfreeze()
