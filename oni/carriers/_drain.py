"""Lets the connections of a process send: some in each reactor turn, so that no turn is long."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

__all__ = ["MAX_CARRIERS", "MAX_SECONDS", "Drain"]

_log = Logger()

#: So many connections send in one reactor turn,
MAX_CARRIERS = 500

#: and then for no more seconds than this.
MAX_SECONDS = 0.005

_CHECK = 15  # the clock is read once for so many connections, and one


class _Drained(Protocol):
    """What takes turns."""

    def flush(self) -> None:
        """Send what there is, as much as is fair."""

    def abort(self) -> None:
        """End: sending has failed."""


class Drain:
    """Gives turns to carriers, in the order in which they asked.

    What cannot have its turn in this reactor turn has it in the next one, after what came in
    meanwhile from the network.

    Attributes:
        due: Who waits for a turn; the hot path appends to it without a call.
        is_scheduled: Whether turns will be given.
        turns: Reactor turns in which turns were given, so far.
    """

    __slots__ = ("_reactor", "due", "is_scheduled", "turns")

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self.due: deque[_Drained] = deque()
        self.is_scheduled = False
        self.turns = 0

    def __len__(self) -> int:
        """Count the carriers that wait for a turn."""
        return len(self.due)

    def add(self, carrier: _Drained) -> None:
        """Let a carrier have a turn. It asks once, and again after its turn."""
        self.due.append(carrier)
        if not self.is_scheduled:
            self.schedule()

    def schedule(self) -> None:
        """Give turns in the next reactor turn."""
        self.is_scheduled = True
        self._reactor.callLater(0, self._run)

    # Hot: once per delivery. benchmarks/fanout.py.
    def _run(self) -> None:
        self.is_scheduled = False
        self.turns += 1
        due, seconds = self.due, self._reactor.seconds
        end = seconds() + MAX_SECONDS
        for number in range(min(len(due), MAX_CARRIERS)):
            carrier = due.popleft()
            try:
                carrier.flush()
            except Exception:  # noqa: BLE001 - one connection's fault must not reach the others
                _log.failure("a connection could not be written to")
                carrier.abort()
            if number & _CHECK == _CHECK and seconds() > end:
                break
        if due and not self.is_scheduled:
            self.schedule()
