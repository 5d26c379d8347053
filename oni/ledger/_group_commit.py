"""Group commit: what many ask for at the same time is written to the disk together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oni.errors import (
    DeliveryStateError,
    LedgerBusyError,
    LedgerCorruptError,
    LedgerFullError,
    LedgerUnavailableError,
    NotRunningError,
    StaleClaimError,
    UnknownDeliveryError,
)
from oni.interfaces import ILedgerStore, ILedgerTransaction
from oni.ledger._threads import RunsElsewhere
from oni.ledger._transaction import LostRaceError

__all__ = ["GROUP", "GroupCommit", "perform"]

GROUP = 64
"""So many operations go into one transaction, at most."""

_RACES = 5  # so often is a transaction done again that was in another's way

Operation = Callable[[ILedgerTransaction], Any]

# What an operation refuses before it has written anything: the others of its group go on.
_REFUSALS = (StaleClaimError, DeliveryStateError, UnknownDeliveryError)
# What concerns everybody: there is no use in trying one by one.
_FOR_ALL = (LedgerUnavailableError, LedgerFullError, LedgerCorruptError)


class GroupCommit:
    """Gathers what is asked for in one turn of the reactor, and while a transaction is under way.

    Everything but the transactions themselves happens in the reactor's thread.

    Args:
        store: Where to.
        threads: Where the transactions run.
        limit: How many operations may wait.
        soon: Calls a function in the next turn of the reactor.
    """

    def __init__(
        self,
        store: ILedgerStore,
        threads: RunsElsewhere,
        limit: int,
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.commits = 0
        self._soon = soon
        self._store = store
        self._threads = threads
        self._limit = limit
        self._waiting: deque[tuple[Operation, Deferred[Any]]] = deque()
        self._is_busy = False  # a transaction is under way, or will be in the next turn

    @property
    def waiting(self) -> int:
        """How many operations wait for the next transaction."""
        return len(self._waiting)

    def add(self, operation: Operation) -> Deferred[Any]:
        """Let an operation be a part of the next transaction.

        Returns:
            A Deferred that fires with what it gives when that is committed. Cancelling it takes
            it out of the group, or forgets the answer.
        """
        done: Deferred[Any] = Deferred(self._forget)
        if len(self._waiting) >= self._limit:
            done.errback(LedgerBusyError(self._limit))
        else:
            self._waiting.append((operation, done))
            if not self._is_busy:
                self._is_busy = True
                self._soon(self._flush)
        return done

    def _forget(self, done: Deferred[Any]) -> None:
        self._waiting = deque(each for each in self._waiting if each[1] is not done)

    def _flush(self) -> None:
        self._is_busy = bool(self._waiting)
        if not self._is_busy:
            return
        group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
        operations = [operation for operation, _ in group]
        answers = self._threads.run(lambda: perform(self._store, operations))
        answers.addBoth(self._answer, [done for _, done in group])

    def _answer(self, answers: Sequence[Any] | Failure, group: Sequence[Deferred[Any]]) -> None:
        self.commits += 1
        self._flush()  # the disk has something to do while these are told
        if isinstance(answers, Failure):
            answers = [answers] * len(group)
        for done, answer in zip(group, answers, strict=True):
            if not done.called:
                done.callback(answer)  # a Failure is an errback

    def refuse(self) -> None:
        """Let everything that still waits fail: the ledger has stopped."""
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            done.errback(NotRunningError("the ledger has stopped"))


def perform(store: ILedgerStore, operations: Sequence[Operation]) -> list[Any]:
    """Run operations in one transaction. It blocks.

    When one of them breaks it, for a reason of its own, each is run alone.

    Returns:
        What each gives, in order: a value, or a Failure.
    """
    for _ in range(_RACES):
        try:
            with store.transaction() as transaction:
                return [_attempt(operation, transaction) for operation in operations]
        except LostRaceError:
            lost = Failure()
        except _FOR_ALL:
            return [Failure()] * len(operations)
        except Exception:  # noqa: BLE001 - whoever asked for it is told
            if len(operations) == 1:
                return [Failure()]
            return [answer for each in operations for answer in perform(store, [each])]
    return [lost] * len(operations)


def _attempt(operation: Operation, transaction: ILedgerTransaction) -> Any:
    try:
        return operation(transaction)
    except _REFUSALS:
        return Failure()
