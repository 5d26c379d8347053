"""Asks a client now and then whether it is still there."""

from __future__ import annotations

from collections.abc import Callable

from oni.server._timers import Timer, Timers

__all__ = ["Heartbeat"]


class Heartbeat:
    """Pings at an interval; whatever comes after a ping is an answer to it.

    Args:
        pings: Timers that take the time between two pings.
        pongs: Timers that take the time in which an answer must come.
        ping: Sends a ping.
        on_silence: Is called when no answer has come.
    """

    __slots__ = ("_heard", "_next", "_on_silence", "_ping", "_pings", "_pong", "_pongs")

    def __init__(
        self,
        pings: Timers,
        pongs: Timers,
        ping: Callable[[], object],
        on_silence: Callable[[], object],
    ) -> None:
        self._pings = pings
        self._pongs = pongs
        self._ping = ping
        self._on_silence = on_silence
        self._heard = False
        self._next: Timer | None = None
        self._pong: Timer | None = None

    def start(self) -> None:
        """Send the first ping after an interval."""
        self._next = self._pings.add(self._beat)

    def hear(self) -> None:
        """Note that the client is there."""
        self._heard = True

    def stop(self) -> None:
        """Ask no more."""
        for timer in (self._next, self._pong):
            if timer is not None:
                timer.cancel()
        self._next = self._pong = None

    def _beat(self) -> None:
        self._heard = False
        # What is called may stop us, so it comes last.
        self._next = self._pings.add(self._beat)
        self._pong = self._pongs.add(self._check)
        self._ping()

    def _check(self) -> None:
        if not self._heard:
            self._on_silence()
