"""What sessions count as they go: once for a connection or a command, never for a delivery."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any

__all__ = ["Histogram", "Tally"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NUMBERS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 300)
# What a client may say in closing is its own choice: others together have one place.
_CLIENTS_CODES = frozenset((1000, 1001, 1005, 1006))
_VANISHED = 1006  # RFC 6455 7.4.1: closed without a close frame


class Histogram:
    """Counts values by their size.

    Attributes:
        bounds: The upper bounds, included, of all classes but the last one, which has none.
        counts: How many values there were in each class.
        total: Their sum.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, once or several times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Tally:
    """The counters of one Oni's sessions.

    Attributes:
        connections: Sessions that were begun, by carrier.
        disconnects: Sessions that ended, by the code that was said.
        commands: Commands that were begun, by method.
        errors: Commands that were answered with an error, by method and code.
        seconds: How long commands took, from their beginning to their answer.
        recoveries: Clients that asked for what they missed, by whether they got it and whether
            there was anything.
        recovered: How many publications each of them got with the answer.
        limited: How often somebody was held back or refused, by the limit.
        bytes_in: Bytes of the messages that came from clients.
        lag: How late the reactor was.
        stalls: How often it did not turn for long.
    """

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        self.disconnects: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.seconds = Histogram(_SECONDS)
        self.recoveries: Counter[tuple[str, str]] = Counter()
        self.recovered = Histogram(_NUMBERS)
        self.limited: Counter[str] = Counter()
        self.bytes_in = 0
        self.lag = Histogram(_SECONDS)
        self.stalls = 0

    def ended(self, code: int, carrier: Any) -> None:
        """Count a session that has ended.

        Args:
            code: What the session said to its client, 0 for nothing.
            carrier: Its connection: it may know what else was said.
        """
        if code:
            self.disconnects[str(code)] += 1
            return
        # Autobahn keeps what was said. An event stream has no codes: it just ends.
        said = getattr(carrier, "localCloseCode", None)
        heard = getattr(carrier, "remoteCloseCode", None)
        if said is not None and heard is None:
            self.disconnects[str(said)] += 1
            return
        code = _VANISHED if heard is None else heard
        self.disconnects[str(code) if code in _CLIENTS_CODES else "other"] += 1

    def subscribed(self, result: Any) -> None:
        """Count what a client that came back is told.

        Args:
            result: An :class:`oni.protocol.SubscribeResult`.
        """
        if result.was_recovering:
            number = len(result.publications)
            self.recoveries["yes" if result.recovered else "no", "no" if number else "yes"] += 1
            if result.recovered:
                self.recovered.observe(number)
