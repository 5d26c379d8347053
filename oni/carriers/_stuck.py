"""Finds connections that do not take what they were sent, or a byte now and then."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["StuckReaders"]


class _Reader(Protocol):
    """What may be stuck."""

    def is_stuck(self) -> None:
        """End: it takes too little."""


class StuckReaders:
    """The connections in which bytes wait, the longest-waiting first.

    A connection is in here from when its transport takes no more until everything that waited has
    left. What waits there is bounded (one flush), so a reader that stays in here for too long
    takes fewer bytes than that in this time, however alive it looks. One delayed call serves all.

    Args:
        reactor: The clock.
        seconds: How long bytes may wait.
        limited: Counts how often they waited for longer, as ``slow``.
    """

    def __init__(
        self, reactor: IReactorTime, seconds: float, limited: Counter[str] | None = None
    ) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._limited: Counter[str] = Counter() if limited is None else limited
        self._since: dict[_Reader, float] = {}
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self._since)

    def add(self, reader: _Reader) -> None:
        """Begin to wait for a connection, if that has not begun."""
        if reader not in self._since:
            self._since[reader] = self._reactor.seconds()
            if self._call is None:
                self._call = self._reactor.callLater(self._seconds, self._look)

    def remove(self, reader: _Reader) -> None:
        """Wait for it no more: it is clean, or has ended."""
        if self._since.pop(reader, None) is not None and not self._since:
            self._stop()

    def _look(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        overdue = []
        for reader, since in self._since.items():
            if since + self._seconds > now:
                self._call = self._reactor.callLater(since + self._seconds - now, self._look)
                break
            overdue.append(reader)
        for reader in overdue:
            if self._since.pop(reader, None) is not None:
                self._limited["slow"] += 1
                reader.is_stuck()
        if not self._since:
            self._stop()

    def _stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
