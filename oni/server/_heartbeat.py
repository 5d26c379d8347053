"""Asks a client now and then whether it is still there."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Heartbeat"]


class Heartbeat:
    """Pings at an interval; whatever comes after a ping is an answer to it."""

    def __init__(
        self,
        reactor: IReactorTime,
        interval: float,
        timeout: float,
        ping: Callable[[], object],
        on_silence: Callable[[], object],
    ) -> None:
        """Wait to be started.

        Args:
            reactor: The clock.
            interval: Seconds between two pings.
            timeout: Seconds in which an answer must come.
            ping: Sends a ping.
            on_silence: Is called when no answer has come.
        """
        self._reactor = reactor
        self._interval = interval
        self._timeout = timeout
        self._ping = ping
        self._on_silence = on_silence
        self._heard = False
        self._calls: list[IDelayedCall] = []

    def start(self) -> None:
        """Send the first ping after an interval."""
        self._calls = [self._reactor.callLater(self._interval, self._beat)]

    def hear(self) -> None:
        """Note that the client is there."""
        self._heard = True

    def stop(self) -> None:
        """Ask no more."""
        calls, self._calls = self._calls, []
        for call in calls:
            if call.active():
                call.cancel()

    def _beat(self) -> None:
        self._heard = False
        # What is called may stop us, so it comes last.
        self._calls = [
            self._reactor.callLater(self._interval, self._beat),
            self._reactor.callLater(self._timeout, self._check),
        ]
        self._ping()

    def _check(self) -> None:
        if not self._heard:
            self._on_silence()
