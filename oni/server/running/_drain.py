"""Send the clients away, some at a time, so that they do not all come back at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from math import ceil
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from oni.protocol import CloseCode

__all__ = ["SessionDrain"]

_log = Logger()
_INTERVAL = 0.1  # seconds between two batches
_FEW = 20  # sessions that are always closed at once


class SessionDrain(Service):
    """Closes all sessions when it stops: in random order, in batches, over a window.

    Each is told ``3001 shutdown``: a client then comes back after a while that it draws by lot.
    A session that has not had its turn works as before. One that waits for an answer is closed
    when it has it, or when the window is over.

    Args:
        sessions: Gives the sessions.
        turn_away: Is called first: from then on who comes is sent away at once.
        window: Seconds over which they are closed.
        clock: An ``IReactorTime``.
        shuffle: Puts a list into random order.
    """

    name = "drain"

    def __init__(
        self,
        sessions: Callable[[], Collection[Any]],
        turn_away: Callable[[], object],
        window: float,
        clock: Any,
        shuffle: Callable[[list[Any]], object] = random.shuffle,
    ) -> None:
        self._sessions = sessions
        self._turn_away = turn_away
        self._window = window
        self._clock = clock
        self._shuffle = shuffle
        self._waiting: list[Any] = []
        self._batch = _FEW
        self._timer: IDelayedCall | None = None
        self._done: Deferred[None] | None = None
        self._until = 0.0

    def stopService(self) -> Deferred[None]:
        """Close them.

        Returns:
            A Deferred that fires with None when each has been told. Cancelling it leaves the rest
            to whoever closes them otherwise: it fires at once.
        """
        if not self.running:
            return succeed(None)
        super().stopService()
        self._turn_away()
        self._waiting = list(self._sessions())
        if not self._waiting:
            return succeed(None)
        self._shuffle(self._waiting)
        count = len(self._waiting)
        _log.info("{count} clients are asked to come back", count=count)
        batches = max(int(self._window / _INTERVAL), 1)
        self._batch = max(_FEW, ceil(count / batches))
        self._until = self._clock.seconds() + self._window
        done: Deferred[None] = Deferred(lambda _: self._end())
        self._done = done
        self._close_some()
        return done

    def _close_some(self) -> None:
        self._timer = None
        is_over = self._clock.seconds() >= self._until
        count = len(self._waiting) if is_over else self._batch
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        for session in batch:
            if session.is_busy and not is_over:
                self._waiting.append(session)
                continue
            try:
                session.close(CloseCode.SHUTDOWN)
            except Exception:  # noqa: BLE001 - one connection's fault must not keep the others
                _log.failure("a session could not be closed")
        if self._waiting:
            self._timer = self._clock.callLater(_INTERVAL, self._close_some)
        else:
            self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done, self._done = self._done, None
        if done is not None and not done.called:
            done.callback(None)
