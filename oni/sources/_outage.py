"""What to do while the ledger's database is away: try again, later each time, and say so once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni._clock import Clock
from oni.errors import (
    LedgerBusyError,
    LedgerCorruptError,
    LedgerFullError,
    LedgerUnavailableError,
    NotRunningError,
    StaleClaimError,
)

__all__ = ["OUTAGES", "Outage"]

_log = Logger()

_T = TypeVar("_T")

OUTAGES = (LedgerUnavailableError, LedgerFullError, LedgerBusyError, LedgerCorruptError)
"""What may be better the next time, without our doing."""

_FIRST_WAIT = 0.1  # seconds
_LONGEST_WAIT = 30.0


class Outage:
    """Knows whether the ledger answers, and how long to wait when it does not.

    Args:
        clock: For the waiting.
        random: Gives numbers from 0 to 1, so that not all processes come back at once.
    """

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._is_on = False
        self._is_over = False
        self._sleepers: set[Deferred[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether the ledger did not answer the last time."""
        return self._is_on

    def begin(self, error: Exception) -> None:
        """Note that it did not."""
        if not self._is_on:
            self._is_on = True
            _log.error("The ledger cannot be used, and is tried again: {error}", error=error)

    def end(self) -> None:
        """Note that it did."""
        if self._is_on:
            self._is_on = False
            _log.info("The ledger can be used again")

    def wait(self, times: int) -> float:
        """Give the seconds to wait after it did not answer so many times."""
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(times - 1, 20))
        return longest * (0.5 + self._random() / 2)

    async def insist(self, call: Callable[[], Deferred[_T]]) -> _T | None:
        """Call the ledger until it has taken what it is told.

        Returns:
            Its answer; None if it does not want to be told any more: the claim is another's by
            now, or the ledger is closed, or :meth:`close` was called.
        """
        times = 0
        while True:
            try:
                answer = await call()
            except StaleClaimError as error:
                _log.warn("{error}", error=error)
                return None
            except NotRunningError:
                return None
            except OUTAGES as error:
                self.begin(error)
            else:
                self.end()
                return answer
            if self._is_over:
                return None
            times += 1
            await self._sleep(self.wait(times))

    def _sleep(self, seconds: float) -> Deferred[None]:
        woken: Deferred[None] = Deferred()
        timer = self._clock.call_later(seconds, woken.callback, None)
        self._sleepers.add(woken)

        def forget(result: Any) -> Any:
            self._sleepers.discard(woken)
            if timer.active():
                timer.cancel()
            return result

        return woken.addBoth(forget)

    def close(self) -> None:
        """Insist no more."""
        self._is_over = True
        for sleeper in list(self._sleepers):
            sleeper.callback(None)
