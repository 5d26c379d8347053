"""What lives from a start to a stop: the dispatcher, the threads, and the loop that delivers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferTimeoutError
from twisted.logger import Logger

from oni._clock import Clock
from oni.dispatcher import EventDispatcher
from oni.errors import NotRunningError, OniError, StopTimeoutError
from oni.interfaces import ILedger
from oni.sources._attempt import Attempt, Tools, inside
from oni.sources._context import Contexts
from oni.sources._deliveries import Deliveries
from oni.sources._group_handlers import GroupHandler, GroupHandlers
from oni.sources._loop import GROUP, Loop
from oni.sources._options import Options
from oni.sources._outage import Outage
from oni.sources._pool import Pool, RunsElsewhere
from oni.sources._shield import seen
from oni.values import LedgerRecord, PendingEvent, Phase

__all__ = ["COUNTED", "Life"]

_log = Logger()

_RESERVE = 1.0  # seconds at the end of a stop in which the ledger is told what was given up
_LEAST = 0.01  # seconds, for what has no time left

COUNTED = (
    "claimed",
    "completed",
    "failed",
    "timed_out",
    "dead",
    "uncertain",
    "released",
    "looks",
)


class Life:
    """One life of event sources. Everything but :meth:`wake` belongs to the reactor's thread.

    Attributes:
        is_open: Whether the ledger is open, and nobody has begun to close it.
        is_closing: Whether it is being closed, or is closed.
        closed: Fires when it is closed, by whoever closes it.
    """

    NO_GAUGES = dict.fromkeys(
        (
            "under_way",
            "ledger_is_away",
            "threads",
            "threads_busy",
            "threads_lost",
            "threads_waited_for",
        ),
        0,
    )

    def __init__(
        self,
        ledger: ILedger,
        handlers: GroupHandlers,
        contexts: Contexts,
        phases: Sequence[Phase],
        options: Options,
        counted: dict[str, int],
    ) -> None:
        self.is_open = False
        self.is_closing = False
        self.closed: Deferred[None] = Deferred()
        self._ledger = ledger
        self._handlers = handlers
        self._options = options
        self._clock = Clock(options.reactor)
        self._outage = Outage(self._clock, options.random)
        self._pool = self._make_pool(options.threads, options.after_call)
        self._dispatcher = EventDispatcher(
            ("group", "key"),
            phases,
            order_by=None,
            max_pending=None,
            stall_warning=None,
            reactor=self._clock.reactor,
        )
        tools = Tools(
            ledger,
            contexts,
            self._pool,
            self._clock,
            self._outage,
            counted,
            options.after_call,
        )
        self._deliveries = Deliveries(handlers, self._dispatcher, tools, self._ended)
        self._loop = Loop(
            ledger,
            self._deliveries,
            self._handlers_here,
            self._clock,
            self._outage,
            options.concurrency,
            options.poll,
            options.random,
            counted,
        )
        self._is_woken = False
        # In which deliveries' handlers somebody waits, and for what.
        self._waits: list[tuple[frozenset[tuple[str, str]], Sequence[Attempt]]] = []

    def _make_pool(self, size: int, after: Callable[[], object] | None) -> RunsElsewhere:
        options = self._options
        if options.make_pool is not None:
            return options.make_pool(size)
        return Pool(
            size,
            size if options.threads_lost is None else options.threads_lost,
            self._clock.reactor.callFromThread,
            after,
            options.threads_exhausted,
        )

    def make_thread(self) -> RunsElsewhere:
        """Give a thread that has nothing to do with handlers, for whoever stops it."""
        return self._make_pool(1, None)

    async def open(self) -> None:
        """Open the ledger, and begin to deliver where that is done here."""
        await self._ledger.start()
        if self._has_ended():
            await self._ledger.stop()
            raise NotRunningError("the event sources were stopped before their ledger was open")
        self._dispatcher.start()
        self.is_open = True
        if self._options.deliver == "here":
            self._loop.start()

    def _has_ended(self) -> bool:
        return self.is_closing

    # --- Waking

    def wake(self) -> None:
        """Look soon. Any thread may call it, it never fails, and many calls are as one."""
        if self.is_open and not self._is_woken:
            self._is_woken = True
            try:
                self._clock.reactor.callFromThread(self._woken)
            except Exception:  # noqa: BLE001 - a reactor that is gone has nobody to wake
                self._is_woken = False

    def _woken(self) -> None:
        self._is_woken = False
        self._loop.look()

    def _ended(self) -> None:
        self._loop.look()

    def _handlers_here(self) -> Mapping[str, GroupHandler]:
        """Give the handlers that can be called here; the others' deliveries are left to others."""
        by_name = self._handlers.by_name
        if not self._pool.is_exhausted:
            return by_name
        return {name: handler for name, handler in by_name.items() if not handler.threaded}

    # --- Some keys now

    async def run(self, keys: Sequence[str]) -> None:
        """Run what is due of some keys, until nothing of them is and nothing of them runs here.

        Where deliveries are left to workers nothing happens.
        """
        if self._options.deliver == "here":
            for group in _groups(keys):
                await self._run(group)

    async def records(self, keys: Sequence[str]) -> Sequence[LedgerRecord]:
        """Give what the ledger knows of keys, in their order, those that are known."""
        found: list[LedgerRecord] = []
        for group in _groups(keys):
            shown = await gatherResults([self._ledger.show(key) for key in group])
            found.extend(record for record in shown if record is not None)
        return found

    async def _run(self, keys: Sequence[str]) -> None:
        # A handler that waited for its own key would wait for ever.
        mine = frozenset(inside())
        own = {key for _, key in mine}
        keys = [key for key in keys if key not in own]
        while keys:
            names = list(self._handlers_here())
            claims = await self._ledger.claim(names, GROUP, keys) if names else ()
            if self.is_closing:
                await self._outage.insist(partial(self._ledger.release, claims))
                raise NotRunningError("the event sources are being stopped")
            taken = self._deliveries.take(claims)
            attempts = [
                attempt
                for attempt in self._deliveries.of_keys(keys)
                if not (mine and self._waits_for(attempt, mine))
            ]
            waits = (mine, attempts)
            self._waits.append(waits)
            try:
                await gatherResults([seen(attempt.ended) for attempt in attempts])
            finally:
                self._waits.remove(waits)
            if not taken and all(attempt.left_alone for attempt in attempts):
                break

    def _waits_for(self, attempt: Attempt, mine: frozenset[tuple[str, str]]) -> bool:
        """Say whether a handler waits, itself or through others, for one of these deliveries."""
        return any(
            attempt.name in who
            and any(each.name in mine or self._waits_for(each, mine) for each in waited_for)
            for who, waited_for in self._waits
        )

    # --- The end

    def hold(self) -> None:
        """Look for nothing more. What runs goes on, and so does what is asked for by key."""
        self._loop.stop()

    async def close(self, timeout: float | None) -> None:
        """Claim nothing more, wait for what runs, and close the ledger."""
        self.is_closing = True
        self.is_open = False
        end_by = None if timeout is None else self._clock.seconds() + timeout
        hung = await self._drain(end_by, timeout)
        self._pool.stop()
        if not await self._within(end_by, self._ledger.stop()):
            _log.error("The ledger did not close in time, and is left as it is")
        if hung and timeout is not None:
            raise StopTimeoutError(timeout, hung)

    async def _drain(self, end_by: float | None, timeout: float | None) -> Sequence[PendingEvent]:
        """Let what runs end, and give what did not."""
        no_claim = self._loop.stop()
        self._deliveries.close()
        # What is given up has to be told to the ledger, for which some time is kept.
        reserve = 0.0 if timeout is None else min(_RESERVE, timeout / 4)
        drain_by = None if end_by is None else end_by - reserve
        await self._within(drain_by, no_claim)
        hung: Sequence[PendingEvent] = ()
        if not await self._within(drain_by, self._deliveries.all_ended()):
            hung = self._dispatcher.pending()
            self._outage.close()
            self._deliveries.give_up()
            await self._within(end_by, self._deliveries.all_ended())
        self._outage.close()
        left = None if end_by is None else max(end_by - self._clock.seconds(), _LEAST)
        with suppress(StopTimeoutError):
            await self._dispatcher.stop(left)
        return hung

    async def _within(self, end_by: float | None, waited_for: Deferred[Any]) -> bool:
        """Wait for something, but not for longer than is allowed; say whether it happened."""
        waiting = seen(waited_for)
        if end_by is not None:
            waiting.addTimeout(max(end_by - self._clock.seconds(), _LEAST), self._clock.reactor)
        try:
            await waiting
        except DeferTimeoutError:
            return False
        except OniError as error:
            _log.error("What was waited for at the end failed: {error}", error=error)
        return True

    def gauges(self) -> Mapping[str, int]:
        """Give how it stands."""
        return {
            "under_way": len(self._deliveries),
            "ledger_is_away": int(self._outage.is_on),
            **self._pool.statistics(),
        }


def _groups(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + GROUP] for start in range(0, len(keys), GROUP))
