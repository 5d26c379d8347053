"""How many websockets may be opened in a second: after a restart all clients come at once."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from oni._pace import Pace

__all__ = ["Admission"]

_BURST = 0.1  # seconds; what is admitted in that time may come at once
_LONGEST = 60  # seconds after which everyone is told to come back, at most


class Admission:
    """Admits as many as the server can greet, and tells the others when to come back.

    Those that are refused are told different times, one second after the other, each for as many
    as are admitted in it; so they do not all come back at once.

    Args:
        rate: So many in a second.
        seconds: The clock.
    """

    def __init__(self, rate: float, seconds: Callable[[], float]) -> None:
        self._pace = Pace(rate, max(rate * _BURST, 1.0))
        self._seconds = seconds
        self._paid_at = 0.0
        self._expected_until = 0.0
        self._refused = 0

    def admit(self) -> int:
        """Admit one, or do not.

        Returns:
            0, or the seconds after which it may come back.
        """
        now = self._seconds()
        paid_at = self._pace.spend(self._paid_at, now)
        if self._pace.wait(paid_at, now) <= 0:
            self._paid_at = paid_at
            return 0
        self._refused += 1
        self._expected_until = self._pace.spend(self._expected_until, now)
        return min(max(ceil(self._expected_until - now), 1), _LONGEST)

    def statistics(self) -> dict[str, int]:
        """Give the counter ``handshakes_refused``."""
        return {"handshakes_refused": self._refused}
