"""Forgets keys that were done long ago, where the settings say so."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from oni.errors import OniError
from oni.interfaces import ILedger

__all__ = ["Pruning"]

_log = Logger()
_KEYS = 1000  # that are forgotten in one transaction


class Pruning(Service):
    """Prunes a ledger at an interval. What fails is logged, and tried again next time.

    Args:
        ledger: The ledger, which is open.
        older_than: Seconds for which a key has been done.
        clock: The reactor.
        interval: Seconds from the end of one time to the next one.
    """

    name = "pruning"

    def __init__(
        self, ledger: ILedger, older_than: float, clock: IReactorTime, interval: float = 600.0
    ) -> None:
        self._ledger = ledger
        self._older_than = older_than
        self._clock = clock
        self._interval = interval
        self._next: IDelayedCall | None = None
        self._is_pruning = False

    def startService(self) -> None:
        """Prune at once, and then again and again."""
        super().startService()
        self._begin()

    def stopService(self) -> None:
        """Prune no more; one transaction that is under way is left to end."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _begin(self) -> None:
        self._next = None
        if not self._is_pruning:
            Deferred.fromCoroutine(self._prune())

    async def _prune(self) -> None:
        self._is_pruning = True
        forgotten = 0
        try:
            while self.running:
                some = await self._ledger.prune(self._older_than, _KEYS)
                forgotten += some
                if some < _KEYS:
                    break
        except OniError as error:
            _log.warn("the ledger cannot be pruned: {error}", error=error)
        except Exception:  # noqa: BLE001 - it must not be the last time
            _log.failure("pruning the ledger failed")
        self._is_pruning = False
        if forgotten:
            _log.info("the ledger has forgotten {count} keys that were done", count=forgotten)
        if self.running:
            self._next = self._clock.callLater(self._interval, self._begin)
