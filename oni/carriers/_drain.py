"""Lets the connections of a process send: some in each reactor turn, so that no turn is long."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from oni.interfaces import ITurns

__all__ = ["MAX_CARRIERS", "MAX_SECONDS", "TURN", "Drain", "drain_on"]

_log = Logger()

#: So many connections send in one reactor turn,
MAX_CARRIERS = 500

#: and then for no more seconds than this.
MAX_SECONDS = 0.005

#: So many bytes one subscription sends before the next one's turn.
TURN = 16 * 1024

_CHECK = 16  # the clock is read once for so many connections
_drains: WeakKeyDictionary[Any, Drain] = WeakKeyDictionary()


class _Drained(Protocol):
    """What takes turns."""

    def flush(self) -> None:
        """Send what there is, as much as is fair."""

    def abort(self) -> None:
        """End: sending has failed."""


class _Crowd(Protocol):
    """Many that have the same to send."""

    def __len__(self) -> int:
        """Count them."""

    def give(self, number: int, alone: bool) -> bool:
        """Let the next so many send, and say whether there are more."""


@implementer(ITurns)
class Drain:
    """Gives turns to crowds of carriers, then to single ones, in the order in which they asked.

    What cannot have its turn in this reactor turn has it in the next one, after what came in
    meanwhile from the network. Crowds leave up to a half of it to single carriers.

    Attributes:
        due: Who waits for a turn; the hot path appends to it without a call.
        crowds: Who waits for a turn together.
        is_scheduled: Whether turns will be given.
        turns: Reactor turns in which turns were given, so far.
    """

    __slots__ = ("_reactor", "crowds", "due", "is_scheduled", "turns")

    turn_bytes = TURN

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self.due: deque[_Drained] = deque()
        self.crowds: deque[_Crowd] = deque()
        self.is_scheduled = False
        self.turns = 0

    def __len__(self) -> int:
        """Count the carriers that wait for a turn."""
        return len(self.due) + sum(map(len, self.crowds))

    def add(self, carrier: _Drained) -> None:
        """Let a carrier have a turn. It asks once, and again after its turn."""
        self.due.append(carrier)
        if not self.is_scheduled:
            self.schedule()

    def invite(self, crowd: _Crowd) -> None:
        """See :class:`oni.interfaces.ITurns`."""
        self.crowds.append(crowd)
        if not self.is_scheduled:
            self.schedule()

    def schedule(self) -> None:
        """Give turns in the next reactor turn."""
        self.is_scheduled = True
        self._reactor.callLater(0, self._run)

    def _run(self) -> None:
        self.is_scheduled = False
        self.turns += 1
        begun = self._reactor.seconds()
        most = MAX_CARRIERS
        if self.crowds:
            for_crowds = most - min(len(self.due), most // 2)
            end = begun + MAX_SECONDS * for_crowds / most
            most -= self._give_crowds(for_crowds, end)
        self._give_carriers(most, begun + MAX_SECONDS)
        if (self.due or self.crowds) and not self.is_scheduled:
            self.schedule()

    def _give_crowds(self, most: int, end: float) -> int:
        """Give turns to crowds, to so many carriers at most; say to how many.

        Each reactor turn begins with another crowd. Those whom it finds with replies leave both
        together, in their own turn.
        """
        crowds, seconds = self.crowds, self._reactor.seconds
        left = most
        while crowds and left > 0:
            crowd = crowds.popleft()
            more = True
            while more and left > 0:
                number = min(_CHECK, left, len(crowd) or 1)
                try:
                    more = crowd.give(number, not crowds)
                except Exception:  # noqa: BLE001 - the others must not wait for ever
                    _log.failure("some of a crowd were passed over")
                left -= number
                if seconds() > end:
                    most, left = most - left, 0
            if more:
                crowds.append(crowd)
        return most - left

    def _give_carriers(self, most: int, end: float) -> None:
        """Give turns to those who are due now, so many at most."""
        due, seconds = self.due, self._reactor.seconds
        for number in range(1, min(len(due), most) + 1):
            carrier = due.popleft()
            try:
                carrier.flush()
            except Exception:  # noqa: BLE001 - one connection's fault must not reach the others
                _log.failure("a connection could not be written to")
                carrier.abort()
            if number % _CHECK == 0 and seconds() > end:
                break


def drain_on(reactor: IReactorTime) -> Drain:
    """Give the drain of those that do not send directly: one for each reactor."""
    drain = _drains.get(reactor)
    if drain is None:
        drain = _drains[reactor] = Drain(reactor)
    return drain
