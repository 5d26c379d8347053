"""The ledger: Deferreds outside, its own threads and group commit inside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from math import inf
from secrets import token_hex
from typing import Any, Literal

from twisted.internet.defer import (
    Deferred,
    DeferredLock,
    FirstError,
    gatherResults,
    maybeDeferred,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni._clock import Clock
from oni.errors import InvalidTimeoutError, NotRunningError, StaleClaimError
from oni.interfaces import ILedger, ILedgerStore, ILedgerTransaction
from oni.ledger._group_commit import GROUP, LAST, GroupCommit
from oni.ledger._keeper import Keeper
from oni.ledger._keys import check_event
from oni.ledger._states import keepable
from oni.ledger._threads import RunsElsewhere, Threads
from oni.values import (
    Admission,
    Claim,
    Delivery,
    DeliveryState,
    LedgerEvent,
    LedgerRecord,
    is_seconds,
)

__all__ = ["Ledger"]

_log = Logger()

_WORKER, _READER = 1, 2  # of the pools
_LONGEST_NAME = 255


@implementer(ILedger)
class Ledger:
    """A ledger over a store.

    Args:
        store: Where the data are.
        lease: After so many seconds of silence a delivery is taken from an owner that seems to
            live. All processes of a store have the same.
        interval: Seconds from one look after the dead to the next, a quarter of the lease at most;
            None: nobody looks.
        workers: How many functions given to :meth:`run` are under way in the database at once.
        max_waiting: So many calls may wait for the database; more fail with
            :class:`oni.errors.LedgerBusyError`.
        reactor: Whose thread the Deferreds fire in; the global one when first needed.
        make_threads: Gives a place to run functions in, for a name and a number of threads.

    Raises:
        InvalidTimeoutError: ``lease`` or ``interval`` is no positive number of seconds.
        ValueError: ``workers`` or ``max_waiting`` is below 1.
    """

    def __init__(
        self,
        store: ILedgerStore,
        *,
        lease: float = 10.0,
        interval: float | None = 0.5,
        workers: int = 4,
        max_waiting: int = 10_000,
        reactor: Any = None,
        make_threads: Callable[[str, int], RunsElsewhere] | None = None,
    ) -> None:
        verifyObject(ILedgerStore, store)
        for name, value in (("lease", lease), ("interval", interval)):
            if not is_seconds(value) and not (value is None and name == "interval"):
                raise InvalidTimeoutError(name, value)
        if workers < 1 or max_waiting < 1:
            raise ValueError(
                f"workers and max_waiting are 1 or more, not {workers!r} and {max_waiting!r}"
            )
        self.label: str = store.label
        self._store = store
        self._lease = lease
        self._clock = Clock(reactor)
        self._max_waiting = max_waiting
        self._make_threads = make_threads or self._own_threads
        self._workers = workers
        # Whoever looks after its claims more seldom loses them while it lives.
        self._interval = None if interval is None else min(interval, lease / 4)
        self._begin_anew()
        self._group: GroupCommit | None = None
        self._pools: tuple[RunsElsewhere, ...] = ()
        self._turns = count()
        self._life = DeferredLock()  # who starts waits for who stops, and the reverse
        self._counted = dict.fromkeys(
            ("admitted", "duplicate", "conflict", "claimed", "completed", "failed", "stale"), 0
        )

    # --- Life

    def _begin_anew(self) -> None:
        """Be an owner that nobody has ever heard of."""
        self.owner = token_hex(16)
        self._keeper = Keeper(self._store, self.owner, self._lease)

    def start(self) -> Deferred[None]:
        """See :class:`oni.interfaces.ILedger`. The second time nothing happens."""
        return _shielded(self._life.run(lambda: Deferred.fromCoroutine(self._start())))

    async def _start(self) -> None:
        if self._pools:
            return
        self._pools = (
            self._make_threads("writer", 1),
            self._make_threads("worker", self._workers),
            # One of its own: who asks how it goes must not wait for work that hangs.
            self._make_threads("reader", 1),
        )
        try:
            warnings = await self._pools[0].run(self._open)
        except BaseException:
            pools, self._pools = self._pools, ()
            await gatherResults([pool.stop() for pool in pools])
            raise
        for warning in warnings:
            _log.warn("The ledger: {warning}", warning=warning)
        self.label = self._store.label  # some know it only now
        self._group = GroupCommit(self._store, self._pools[0], self._max_waiting, self._soon)
        if self._interval is not None:
            self._keeper.start(self._interval)
        _log.info("The ledger is open: {label}", label=self.label)

    def _open(self) -> Sequence[str]:
        """Open the store; in a thread."""
        try:
            warnings = self._store.open()
            self._store.enter(self.owner)
        except BaseException:
            self._store.close()
            raise
        return warnings

    def stop(self) -> Deferred[None]:
        """See :class:`oni.interfaces.ILedger`. What waits for its transaction is refused."""
        return _shielded(self._life.run(lambda: Deferred.fromCoroutine(self._stop())))

    async def _stop(self) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        group.refuse()
        writer, worker, reader = self._pools
        await worker.stop()
        await reader.stop()
        closed = writer.run(self._close)
        await writer.stop()
        self._pools = ()
        # Also when it could not be closed: the keeper has ended, and nobody knows who is left.
        self._begin_anew()
        await closed

    def _close(self) -> None:
        """Close the store; in a thread."""
        self._keeper.stop()
        try:
            self._store.leave(self.owner)
        finally:
            self._store.close()

    def _own_threads(self, name: str, size: int) -> RunsElsewhere:
        # The group's operations are counted where they wait.
        return Threads(
            f"oni-ledger-{name}", size, self._max_waiting, self._clock.reactor.callFromThread
        )

    def _soon(self, function: Callable[[], None]) -> None:
        self._clock.call_later(0, function)

    # --- What is asked of it

    def admit(self, events: Sequence[LedgerEvent]) -> Deferred[Sequence[Admission]]:
        """See :class:`oni.interfaces.ILedger`."""
        # By their keys, so that two processes that admit the same ones do not wait for each other
        # in a circle.
        order = sorted(range(len(events)), key=lambda place: check_event(events[place]).key)
        parts = [order[start : start + GROUP] for start in range(0, len(order), GROUP)]

        def admit_part(part: Sequence[int]) -> Callable[[ILedgerTransaction], Sequence[Admission]]:
            return lambda transaction: [transaction.admit(events[place]) for place in part]

        told = gatherResults(
            [self._write(admit_part(part), events[part[0]].key) for part in parts],
            consumeErrors=True,
        )
        told.addErrback(_first_failure)

        def in_order(answers: Sequence[Sequence[Admission]]) -> Sequence[Admission]:
            by_place = dict(zip(order, (each for part in answers for each in part), strict=True))
            admissions = [by_place[place] for place in range(len(events))]
            for admission in admissions:
                self._counted[admission] += 1
            return admissions

        return told.addCallback(in_order)

    def admit_within(self, connection: Any, events: Sequence[LedgerEvent]) -> Sequence[Admission]:
        """See :class:`oni.interfaces.ILedger`."""
        ordered = sorted(enumerate(events), key=lambda pair: check_event(pair[1]).key)
        transaction = self._store.join(connection)
        by_place = {place: transaction.admit(event) for place, event in ordered}
        return [by_place[place] for place in range(len(events))]

    def claim(
        self, handlers: Collection[str], limit: int = GROUP, keys: Collection[str] | None = None
    ) -> Deferred[Sequence[Claim]]:
        """See :class:`oni.interfaces.ILedger`."""
        wanted = None if keys is None else sorted(set(keys))
        if wanted is not None and len(wanted) > GROUP:
            raise ValueError(f"at most {GROUP} keys are claimed at once, not {len(wanted)}")
        names = sorted(handlers)
        turn = next(self._turns) % max(1, len(names))
        names = names[turn:] + names[:turn]
        limit = max(0, min(limit, GROUP))
        # Whatever holds up the reactor, the claims are ours as soon as they are in the database.
        claimed = self._write(
            lambda t: t.claim(names, limit, self.owner, self._lease, wanted),
            kept=self._keeper.hold,
            unheard=self._release_unheard,
        )

        def count_them(claims: Sequence[Claim]) -> Sequence[Claim]:
            self._counted["claimed"] += len(claims)
            return claims

        return claimed.addCallback(count_them)

    def _release_unheard(self, claims: Sequence[Claim]) -> None:
        """Give back what was claimed for somebody who does not want it any more."""
        if claims:
            self.release(claims).addErrback(_log_unreleased)

    def complete(self, claim: Claim) -> Deferred[None]:
        """See :class:`oni.interfaces.ILedger`."""
        completed = self._write(lambda transaction: transaction.complete(claim), claim.key)
        return completed.addCallbacks(
            self._ended, self._refused, (claim, "completed"), errbackArgs=(claim,)
        )

    def fail(
        self, claim: Claim, error: str, *, permanent: bool = False, delay: float | None = None
    ) -> Deferred[Delivery]:
        """See :class:`oni.interfaces.ILedger`."""
        if delay is not None and not 0 <= delay < inf:
            raise ValueError(f"delay is a number of seconds from 0 on, not {delay!r}")
        failed = self._write(
            lambda transaction: transaction.fail(claim, error, permanent, delay), claim.key
        )
        return failed.addCallbacks(
            self._ended, self._refused, (claim, "failed"), errbackArgs=(claim,)
        )

    def release(self, claims: Sequence[Claim]) -> Deferred[None]:
        """See :class:`oni.interfaces.ILedger`."""
        in_order = sorted(claims, key=lambda claim: (claim.key, claim.handler))

        def release_each(transaction: ILedgerTransaction) -> None:
            for claim in in_order:
                transaction.release(claim)

        for claim in claims:
            self._keeper.drop(claim)
        return self._write(release_each, in_order[0].key if in_order else LAST)

    def run(self, claim: Claim, work: Callable[[Any], Any]) -> Deferred[Any]:
        """See :class:`oni.interfaces.ILedger`."""

        def run_and_complete() -> Any:
            with self._store.transaction() as transaction:
                result = work(transaction.connection)
                transaction.complete(claim)
            return result

        done = self._elsewhere(run_and_complete, _WORKER)
        return done.addCallbacks(
            self._ended, self._refused, (claim, "completed"), errbackArgs=(claim,)
        )

    def resolve(
        self, handler: str, key: str, decision: Literal["done", "retry"], who: str
    ) -> Deferred[Delivery]:
        """See :class:`oni.interfaces.ILedger`."""
        who = keepable(who)
        if not 0 < len(who) <= _LONGEST_NAME:
            raise ValueError(f"who decides has 1 to {_LONGEST_NAME} characters, not {len(who)}")
        return self._write(
            lambda transaction: transaction.resolve(handler, key, decision, who), key
        )

    def prune(self, older_than: float, limit: int = 1000) -> Deferred[int]:
        """See :class:`oni.interfaces.ILedger`."""
        if not older_than >= 0:
            raise ValueError(f"older_than is a number of seconds, not {older_than!r}")
        return self._write(lambda transaction: transaction.prune(older_than, limit))

    def deliveries(
        self, state: DeliveryState | None = None, handler: str | None = None, limit: int = 100
    ) -> Deferred[Sequence[Delivery]]:
        """See :class:`oni.interfaces.ILedger`."""
        return self._read(lambda transaction: transaction.deliveries(state, handler, limit))

    def show(self, key: str) -> Deferred[LedgerRecord | None]:
        """See :class:`oni.interfaces.ILedger`."""
        return self._read(lambda transaction: transaction.show(key))

    def count(self) -> Deferred[Mapping[DeliveryState, int]]:
        """See :class:`oni.interfaces.ILedger`."""
        return self._read(lambda transaction: transaction.count())

    def lag(self) -> Deferred[float]:
        """See :class:`oni.interfaces.ILedger`."""
        return self._read(lambda transaction: transaction.lag())

    def statistics(self) -> Mapping[str, int]:
        """See :class:`oni.interfaces.ILedger`."""
        group = self._group
        return {
            **self._counted,
            "held": self._keeper.held,
            "rescued": self._keeper.rescued,
            "lost": self._keeper.lost,
            "waiting": group.waiting if group else 0,
            "commits": group.commits if group else 0,
        }

    # --- How it is done

    def _write(
        self,
        operation: Callable[[ILedgerTransaction], Any],
        place: str = LAST,
        **told: Callable[[Any], object],
    ) -> Deferred[Any]:
        if self._group is None:
            return maybeDeferred(_refuse)
        return self._group.add(operation, place, **told)

    def _read(self, question: Callable[[ILedgerTransaction], Any]) -> Deferred[Any]:
        def ask() -> Any:
            with self._store.transaction(read=True) as transaction:
                return question(transaction)

        return self._elsewhere(ask, _READER)

    def _elsewhere(self, function: Callable[[], Any], where: int) -> Deferred[Any]:
        if self._group is None:
            return maybeDeferred(_refuse)
        return self._pools[where].run(function)

    def _ended(self, result: Any, claim: Claim, how: str) -> Any:
        self._counted[how] += 1
        self._keeper.drop(claim)
        return result

    def _refused(self, failure: Failure, claim: Claim) -> Failure:
        # It was taken away, or whoever has it must try again before its lease is over.
        self._keeper.drop(claim)
        if failure.check(StaleClaimError):
            self._counted["stale"] += 1
        return failure


def _refuse() -> None:
    raise NotRunningError("the ledger is not started, or has stopped")


def _log_unreleased(failure: Failure) -> None:
    _log.info("Claims that nobody waits for are not given back: {why}", why=failure.value)


def _shielded(inner: Deferred[None]) -> Deferred[None]:
    """Give a Deferred whose cancelling ends nobody's start or stop half way."""
    outer: Deferred[None] = Deferred()
    inner.addBoth(outer.callback)  # a Failure is an errback
    return outer


def _first_failure(failure: Failure) -> Failure:
    """Give what has failed, without the shell that gathering puts around it."""
    if isinstance(failure.value, FirstError):
        return failure.value.subFailure
    return failure
