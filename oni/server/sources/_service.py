"""Event sources as a service: opened as soon as the ledger can be, stopped within a bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    gatherResults,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import (
    LedgerBusyError,
    LedgerFullError,
    LedgerUnavailableError,
    NotRunningError,
    OniError,
    StopTimeoutError,
)
from oni.server._ledger_settings import LedgerSettings
from oni.server.sources._health import LedgerHealth
from oni.server.sources._pruning import Pruning
from oni.server.sources._watch import LedgerWatch
from oni.sources import EventSources

__all__ = ["Relays", "SourcesService"]

_log = Logger()
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 2.0  # seconds from one try to open the ledger to the next
_LAST_WORDS = 1.0  # seconds that giving back and closing may take, of those that a stop has
_MOST_LOOKED_AT = 10_000  # deliveries that wait, when it is looked whose they are
_AWAY = (LedgerUnavailableError, LedgerFullError, LedgerBusyError)


class Relays(Protocol):
    """A relay from an outbox to the ledger, as :class:`oni.ledger.Relay` is one."""

    def start(self) -> Deferred[None]:
        """Begin."""

    def stop(self) -> Deferred[None]:
        """End."""

    def statistics(self) -> Mapping[str, int]:
        """Give numbers."""


def _log_failure(failure: Failure) -> None:
    _log.failure("the event sources failed to start", failure)


async def _together(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them until all have ended. When one fails the others are cancelled."""
    begun = [Deferred.fromCoroutine(each) for each in coroutines]
    try:
        await gatherResults(begun, consumeErrors=True)
    except FirstError as first:
        for each in begun:
            each.cancel()
        await DeferredList(begun, consumeErrors=True)
        first.subFailure.raiseException()


class SourcesService(Service):
    """Opens the ledger, and tries again where it does not answer; then delivers, until the stop.

    Args:
        sources: The event sources, made and not started.
        settings: How the ledger is looked after.
        reactor: The reactor.
        stop_timeout: Seconds in which it stops, where :meth:`end_by` says nothing else.
        relays: What brings events from outboxes to the ledger.
        opened: Is called when the ledger is open, too.

    Attributes:
        sources: See above.
        health: How the ledger is.
        watch: How much there is in it.
        on_open: Is called when the ledger is open.
        on_failure: Is called with what keeps the ledger from ever being opened.
        on_exhausted: Is called when a handler's thread hangs that is not replaced any more.
        gave_up: Whether handlers were given up at the last stop.
    """

    name = "sources"

    def __init__(
        self,
        sources: EventSources,
        settings: LedgerSettings,
        reactor: Any,
        stop_timeout: float,
        relays: Sequence[Relays] = (),
        opened: Callable[[], object] = lambda: None,
    ) -> None:
        self.sources = sources
        self.health = LedgerHealth()
        self.watch = LedgerWatch(sources.ledger, self.health, reactor, settings.look_every)
        self.on_open: Callable[[], object] = lambda: None
        self.on_failure: Callable[[Failure], object] = _log_failure
        self.on_exhausted: Callable[[], object] = lambda: None
        self.gave_up = False
        self._relays = relays
        self._opened = opened
        self._reactor = reactor
        self._stop_timeout = stop_timeout
        self._ends_at: float | None = None
        self._opening: Deferred[None] | None = None
        self._pruning: Pruning | None = None
        if settings.prune_after is not None:
            self._pruning = Pruning(sources.ledger, settings.prune_after, reactor)

    @property
    def backlog(self) -> Mapping[str, int]:
        """How much waits in outboxes, and for how long.

        It is empty where there are none, and until each of them was looked at once.
        """
        found = [relay.statistics() for relay in self._relays]
        if not all(each["looks"] for each in found) or not found:
            return {}
        return {
            "backlog": sum(each["backlog"] for each in found),
            "aside": sum(each["aside"] for each in found),
            "age": max(each["age"] for each in found),
        }

    # --- Start

    def startService(self) -> None:
        """Begin in the reactor's next turn: who starts after this registers handlers."""
        super().startService()
        self.gave_up = False
        self._ends_at = None
        self.health.opens()
        self._opening = Deferred.fromCoroutine(self._open())
        self._opening.addErrback(self._failed)

    async def _open(self) -> None:
        await deferLater(self._reactor, 0.0)
        await self._insist(self.sources.start, self.health.fails)
        self._opened()
        self.health.answers()
        self.watch.startService()
        if self._pruning is not None:
            self._pruning.startService()
        self.on_open()
        await _together(
            [
                self._say_what_nobody_handles(),
                *(self._start_relay(each) for each in self._relays),
            ]
        )

    async def _insist(
        self, start: Callable[[], Deferred[None]], fails: Callable[[Exception], object]
    ) -> None:
        """Start something, again and again while a database does not answer."""
        wait = _FIRST_WAIT
        while True:
            try:
                return await start()
            except _AWAY as error:
                fails(error)
            await deferLater(self._reactor, wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _start_relay(self, relay: Relays) -> None:
        """Open an outbox; its database may be away."""
        reasons: list[Exception] = []

        def fails(error: Exception) -> None:
            if not reasons:
                _log.warn("an outbox is not open yet, and is tried again: {error}", error=error)
            reasons[:] = [error]

        await self._insist(relay.start, fails)
        if reasons:
            _log.info("the outbox is open")

    async def _say_what_nobody_handles(self) -> None:
        """Warn of deliveries for handlers that nobody has registered here."""
        known = set(self.sources.handler_names())
        try:
            pending = await self.sources.ledger.deliveries("pending", None, _MOST_LOOKED_AT)
        except OniError as error:
            self.health.fails(error)
            return
        counts = Counter(each.handler for each in pending if each.handler not in known)
        for handler, number in sorted(counts.items()):
            _log.warn(
                "{number} deliveries wait for the handler {handler}, which is not registered "
                "here: they wait until it is, or until `oni ledger done` says otherwise",
                number=number,
                handler=handler,
            )

    def _failed(self, failure: Failure) -> None:
        if self.running:
            self.on_failure(failure)
        elif not failure.check(CancelledError):
            _log_failure(failure)  # it ends anyway

    def exhausted(self) -> None:
        """Know that a thread hangs that is not replaced. At the end that is nothing new."""
        if self.running and self._ends_at is None:
            self.on_exhausted()

    # --- Stop

    def end_by(self, seconds: float) -> None:
        """Let the next stop end when it is so late on the reactor's clock, and begin nothing new.

        What is admitted until the stop is left to others, but for what is waited for.
        """
        self._ends_at = seconds
        self.sources.hold()

    def stopService(self) -> Deferred[None]:
        """Claim nothing more, wait for handlers, give back what was not begun, close the ledger.

        Returns:
            A Deferred that fires when it is closed. When the time is over, handlers that still
            run are given up.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await self._opening
        self.watch.stopService()
        if self._pruning is not None:
            self._pruning.stopService()
        for relay in self._relays:
            try:
                await relay.stop()
            except Exception:  # noqa: BLE001 - the handlers are to end in good order nevertheless
                _log.failure("a relay failed to stop")
        try:
            await self.sources.stop(self._left())
        except StopTimeoutError as error:
            self.gave_up = True
            _log.error("handlers were given up: {error}", error=error)
        except NotRunningError:
            pass

    def _left(self) -> float:
        left = self._stop_timeout
        if self._ends_at is not None:
            left = self._ends_at - self._reactor.seconds()
        return max(left - _LAST_WORDS, 0.1)
