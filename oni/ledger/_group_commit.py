"""Group commit: what many ask for at the same time is written to the disk together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
from oni.ledger._transaction import LockedError, LostRaceError

__all__ = ["GROUP", "GroupCommit", "LARGEST", "LAST", "perform"]

GROUP = 64
"""So many deliveries are claimed, or events admitted, by one operation, at most."""

LARGEST = 2 * GROUP
"""So many operations go into one transaction, at most.

All of one claim are completed, and the next ones claimed, by one write to the disk.
"""

LAST = "\U0010ffff"
"""The place of operations that may change deliveries of any key."""

_RACES = 5  # so often is a transaction done again that was in another's way
_PATIENCE = 5.0  # seconds; who has waited for so long, in vain, is not let wait again
_LONGEST = 20.0  # seconds for which a group goes on, one by one, where much of it is locked

Operation = Callable[[ILedgerTransaction], Any]

# What an operation refuses before it has written anything: the others of its group go on.
_REFUSALS = (StaleClaimError, DeliveryStateError, UnknownDeliveryError)
# What concerns everybody: there is no use in trying one by one.
_FOR_ALL = (LedgerUnavailableError, LedgerFullError, LedgerCorruptError)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """What was asked for.

    Attributes:
        operation: What shall be done.
        place: Where in the group it stands.
        kept: Is told the answer as soon as it is committed, in the thread where that happened.
        unheard: Is told the answer if nobody waits for it any more.
        since: When it was asked for.
        done: Fires with the answer.
    """

    operation: Operation
    place: str
    kept: Callable[[Any], object] | None
    unheard: Callable[[Any], object] | None
    since: float
    done: Deferred[Any]


class GroupCommit:
    """Gathers what is asked for in one turn of the reactor, and while a transaction is under way.

    Everything but the transactions themselves happens in the reactor's thread.

    Args:
        store: Where to.
        threads: Where the transactions run.
        limit: How many operations may wait.
        soon: Calls a function in the next turn of the reactor.
        seconds: Gives seconds that only run forward.
    """

    def __init__(
        self,
        store: ILedgerStore,
        threads: RunsElsewhere,
        limit: int,
        soon: Callable[[Callable[[], None]], object],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.commits = 0
        self._soon = soon
        self._store = store
        self._threads = threads
        self._limit = limit
        self._seconds = seconds
        self._waiting: deque[_Call] = deque()
        self._is_busy = False  # a transaction is under way, or will be in the next turn

    @property
    def waiting(self) -> int:
        """How many operations wait for the next transaction."""
        return len(self._waiting)

    def add(
        self,
        operation: Operation,
        place: str = LAST,
        *,
        kept: Callable[[Any], object] | None = None,
        unheard: Callable[[Any], object] | None = None,
    ) -> Deferred[Any]:
        """Let an operation be a part of the next transaction.

        Args:
            operation: What shall be done.
            place: The key that it is about. A group works by keys in their order, so that two
                processes that write the same ones do not wait for each other in a circle.
            kept: Is told what it gave as soon as that is committed, in another thread.
            unheard: Is told what it gave if the Deferred was cancelled when it was too late.

        Returns:
            A Deferred that fires with what it gives when that is committed. Cancelling it takes
            it out of the group, or forgets the answer.
        """
        done: Deferred[Any] = Deferred(self._forget)
        if len(self._waiting) >= self._limit:
            done.errback(LedgerBusyError(self._limit))
        else:
            self._waiting.append(_Call(operation, place, kept, unheard, self._seconds(), done))
            if not self._is_busy:
                self._is_busy = True
                self._soon(self._flush)
        return done

    def _forget(self, done: Deferred[Any]) -> None:
        self._waiting = deque(each for each in self._waiting if each.done is not done)

    def _flush(self) -> None:
        self._is_busy = bool(self._waiting)
        if not self._is_busy:
            return
        group = [self._waiting.popleft() for _ in range(min(LARGEST, len(self._waiting)))]
        group.sort(key=lambda call: call.place)
        answers = self._threads.run(lambda: self._perform(group))
        answers.addBoth(self._answer, group)

    def _perform(self, group: Sequence[_Call]) -> Sequence[Any]:
        """Do it, in a thread."""
        answers = perform(self._store, [call.operation for call in group])
        for call, answer in zip(group, answers, strict=True):
            if call.kept is not None and not isinstance(answer, Failure):
                call.kept(answer)
        return answers

    def _answer(self, answers: Sequence[Any] | Failure, group: Sequence[_Call]) -> None:
        self.commits += 1
        if isinstance(answers, Failure):
            answers = [answers] * len(group)
        hopeless = self._give_up(answers)
        self._flush()  # the disk has something to do while these are told
        for call, answer in zip(group, answers, strict=True):
            if not call.done.called:
                call.done.callback(answer)  # a Failure is an errback
            elif call.unheard is not None and not isinstance(answer, Failure):
                call.unheard(answer)
        for call in hopeless:
            _tell(call, answers[0])

    def _give_up(self, answers: Sequence[Any]) -> Sequence[_Call]:
        """Take out those that have waited long for a database that nobody can write to.

        Else each group would wait for as long as the first one did, one after the other.
        """
        if not all(
            isinstance(answer, Failure) and answer.check(LedgerUnavailableError)
            for answer in answers
        ):
            return []
        late = self._seconds() - _PATIENCE
        hopeless = [call for call in self._waiting if call.since <= late]
        self._waiting = deque(call for call in self._waiting if call.since > late)
        return hopeless

    def refuse(self) -> None:
        """Let everything that still waits fail: the ledger has stopped."""
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            _tell(call, Failure(NotRunningError("the ledger has stopped")))


def _tell(call: _Call, failure: Failure) -> None:
    """Let a call fail, if none that was told before it has cancelled it."""
    if not call.done.called:
        call.done.errback(failure)


def perform(
    store: ILedgerStore,
    operations: Sequence[Operation],
    seconds: Callable[[], float] = time.monotonic,
) -> list[Any]:
    """Run operations in one transaction. It blocks.

    When one of them breaks it, for a reason of its own, each is run alone. A store may have a
    method ``repeatable``, which gives a transaction for those that are done again when they have
    lost a race, and is given a dictionary in which it remembers what it was told by that.

    Returns:
        What each gives, in order: a value, or a Failure.
    """
    repeatable = getattr(store, "repeatable", None)
    begin = store.transaction if repeatable is None else partial(repeatable, {})
    for _ in range(_RACES):
        try:
            with begin() as transaction:
                return [_attempt(operation, transaction) for operation in operations]
        except LostRaceError:
            lost = Failure()
        except _FOR_ALL as error:
            # A single row is held by somebody: that concerns who needs it.
            if not isinstance(error, LockedError) or len(operations) == 1:
                return [Failure()] * len(operations)
            return _one_by_one(store, operations, seconds)
        except Exception:  # noqa: BLE001 - whoever asked for it is told
            if len(operations) == 1:
                return [Failure()]
            return _one_by_one(store, operations, seconds)
    return [lost] * len(operations)


def _one_by_one(
    store: ILedgerStore, operations: Sequence[Operation], seconds: Callable[[], float]
) -> list[Any]:
    """Run each operation in a transaction of its own.

    Each that needs what somebody else holds waits for it in vain. When that has taken too long
    those that are left fail like it: all that comes later waits for them.
    """
    answers: list[Any] = []
    locked: Failure | None = None
    until = seconds() + _LONGEST
    for each in operations:
        if locked is not None and seconds() >= until:
            answers.append(locked)
            continue
        (answer,) = perform(store, [each], seconds)
        answers.append(answer)
        if isinstance(answer, Failure) and answer.check(LockedError):
            locked = answer
    return answers


def _attempt(operation: Operation, transaction: ILedgerTransaction) -> Any:
    try:
        return operation(transaction)
    except _REFUSALS:
        return Failure()
