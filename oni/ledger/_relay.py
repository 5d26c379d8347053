"""The relay: takes events from an outbox to the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from oni._clock import Clock
from oni.errors import (
    InvalidTimeoutError,
    LedgerBusyError,
    LedgerCorruptError,
    LedgerFullError,
    LedgerUnavailableError,
    NotRunningError,
    OniError,
)
from oni.interfaces import ILedger, IOutbox, IOutboxBatch
from oni.ledger._group_commit import GROUP
from oni.ledger._threads import RunsElsewhere, Threads
from oni.values import Admission, LedgerEvent, OutboxBacklog, is_seconds

__all__ = ["Relay"]

_log = Logger()

_LONGEST_DELAY = 30.0  # seconds
_PATIENCE = 10.0
# What says nothing of an event, but of the ledger: it is tried again.
_LATER = (
    LedgerBusyError,
    LedgerCorruptError,
    LedgerFullError,
    LedgerUnavailableError,
    NotRunningError,
)


class Relay:
    """Admits what an outbox holds into a ledger, and then removes it from the outbox.

    What it is killed in the middle of is admitted again by the next one, which the ledger knows to
    be a duplicate. All methods but :meth:`wake` belong to the reactor's thread; the outbox is
    worked with in a thread of the relay's own.

    Any number of relays may have the same outbox, each in a process of its own.

    Args:
        outbox: Where the events wait.
        ledger: Where they belong. It is started before the relay, and stopped after it.
        admitted: Called when some have arrived, in the reactor's thread:
            :meth:`oni.interfaces.IEventSources.wake`.
        interval: Looks at the outbox so many seconds after the last look, if nobody wakes it.
        limit: So many events are taken at once, 64 at most.
        alarm: With so many waiting, an error is logged.
        reactor: Whose thread it is; the global one when first needed.
        make_threads: Gives a place to run functions in, for a name and a number of threads.

    Raises:
        InvalidTimeoutError: ``interval`` is no positive number of seconds.
        ValueError: ``limit`` or ``alarm`` is below 1.
    """

    def __init__(
        self,
        outbox: IOutbox,
        ledger: ILedger,
        *,
        admitted: Callable[[], object] | None = None,
        interval: float = 1.0,
        limit: int = GROUP,
        alarm: int = 100_000,
        reactor: Any = None,
        make_threads: Callable[[str, int], RunsElsewhere] | None = None,
    ) -> None:
        verifyObject(IOutbox, outbox)
        verifyObject(ILedger, ledger)
        if not is_seconds(interval):
            raise InvalidTimeoutError("interval", interval)
        if limit < 1 or alarm < 1:
            raise ValueError(f"limit and alarm are 1 or more, not {limit!r} and {alarm!r}")
        self._outbox = outbox
        self._ledger = ledger
        self._admitted = admitted
        self._interval = interval
        self._limit = min(limit, GROUP)
        self._alarm = alarm
        self._clock = Clock(reactor)
        self._make_threads = make_threads or self._own_threads
        self._thread: RunsElsewhere | None = None
        self._life: Deferred[None] | None = None
        self._ended: Deferred[None] = succeed(None)
        self._nap: Deferred[None] | None = None
        self._is_woken = False
        self._failures = 0  # in a row
        self._is_alarmed = False
        self._measured_at = 0.0
        self._counted = dict.fromkeys(
            ("admitted", "duplicate", "conflict", "refused", "looks", "failures"), 0
        )
        self._seen = OutboxBacklog()

    # --- Life

    def start(self) -> Deferred[None]:
        """Open the outbox, and begin. The second time nothing happens.

        Returns:
            A Deferred that fires with None when it is open, or fails as
            :meth:`oni.interfaces.IOutbox.open` does.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        if self._thread is not None:
            return
        thread = self._thread = self._make_threads("outbox", 1)
        try:
            warnings = await thread.run(self._outbox.open)
        except BaseException:
            self._thread = None
            await thread.stop()
            raise
        for warning in warnings:
            _log.warn("The outbox: {warning}", warning=warning)
        if self._thread is not thread:
            return  # it was stopped meanwhile
        self._outbox.relayed_by(self.wake)
        self._life = Deferred.fromCoroutine(self._live(thread))

    def stop(self) -> Deferred[None]:
        """End what is under way, and close the outbox. What waits, waits for the next one.

        Returns:
            A Deferred that fires with None when it is closed. Where a database does not answer
            for 10 seconds, that is logged, and its thread is left behind: it ends with the
            process.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            await self._stopped()
            return
        self._outbox.relayed_by(None)
        self._rouse()
        ended = self._ended = Deferred()
        timer = self._clock.call_later(_PATIENCE, self._leave_behind, ended)
        Deferred.fromCoroutine(self._end(thread)).addBoth(self._tell_end, ended, timer)
        await ended

    def _stopped(self) -> Deferred[None]:
        """Wait for somebody else's stop, if one is under way; how it ends is told there."""
        done: Deferred[None] = Deferred()

        def tell(result: Any) -> Any:
            done.callback(None)
            return result

        self._ended.addBoth(tell)
        return done

    async def _end(self, thread: RunsElsewhere) -> None:
        if self._life is not None:
            await self._life
        closed = thread.run(self._outbox.close)
        await thread.stop()
        await closed

    def _tell_end(self, result: Any, ended: Deferred[None], timer: IDelayedCall) -> None:
        if timer.active():  # else nobody waits for it any more
            timer.cancel()
            ended.callback(result)  # a Failure is an errback

    def _leave_behind(self, ended: Deferred[None]) -> None:
        _log.error("The relay is stopped in the middle: a database does not answer")
        ended.callback(None)

    def wake(self) -> None:
        """Look at the outbox soon. Any thread may call it; it never fails."""
        if self._thread is not None:
            self._clock.reactor.callFromThread(self._wake)

    def statistics(self) -> Mapping[str, int]:
        """Give counters of this process, and how the outbox was when it was last looked at.

        ``admitted``, ``duplicate`` and ``conflict`` count what the ledger said, ``refused`` what
        can never be admitted, ``looks`` how often the outbox was looked at with success, and
        ``failures`` how often without. ``backlog`` events wait, the oldest one for ``age``
        seconds, and ``aside`` lie aside; the first and the last are counted up to the number at
        which it is alarmed.
        """
        seen = self._seen
        return {
            **self._counted,
            "backlog": seen.waiting,
            "aside": seen.aside,
            "age": int(seen.age),
        }

    def _own_threads(self, name: str, size: int) -> RunsElsewhere:
        return Threads(f"oni-{name}", size, 8, self._clock.reactor.callFromThread)

    # --- When it looks

    async def _live(self, thread: RunsElsewhere) -> None:
        while self._thread is thread:
            try:
                await self._look(thread)
            except Exception:  # noqa: BLE001 - the next look may be better
                self._failed(Failure())
            else:
                self._succeeded()
            if self._thread is thread and (self._failures or not self._is_woken):
                await self._sleep()

    async def _sleep(self) -> None:
        delay = self._interval
        if self._failures:
            delay = max(delay, min(_LONGEST_DELAY, 2.0 ** min(self._failures - 1, 10)))
        self._nap = Deferred()
        timer = self._clock.call_later(delay, self._rouse)
        await self._nap
        if timer.active():
            timer.cancel()

    def _wake(self) -> None:
        self._is_woken = True
        if not self._failures:  # else the time decides
            self._rouse()

    def _rouse(self) -> None:
        nap, self._nap = self._nap, None
        if nap is not None:
            nap.callback(None)

    def _succeeded(self) -> None:
        self._counted["looks"] += 1
        if self._failures:
            _log.info("The outbox is relayed again")
        self._failures = 0

    def _failed(self, failure: Failure) -> None:
        self._counted["failures"] += 1
        self._failures += 1
        if self._failures > 1:
            return
        if failure.check(OniError):
            _log.warn("The outbox cannot be relayed: {error}", error=failure.value)
        else:
            _log.failure("The outbox cannot be relayed", failure)

    # --- What a look does

    async def _look(self, thread: RunsElsewhere) -> None:
        """Take what there is, batch by batch, and know how much is left."""
        self._is_woken = False
        await self._measure(thread)
        while self._thread is thread and self._seen.waiting:
            size = await self._take(thread)
            is_all = size < self._limit
            if is_all or self._clock.seconds() - self._measured_at >= self._interval:
                await self._measure(thread)
            if is_all:
                return

    async def _take(self, thread: RunsElsewhere) -> int:
        batch: IOutboxBatch = await thread.run(lambda: self._outbox.take(self._limit))
        try:
            refused = await self._admit(batch.events) if batch.events else {}
        except BaseException:
            await thread.run(batch.give_up)
            raise
        for id, error in (await thread.run(lambda: batch.end(refused))).items():
            self._counted["refused"] += 1
            _log.error(
                "Event {id} of the outbox can never be admitted, and lies aside: {error}",
                id=id,
                error=error,
            )
        return int(batch.size)

    async def _admit(self, events: Sequence[LedgerEvent]) -> Mapping[int, str]:
        """Admit events; give the reasons why some of them, by their places, never can be."""
        try:
            self._count(await self._ledger.admit(events))
        except _LATER:
            raise
        except Exception:  # noqa: BLE001 - one of them may be the reason, and which it is matters
            return await self._admit_each(events)
        return {}

    async def _admit_each(self, events: Sequence[LedgerEvent]) -> Mapping[int, str]:
        """Find out which of them it is that cannot be admitted.

        Where none can, it is not the events that something is wrong with.
        """
        refused = {}
        for place, event in enumerate(events):
            try:
                self._count(await self._ledger.admit([event]))
            except _LATER:
                raise
            except Exception as error:
                refused[place] = f"{type(error).__name__}: {error}"
                if len(refused) == len(events):
                    raise
        return refused

    def _count(self, admissions: Sequence[Admission]) -> None:
        for admission in admissions:
            self._counted[admission] += 1
        if "admitted" in admissions and self._admitted is not None:
            try:
                self._admitted()
            except Exception:  # noqa: BLE001 - they are admitted all the same
                _log.failure("They were admitted, and what is called then has failed")

    async def _measure(self, thread: RunsElsewhere) -> None:
        self._seen = await thread.run(lambda: self._outbox.backlog(self._alarm))
        self._measured_at = self._clock.seconds()
        is_alarming = self._seen.waiting >= self._alarm
        if is_alarming and not self._is_alarmed:
            _log.error("{number} events or more wait in the outbox", number=self._alarm)
        elif self._is_alarmed and not is_alarming:
            _log.info("Fewer than {number} events wait in the outbox again", number=self._alarm)
        self._is_alarmed = is_alarming
