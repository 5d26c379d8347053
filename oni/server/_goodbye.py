"""Wait, at the daemon's end, for connections that were told to close.

A close frame only waits in a buffer when it was sent. If the reactor ended now, the client would
hear nothing of it: neither that it shall come back, nor when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall

__all__ = ["Goodbye"]

_INTERVAL = 0.02  # seconds between two looks


class Goodbye(Service):
    """Stops when there are no more connections.

    Each connection has a time limit of its own to close, so this ends by itself.

    Args:
        count: Says how many there are.
        clock: An ``IReactorTime``.
    """

    name = "connections"

    def __init__(self, count: Callable[[], int], clock: Any) -> None:
        self._count = count
        self._clock = clock

    def stopService(self) -> Deferred[None]:
        """Wait for the last one.

        Returns:
            A Deferred that fires with None. Cancelling it ends the wait: it fires at once.
        """
        super().stopService()
        if not self._count():
            return succeed(None)
        looking = LoopingCall(self._look)
        looking.clock = self._clock
        gone: Deferred[None] = Deferred(lambda _: looking.stop())
        looking.start(_INTERVAL, now=False).addCallbacks(
            lambda _: gone.callback(None), gone.errback
        )
        self._looking = looking
        return gone

    def _look(self) -> None:
        if not self._count():
            self._looking.stop()
