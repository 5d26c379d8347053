"""What is asked for at the same time is committed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    LedgerBusyError,
    LedgerFullError,
    LedgerUnavailableError,
    NotRunningError,
    StaleClaimError,
)
from oni.interfaces import ILedgerTransaction
from oni.ledger import MemoryStore
from oni.ledger._group_commit import LARGEST, GroupCommit, perform
from oni.ledger._transaction import LockedError, LostRaceError
from oni.values import Claim, Delivery, LedgerEvent
from tests.ledger.threads import WhenTold


class CountingStore(MemoryStore):
    """Counts transactions, and breaks them when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.errors: list[Exception] = []

    @contextmanager
    def transaction(self, read: bool = False) -> Iterator[ILedgerTransaction]:
        """Break just before the end."""
        with super().transaction(read) as transaction:
            self.begun += 1
            yield transaction
            if self.errors:
                raise self.errors.pop()


def admit(key: str) -> object:
    """Give an operation that admits a key."""
    return lambda transaction: transaction.admit(LedgerEvent(key))


class GroupTests(SynchronousTestCase):
    """Groups over a store in memory."""

    def setUp(self) -> None:
        """Make one."""
        self.store = CountingStore()
        self.threads = WhenTold()
        self.clock = Clock()
        self.group = GroupCommit(
            self.store,
            self.threads,
            200,
            lambda call: self.clock.callLater(0, call),
            self.clock.seconds,
        )

    def go(self) -> None:
        """Let one transaction happen."""
        self.clock.advance(0)
        self.threads.go()

    def test_together(self) -> None:
        """One transaction takes all of a turn, the next one all that came meanwhile."""
        first = [self.group.add(admit(f"k{n}")) for n in range(5)]
        self.clock.advance(0)
        second = [self.group.add(admit(f"l{n}")) for n in range(5)]
        self.threads.go()
        self.assertEqual([self.successResultOf(each) for each in first], ["admitted"] * 5)
        for each in second:
            self.assertNoResult(each)
        self.threads.go()
        self.assertEqual([self.successResultOf(each) for each in second], ["admitted"] * 5)
        self.assertEqual((self.store.begun, self.group.commits), (2, 2))

    def test_bounded_groups(self) -> None:
        """No group is larger than it may be."""
        done = [self.group.add(admit(f"k{n}")) for n in range(LARGEST + 1)]
        for _ in range(2):
            self.go()
        self.assertEqual([self.successResultOf(each) for each in done], ["admitted"] * len(done))
        self.assertEqual(self.store.begun, 2)

    def test_bounded_queue(self) -> None:
        """When too many wait, more are refused."""
        done = [self.group.add(admit(f"k{n}")) for n in range(200)]
        self.failureResultOf(self.group.add(admit("more")), LedgerBusyError)
        self.assertEqual(self.group.waiting, 200)
        self.go()
        self.successResultOf(done[0])
        self.group.add(admit("more"))

    def test_cancelled(self) -> None:
        """What is cancelled while it waits does not happen."""
        self.group.add(admit("first"))
        second = self.group.add(admit("second"))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.go()
        self.assertEqual(set(self.store.events), {"first"})

    def test_cancelled_too_late(self) -> None:
        """What is cancelled while it happens happens, and nothing goes wrong."""
        first, second = self.group.add(admit("first")), self.group.add(admit("second"))
        self.clock.advance(0)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.threads.go()
        self.assertEqual(self.successResultOf(second), "admitted")
        self.assertEqual(set(self.store.events), {"first", "second"})

    def test_all_cancelled(self) -> None:
        """Where all that waited was cancelled, nothing happens, and what comes later does."""
        self.group.add(admit("first")).addErrback(lambda failure: None).cancel()
        self.go()
        self.assertEqual(self.store.begun, 0)
        self.group.add(admit("second"))
        self.go()
        self.assertEqual(set(self.store.events), {"second"})

    def test_told_what_nobody_waits_for(self) -> None:
        """What happened for somebody who cancelled too late is told to whom it may concern."""
        told: list[object] = []
        late = self.group.add(admit("late"), unheard=told.append)
        heard = self.group.add(admit("heard"), unheard=told.append)
        self.clock.advance(0)
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.threads.go()
        self.assertEqual(self.successResultOf(heard), "admitted")
        self.assertEqual(told, ["admitted"])
        self.store.errors = [ZeroDivisionError()]
        failing = self.group.add(admit("failing"), unheard=told.append)
        self.clock.advance(0)
        failing.cancel()
        self.failureResultOf(failing, CancelledError)
        self.threads.go()
        self.assertEqual(told, ["admitted"])

    def test_told_when_it_is_kept(self) -> None:
        """What is committed is told at once, where that happens; what is not is not."""
        told: list[object] = []
        refusals = [ZeroDivisionError(), ZeroDivisionError()]
        self.store.errors = [*refusals]
        for key in ("a", "b"):
            self.group.add(admit(key), kept=lambda answer, key=key: told.append(key)).addErrback(
                lambda failure: failure.trap(ZeroDivisionError)
            )
        self.go()
        self.assertEqual(told, ["b"], "the group was rolled back, and then a alone")
        self.assertEqual(set(self.store.events), {"b"})

    def test_by_keys(self) -> None:
        """A group works by keys in their order, and last on what may be any of them."""
        told: list[str] = []
        for place in ("b", None, "a", "c", "a"):
            self.group.add(
                lambda transaction, place=place: told.append(place or "any"),
                *([place] if place else []),
            )
        self.go()
        self.assertEqual(told, ["a", "a", "b", "c", "any"])

    def test_hopeless(self) -> None:
        """Who has waited long in vain is told with the first ones, and later ones have a try."""
        first = [self.group.add(admit(f"k{n}")) for n in range(LARGEST)]
        second = self.group.add(admit("second"))
        self.clock.advance(29.0)
        third = self.group.add(admit("third"))
        self.store.errors = [LedgerUnavailableError("locked")]
        self.clock.advance(1.0)
        self.threads.go()
        for each in (*first, second):
            self.failureResultOf(each, LedgerUnavailableError)
        self.assertNoResult(third)
        self.threads.go()
        self.assertEqual(self.successResultOf(third), "admitted")

    def test_cancelled_by_another_one(self) -> None:
        """Who is told of a failure may cancel others that are to be told; the rest still is."""
        for is_stopped in (True, False):
            first, second, third = (self.group.add(admit(f"{n} {is_stopped}")) for n in range(3))
            told = [self.group.add(admit(f"{n}")) for n in range(LARGEST)]
            if is_stopped:
                first.addErrback(lambda failure, second=second: second.cancel())
                self.group.refuse()
            else:
                self.clock.advance(30.0)
                self.store.errors = [LedgerUnavailableError("locked")]
                first.addErrback(lambda failure, late=told[-1]: late.cancel())
                told.pop().addErrback(lambda failure: failure.trap(CancelledError))
                self.threads.go()
                self.failureResultOf(second, LedgerUnavailableError)
            second.addErrback(lambda failure: failure.trap(CancelledError))
            for each in (third, *told):
                self.failureResultOf(each)

    def test_not_hopeless(self) -> None:
        """A failure that comes at once, or of one of them, takes nobody's turn."""
        for error in (LedgerUnavailableError("cut"), LedgerFullError("no room")):
            first = [self.group.add(admit(f"k{n}")) for n in range(LARGEST)]
            second = self.group.add(admit(f"second {error}"))
            self.store.errors = [error]
            self.clock.advance(0.0 if "cut" in str(error) else 60.0)
            self.threads.go()
            for each in first:
                self.failureResultOf(each, type(error))
            self.threads.go()
            self.assertEqual(self.successResultOf(second), "admitted")

    def test_refused_when_stopped(self) -> None:
        """What waits when the ledger stops is told so."""
        first = self.group.add(admit("first"))
        self.clock.advance(0)
        second = self.group.add(admit("second"))
        self.group.refuse()
        self.failureResultOf(second, NotRunningError)
        self.threads.go()
        self.assertEqual(self.successResultOf(first), "admitted")


