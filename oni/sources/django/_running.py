"""Delivery in this process: event sources and relays, as long as the reactor runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import (
    CallTimeoutError,
    LedgerUrlError,
    NotRunningError,
    OniError,
    StopTimeoutError,
    UnsafeLedgerError,
)
from oni.ledger import Relay
from oni.sources import EventSources

__all__ = ["RETRY", "Running"]

_log = Logger()

RETRY = 5.0  # seconds until the next try, when the ledger could not be opened


class Running:
    """Opens the ledger, again and again until it can be, and closes it before the reactor stops.

    Everything but :meth:`wait` belongs to the reactor's thread.

    Args:
        sources: What is started. It has its ledger.
        relays: What carries events from other databases into the ledger.
        stop_timeout: Seconds that handlers have when the reactor stops.
        reactor: The reactor.

    Attributes:
        error: What the ledger could not be opened for the last time, if it is not open.
        gave_up: Whether handlers had not ended when their time was over.
        on_unsafe: Is called with what keeps the ledger from being opened before somebody changes
            something.
    """

    def __init__(
        self,
        sources: EventSources,
        relays: Sequence[Relay],
        stop_timeout: float,
        reactor: Any,
    ) -> None:
        self.sources = sources
        self.relays = relays
        self.stop_timeout = stop_timeout
        self._reactor = reactor
        self._opened = Event()
        self._opening: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self.error: Exception | None = None
        self.gave_up = False
        self._is_failing = False
        self.on_unsafe: Callable[[], object] | None = None

    def begin(self) -> None:
        """Open the ledger, and begin to deliver."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self.stop)
        self._try()

    def _try(self) -> None:
        self._opening = Deferred.fromCoroutine(self._open()).addErrback(self._failed)

    async def _open(self) -> None:
        await self.sources.start()
        self.opened()
        # One whose database is away keeps no other one waiting.
        starting: list[Deferred[Any]] = [relay.start() for relay in self.relays]
        for _, failure in await DeferredList(starting, consumeErrors=True):
            if isinstance(failure, Failure):
                failure.raiseException()
        self._is_failing = False

    def opened(self) -> None:
        """Know that the ledger is open: by :meth:`begin`, or because somebody else opened it."""
        self.error = None
        self._opened.set()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        if not self._is_failing:
            self._is_failing = True
            if isinstance(error, OniError):
                _log.error("Not everything is delivered: {error}", error=error)
            else:
                _log.failure("Not everything is delivered", failure=failure)
        if not self.sources.is_started:  # else it is a relay's
            self.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
            self._opened.set()
        self._timer = self._reactor.callLater(RETRY, self._try)
        if self.on_unsafe is not None and isinstance(error, UnsafeLedgerError | LedgerUrlError):
            self.on_unsafe()

    def stop(self) -> Deferred[None]:
        """Claim nothing more, wait for handlers within the time limit, and close the ledger.

        Returns:
            A Deferred that fires with None, whatever happens.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await self._opening
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for relay in self.relays:
            with suppress(Exception):
                await relay.stop()
        try:
            await self.sources.stop(self.stop_timeout)
        except StopTimeoutError as error:
            self.gave_up = True
            _log.error("{error}", error=error)
        except Exception:  # noqa: BLE001 - the reactor stops in any case
            _log.failure("Oni could not be stopped in good order")
        if not self._opened.is_set():
            self.error = NotRunningError("the reactor has stopped")
            self._opened.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the ledger is open. In any thread but the reactor's.

        Args:
            timeout: Seconds; None: for ever.

        Raises:
            CallTimeoutError: It is not open by then. It may yet be.
            Exception: What it cannot be opened for.
        """
        if not self._opened.wait(timeout):
            raise CallTimeoutError("start", timeout or 0.0)
        if self.error is not None:
            raise self.error.with_traceback(None)
