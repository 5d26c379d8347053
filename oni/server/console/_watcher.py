"""Looks at an Oni once a second, as long as somebody asks what there is to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.server._oni import Oni
from oni.server.console._snapshot import Snapshot, Snapshots
from oni.server.console._survey import Survey, Surveyor

__all__ = ["EVERY", "GIVES_UP_AFTER", "Watcher"]

_log = Logger()

#: Seconds between two looks.
EVERY = 1.0

#: Seconds after which nobody asks any more, and the looking ends.
GIVES_UP_AFTER = 5.0

_BEAT = 0.125  # seconds between two looks at the clock
_LONGEST = 60.0  # seconds; a clock that was set is not taken for a reactor that stood still


class Watcher:
    """Makes snapshots that all viewers share: so it costs the same for one or for a hundred.

    Nothing is looked at before the first one asks, and after the last one has gone.

    Args:
        oni: What to look at.
        reactor: The clock.
    """

    def __init__(self, oni: Oni, reactor: Any) -> None:
        self._oni = oni
        self._reactor = reactor
        self._snapshots = Snapshots(oni, reactor.seconds())
        self._surveyor: Surveyor | None = None
        self._newest: Snapshot | None = None
        self._waiters: list[Deferred[Snapshot]] = []
        self._asked = 0.0
        self._calls: dict[str, IDelayedCall] = {}
        self._lag = 0.0

    def ask(self) -> Deferred[Snapshot]:
        """Give the newest snapshot.

        Returns:
            A Deferred that fires with it: at once, or where there is none yet in some turns.
        """
        self._asked = self._reactor.seconds()
        if self._newest is not None:
            return succeed(self._newest)
        waiter: Deferred[Snapshot] = Deferred(self._forget_waiter)
        self._waiters.append(waiter)
        if self._surveyor is None:
            self._begin()
        return waiter

    def statistics(self) -> Mapping[str, int]:
        """Give the gauge ``console_is_watched``."""
        return {"console_is_watched": int(self._surveyor is not None)}

    def stop(self) -> None:
        """Look no more, and forget what was seen. Who asks again begins anew."""
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()
        self._surveyor = self._newest = None
        self._snapshots.forget()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.cancel()

    def _forget_waiter(self, waiter: Deferred[Snapshot]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _begin(self) -> None:
        self._surveyor = Surveyor(self._oni.channels, self._oni.sessions)
        self._lag = 0.0
        self._beat(None)
        self._look()

    def _later(self, name: str, seconds: float, call: Any, *arguments: Any) -> None:
        self._calls[name] = self._reactor.callLater(seconds, call, *arguments)

    # --- The clock -------------------------------------------------------------------------------

    def _beat(self, due: float | None) -> None:
        """Note how late the reactor is."""
        now = self._reactor.seconds()
        if due is not None:
            self._lag = max(self._lag, min(max(now - due, 0.0), _LONGEST))
        self._later("beat", _BEAT, self._beat, now + _BEAT)

    # --- Looking ---------------------------------------------------------------------------------

    def _look(self) -> None:
        now = self._reactor.seconds()
        if now - self._asked > GIVES_UP_AFTER:
            self.stop()
        elif self._surveyor is not None:
            self._go_on(self._surveyor.survey(now), now)

    def _go_on(self, survey: Iterator[Survey | None], began: float) -> None:
        try:
            found = next(survey)
            if found is None:
                self._later("look", 0, self._go_on, survey, began)
                return
            self._seen(found, began)
        except Exception:  # noqa: BLE001 - whatever was seen must not end the looking
            failure = Failure()
            _log.failure("the console could not look at the daemon", failure)
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.errback(failure)
        self._later("look", EVERY, self._look)

    def _seen(self, found: Survey, began: float) -> None:
        lag, self._lag = self._lag, 0.0
        self._newest = self._snapshots.make(found, began, lag)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(self._newest)
