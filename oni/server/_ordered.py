"""Services that are started in order, and stopped in the opposite order, one at a time."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["OrderedServices"]

_log = Logger()
_HURRY = 0.5  # seconds that a service still gets after it was cancelled


class OrderedServices(Service):
    """Some services as one, where the order matters.

    Twisted's ``MultiService`` stops its children all at once, and says nothing of one that fails.
    This one stops the last started first, waits for each, and gives all of them together no more
    than a time limit; then each is cancelled. One that fails or takes too long is logged, and the
    next one's turn comes.

    Args:
        parts: The services, in the order of starting.
        stop_timeout: Seconds in which all of them stop.
        clock: Measures that, an ``IReactorTime``.

    Attributes:
        hung: The names of those that did not stop in time.
    """

    def __init__(self, parts: list[IService], stop_timeout: float, clock: Any) -> None:
        self._parts = parts
        self._stop_timeout = stop_timeout
        self._clock = clock
        self.hung: list[str] = []
        self._started: list[IService] = []
        self._waiting: list[Deferred[None]] = []

    def privilegedStartService(self) -> None:
        """Let each part do what needs privileges, as binding a low port does."""
        super().privilegedStartService()
        self._each("privilegedStartService", self._parts)

    def startService(self) -> None:
        """Start each part. If one fails, those before it are stopped, and it raises."""
        super().startService()
        self._each("startService", self._parts)

    def _each(self, step: str, parts: list[IService]) -> None:
        for part in parts:
            try:
                getattr(part, step)()
            except BaseException:
                self.stopService()
                raise
            if part not in self._started:
                self._started.append(part)

    def stopService(self) -> Deferred[None]:
        """Stop what was started, last first.

        Returns:
            A Deferred that fires with None when all have stopped or the time is over. A second
            call waits for the same.
        """
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._waiting.append(stopped)
        if len(self._waiting) == 1:
            until = self._clock.seconds() + self._stop_timeout
            Deferred.fromCoroutine(self._stop(until)).addBoth(self._all_stopped)
        return stopped

    def _all_stopped(self, result: None) -> None:
        waiting, self._waiting = self._waiting, []
        for stopped in waiting:
            stopped.callback(result)

    async def _stop(self, until: float) -> None:
        while self._started:
            part = self._started.pop()
            stopping = maybeDeferred(part.stopService)
            try:
                if not await self._ended(stopping, until - self._clock.seconds()):
                    self.hung.append(_name(part))
                    stopping.cancel()
                    ended = await self._ended(stopping, _HURRY)
                    _log.error(
                        "{part} did not stop within {seconds} s{giving_up}",
                        part=_name(part),
                        seconds=self._stop_timeout,
                        giving_up="" if ended else ", and is given up",
                    )
            finally:
                stopping.addErrback(_log_failure, _name(part))

    async def _ended(self, stopping: Deferred[Any], seconds: float) -> bool:
        """Wait for a service, so long at most; say whether it has ended."""
        ended: Deferred[bool] = Deferred()
        timer = self._clock.callLater(max(seconds, 0.0), ended.callback, False)

        def end(result: Any) -> Any:
            if timer.active():
                timer.cancel()
                ended.callback(True)
            return result

        stopping.addBoth(end)
        return await ended


def _log_failure(failure: Failure, name: str) -> None:
    if not failure.check(CancelledError):
        _log.failure("{part} failed to stop", failure, part=name)


def _name(part: Any) -> str:
    return part.name or type(part).__name__
