"""Many ends, each at a time of its own, on one delayed call of the reactor's."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oni.server._end import End

__all__ = ["Expiries", "Expiry"]

_MAX_CALLS = 500  # so many end in one reactor turn, at most; the next ones in the next
_FEW = 64  # cancelled ones that are not worth a sweep


class Expiry(End):
    """One end, at a time of its own."""

    __slots__ = ()


class Expiries:
    """Ends, the nearest first.

    Args:
        reactor: The clock.
    """

    __slots__ = ("_call", "_cancelled", "_heap", "_is_ending", "_numbers", "_reactor")

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._heap: list[tuple[float, int, Expiry]] = []
        self._numbers = count()  # of two at the same time, the first to be added comes first
        self._cancelled = 0
        self._call: IDelayedCall | None = None
        self._is_ending = False

    def __len__(self) -> int:
        """Count those to come."""
        return len(self._heap) - self._cancelled

    def add(self, seconds: float, call: Callable[[], object]) -> Expiry:
        """Call something after so many seconds."""
        expiry = Expiry(self, call)
        at = self._reactor.seconds() + seconds
        heappush(self._heap, (at, next(self._numbers), expiry))
        if self._heap[0][2] is expiry:
            self._wait()
        return expiry

    def tidy(self) -> None:
        """Note that one was cancelled. They are swept out when they are half of all."""
        self._cancelled += 1
        if self._cancelled > _FEW and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].is_over]
            heapify(self._heap)
            self._cancelled = 0
        self._wait()

    def _wait(self) -> None:
        """Let the one delayed call be at the nearest end, and none where there is none."""
        if self._is_ending:
            return
        heap = self._heap
        while heap and heap[0][2].is_over:
            heappop(heap)
            self._cancelled -= 1
        due = self._call
        if not heap:
            if due is not None:
                due.cancel()
                self._call = None
        elif due is None:
            self._call = self._reactor.callLater(self._left(), self._end_due)
        elif due.getTime() > heap[0][0]:
            due.reset(self._left())

    def _left(self) -> float:
        return max(self._heap[0][0] - self._reactor.seconds(), 0.0)

    def _end_due(self) -> None:
        self._call = None
        self._is_ending = True
        now, number = self._reactor.seconds(), 0
        heap = self._heap
        try:
            while heap and number < _MAX_CALLS and (heap[0][0] <= now or heap[0][2].is_over):
                number += 1
                expiry = heappop(heap)[2]
                if expiry.is_over:
                    self._cancelled -= 1
                expiry.come()
                heap = self._heap
        finally:
            self._is_ending = False
            self._wait()