class PerformTests(SynchronousTestCase):
    """What becomes of a group when something goes wrong."""

    def setUp(self) -> None:
        """Make a store."""
        self.store = CountingStore()

    def test_refusals_harm_nobody(self) -> None:
        """What is refused is refused alone, within the same transaction."""
        claim = Claim(Delivery("h", "nothing", state="running", token=1), "", b"", "")
        first, second, third = perform(
            self.store, [admit("a"), lambda t: t.complete(claim), admit("b")]
        )
        self.assertEqual((first, third), ("admitted", "admitted"))
        self.assertTrue(second.check(StaleClaimError))
        self.assertEqual(self.store.begun, 1)

    def test_one_that_breaks_the_group(self) -> None:
        """When one breaks the transaction, each is done alone, and only that one fails."""

        def break_it(transaction: ILedgerTransaction) -> None:
            transaction.admit(LedgerEvent("never"))
            raise ZeroDivisionError

        first, second, third = perform(self.store, [admit("a"), break_it, admit("b")])
        self.assertEqual((first, third), ("admitted", "admitted"))
        self.assertTrue(second.check(ZeroDivisionError))
        self.assertEqual(set(self.store.events), {"a", "b"})

    def test_a_full_disk_concerns_all(self) -> None:
        """What concerns everybody is not tried one by one."""
        self.store.errors = [LedgerFullError("no room")]
        answers = perform(self.store, [admit("a"), admit("b")])
        self.assertTrue(all(answer.check(LedgerFullError) for answer in answers))
        self.assertEqual(self.store.begun, 1)
        self.assertEqual(self.store.events, {})

    def test_what_one_row_is_locked_for(self) -> None:
        """Who needs what another one holds waits in vain; the others of its group do not."""

        def needs_it(transaction: ILedgerTransaction) -> None:
            raise LockedError("held")

        first, second, third = perform(self.store, [admit("a"), needs_it, admit("b")])
        self.assertEqual((first, third), ("admitted", "admitted"))
        self.assertTrue(second.check(LedgerUnavailableError))

    def test_what_many_rows_are_locked_for(self) -> None:
        """Where much of a group is locked its end does not wait for all of them in turn."""
        clock = Clock()

        def needs_it(transaction: ILedgerTransaction) -> None:
            clock.advance(10.0)
            raise LockedError("held")

        answers = perform(
            self.store, [needs_it, admit("a"), *[needs_it] * 100, admit("b")], clock.seconds
        )
        self.assertEqual(answers[1], "admitted")
        self.assertTrue(all(each.check(LockedError) for each in answers[2:]))
        self.assertLessEqual(clock.seconds(), 40.0)

    def test_a_slow_group(self) -> None:
        """That each takes its time, and none is locked, is no reason to fail."""
        clock = Clock()
        self.store.errors = [ZeroDivisionError()]

        def is_slow(transaction: ILedgerTransaction) -> str:
            clock.advance(10.0)
            return "done"

        self.assertEqual(perform(self.store, [is_slow] * 9, clock.seconds), ["done"] * 9)

    def test_what_lost_races_tell(self) -> None:
        """A store that can remembers what it was told from one try to the next, and no longer."""
        known: list[int] = []

        class Remembering(CountingStore):
            """Remembers each try."""

            def repeatable(self, told: dict[int, bool]) -> AbstractContextManager[Any]:
                """Remember this one."""
                known.append(len(told))
                told[len(told)] = True
                return self.transaction()

        store = Remembering()
        for _ in range(2):
            store.errors = [LostRaceError("")] * 100
            perform(store, [admit("a")])
        self.assertEqual(known, [*range(5), *range(5)])

    def test_lost_races_are_run_again(self) -> None:
        """What was in another's way is done again, a few times."""
        self.store.errors = [LostRaceError("")] * 2
        self.assertEqual(perform(self.store, [admit("a")]), ["admitted"])
        self.store.errors = [LostRaceError("")] * 100
        (answer,) = perform(self.store, [admit("b")])
        self.assertTrue(answer.check(LostRaceError))
        self.assertGreater(len(self.store.errors), 90)
