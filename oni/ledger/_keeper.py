"""Looks after claims: shows that ours are alive, and takes those whose owners are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event, Lock, Thread
from typing import TypeVar

from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import OniError
from oni.interfaces import ILedgerStore, ILedgerTransaction
from oni.ledger._group_commit import GROUP, perform
from oni.values import Claim, Delivery

__all__ = ["Keeper"]

_log = Logger()

_T = TypeVar("_T")


class Keeper:
    """Lives in a thread of its own, so that nothing that holds up the reactor stops it.

    Every method but :meth:`tick` may be called in any thread.

    Args:
        store: Where the deliveries are.
        owner: Who we are.
        lease: After so many seconds of silence a delivery is taken, even if its owner seems to
            live. All processes of a store have the same.
        seconds: Gives seconds that only run forward.
    """

    def __init__(
        self,
        store: ILedgerStore,
        owner: str,
        lease: float,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rescued = 0
        self.lost = 0
        self._store = store
        self._owner = owner
        self._lease = lease
        self._seconds = seconds
        self._lock = Lock()
        # For each claim of ours, when its lease was last made longer.
        self._held: dict[tuple[str, str], tuple[Claim, float]] = {}
        # For each running delivery of which that is not known: its lease, and for how long we have
        # seen it to be so.
        self._seen: dict[tuple[str, str, int], tuple[float, float]] = {}
        self._looked_at = seconds()
        self._alive: dict[str, bool] = {}
        self._patience = lease / 4
        self._is_ending = Event()
        self._is_well = True
        self._thread: Thread | None = None

    # --- What is ours

    def hold(self, claims: Iterable[Claim]) -> None:
        """Keep the leases of these claims up, from now on."""
        now = self._seconds()
        with self._lock:
            self._held.update({(c.key, c.handler): (c, now) for c in claims})

    def drop(self, claim: Claim) -> None:
        """Let a claim go: it has ended, or is somebody else's."""
        with self._lock:
            held = self._held.get((claim.key, claim.handler))
            if held is not None and held[0].token == claim.token:
                del self._held[claim.key, claim.handler]

    @property
    def held(self) -> int:
        """How many claims there are."""
        return len(self._held)

    # --- The thread

    def start(self, interval: float) -> None:
        """Look after everything now and then, in a thread.

        Args:
            interval: Seconds from one look to the next.
        """
        self._thread = Thread(
            target=self._live, args=(interval,), name="oni-ledger-keeper", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread. It blocks until the look that is under way has ended."""
        self._is_ending.set()
        if self._thread is not None:
            self._thread.join()

    def _live(self, interval: float) -> None:
        while not self._is_ending.wait(interval):
            self.look()

    def look(self) -> None:
        """Look after everything once. What goes wrong is logged, the first time of many."""
        try:
            self.tick()
        except Exception as error:  # noqa: BLE001 - the next look may be better
            if self._is_well and isinstance(error, OniError):
                _log.warn("The ledger's claims cannot be looked after: {error}", error=error)
            elif self._is_well:
                _log.failure("Looking after the ledger's claims failed")
            self._is_well = False
        else:
            if not self._is_well:
                _log.info("The ledger's claims are looked after again")
            self._is_well = True

    def tick(self) -> None:
        """Look after everything once."""
        self._store.enter(self._owner)
        self._extend()
        self._rescue()

    def _extend(self) -> None:
        now = self._seconds()
        with self._lock:
            due = [c for c, since in self._held.values() if now - since >= self._lease / 3]
        for group in _groups(due):
            still = self._each(group, lambda t, claim: t.extend(claim, self._lease))
            self.lost += still.count(False)
            for claim, is_ours in zip(group, still, strict=True):
                if is_ours:
                    self._extended(claim, now)
                else:
                    self.drop(claim)

    def _extended(self, claim: Claim, now: float) -> None:
        with self._lock:
            held = self._held.get((claim.key, claim.handler))
            if held is not None and held[0].token == claim.token:
                self._held[claim.key, claim.handler] = (claim, now)

    def _rescue(self) -> None:
        with self._store.transaction(read=True) as transaction:
            running = transaction.running()
            ahead = transaction.ahead()
        self._catch_up(ahead)
        # By their keys, so that two that rescue the same ones do not wait for each other in a
        # circle.
        orphans = sorted(self._orphans(running), key=lambda each: (each.key, each.handler))
        for group in _groups(orphans):
            rescued = self._each(group, self._take)
            taken = [each for each, is_taken in zip(group, rescued, strict=True) if is_taken]
            self.rescued += len(taken)
            for each in taken:
                _log.warn(
                    "Attempt {attempt} of handler {handler} on {key} had no living owner any more",
                    attempt=each.attempts,
                    handler=each.handler,
                    key=each.key,
                )

    def _catch_up(self, ahead: Sequence[Delivery]) -> None:
        """Let those wait no longer than they had to that came from the future."""
        for group in _groups(sorted(ahead, key=lambda each: (each.key, each.handler))):
            self._each(group, lambda t, each: t.catch_up(each))
        if ahead:
            _log.warn("The ledger's clock was set back; what would be due late is due in time")

    def _each(
        self, group: Sequence[_T], step: Callable[[ILedgerTransaction, _T], bool]
    ) -> Sequence[bool]:
        """Take a step with each, in one transaction; again where another one was in its way."""

        def take_steps(transaction: ILedgerTransaction) -> Sequence[bool]:
            return [step(transaction, each) for each in group]

        (answer,) = perform(self._store, [take_steps])
        if isinstance(answer, Failure):
            answer.raiseException()
        taken: Sequence[bool] = answer
        return taken

    def _orphans(self, running: Sequence[Delivery]) -> list[Delivery]:
        """Give those whose owner is dead, or has not been heard of for as long as its lease.

        How long that is, is seen here, on a clock that nobody sets; the times in the store only
        say whether something has changed. Of the time between two looks a part of the lease counts
        at most: where the database was away for longer, nobody could be heard of.
        """
        now = self._seconds()
        passed = min(now - self._looked_at, self._patience)
        seen = {}
        alive = {self._owner: True}
        orphans = []
        for each in running:
            with self._lock:
                held = self._held.get((each.key, each.handler))
            if held is not None and held[0].token == each.token:
                continue
            if each.owner not in alive:
                alive[each.owner] = self._store.is_alive(each.owner)
            name = (each.key, each.handler, each.token)
            lease, silence = self._seen.get(name, (0.0, 0.0))
            silence = silence + passed if lease == each.lease_until else 0.0
            seen[name] = each.lease_until, silence
            if not alive[each.owner] or silence >= self._lease:
                orphans.append(each)
        self._seen, self._looked_at, self._alive = seen, now, alive
        return orphans

    def _take(self, transaction: ILedgerTransaction, orphan: Delivery) -> bool:
        """Take one, unless it is silent and we have waited to write: its owner waits, too."""
        has_waited = self._seconds() - self._looked_at >= self._patience
        if has_waited and self._alive[orphan.owner]:
            return False
        return transaction.rescue(orphan)


def _groups(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (items[i : i + GROUP] for i in range(0, len(items), GROUP))
