"""The ledger itself: what its Deferreds tell, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.errors import (
    InvalidTimeoutError,
    LedgerCorruptError,
    LedgerKeyError,
    LedgerUnavailableError,
    NotRunningError,
    StaleClaimError,
    UnsafeLedgerError,
)
from oni.interfaces import ILedger
from oni.ledger import Ledger, MemoryConnection, MemoryStore
from oni.ledger._group_commit import GROUP
from oni.ledger._keeper import Keeper
from oni.values import Claim, Delivery, Handling, LedgerEvent, LedgerRecord, OnCrash
from tests.ledger.threads import AtOnce, WhenTold


def event(key: str, on_crash: OnCrash = "retry") -> LedgerEvent:
    """Give an event for one handler."""
    return LedgerEvent(key, "g", key.encode(), (Handling("mail", on_crash),))


class Store(MemoryStore):
    """A store that can be unable to open, or to begin."""

    open_error: Exception | None = None
    leave_error: Exception | None = None
    begin_error: Exception | None = None
    closed = 0

    def open(self) -> Sequence[str]:
        """Open, or not."""
        if self.open_error is not None:
            raise self.open_error
        return super().open()

    def transaction(self, read: bool = False) -> Any:
        """Begin, or not."""
        if self.begin_error is not None:
            raise self.begin_error
        return super().transaction(read)

    def leave(self, owner: str) -> None:
        """Leave, or not."""
        if self.leave_error is not None:
            raise self.leave_error
        super().leave(owner)

    def close(self) -> None:
        """Count."""
        self.closed += 1


class LedgerTests(SynchronousTestCase):
    """A ledger in memory whose threads are none, and whom nobody looks after."""

    def setUp(self) -> None:
        """Start one."""
        self.now = 1_000_000.0
        self.store = Store(clock=lambda: self.now)
        self.clock = Clock()
        self.ledger = Ledger(
            self.store,
            interval=None,
            reactor=self.clock,
            make_threads=lambda name, size: AtOnce(),
        )
        self.get(self.ledger.start())

    def get(self, deferred: Deferred[Any]) -> Any:
        """Give what a Deferred fires with."""
        self.clock.advance(0)
        return self.successResultOf(deferred)

    def refuse(self, deferred: Deferred[Any], error: type[Exception]) -> None:
        """See a Deferred fail."""
        self.clock.advance(0)
        self.failureResultOf(deferred, error)

    def claim(self) -> Claim:
        """Claim the only one that is due."""
        (claim,) = self.get(self.ledger.claim(["mail"]))
        assert isinstance(claim, Claim)
        return claim

    def state(self, key: str) -> str:
        """Give a delivery's state."""
        record: LedgerRecord = self.get(self.ledger.show(key))
        return record.deliveries[0].state

    def test_interface(self) -> None:
        """It is a ledger."""
        verifyObject(ILedger, self.ledger)

    def test_admitted_in_order(self) -> None:
        """Each event's fate is told in its place, however many there are."""
        keys = [f"k{n}" for n in range(2 * GROUP + 1, 0, -1)]
        events = [*map(event, keys), event("k1"), LedgerEvent("k2", payload=b"else")]
        self.assertEqual(
            self.get(self.ledger.admit(events)),
            ["admitted"] * len(keys) + ["duplicate", "conflict"],
        )
        counted = self.ledger.statistics()
        self.assertEqual(
            (counted["admitted"], counted["duplicate"], counted["conflict"]), (len(keys), 1, 1)
        )

    def test_nothing_to_admit(self) -> None:
        """No events have no fates."""
        self.assertEqual(self.get(self.ledger.admit([])), [])

    def test_wrong_keys_are_refused_at_once(self) -> None:
        """A wrong key is refused where it is offered, and nothing else is admitted then."""
        with self.assertRaises(LedgerKeyError):
            self.ledger.admit([event("good"), event("")])
        self.assertIsNone(self.get(self.ledger.show("good")))

    def test_completed(self) -> None:
        """What is completed is done, and let go."""
        self.get(self.ledger.admit([event("k")]))
        claim = self.claim()
        self.assertEqual(claim.idempotency_key, "oni/mail/k")
        self.assertEqual(self.ledger.statistics()["held"], 1)
        self.get(self.ledger.complete(claim))
        self.assertEqual(self.state("k"), "done")
        self.refuse(self.ledger.complete(claim), StaleClaimError)
        counted = self.ledger.statistics()
        self.assertEqual(
            [counted[name] for name in ("claimed", "completed", "stale", "held")], [1, 1, 1, 0]
        )

    def test_failed(self) -> None:
        """What has failed is told how it stands, and tried again with the same key outside."""
        self.get(self.ledger.admit([event("k")]))
        first = self.claim()
        delivery = self.get(self.ledger.fail(first, "no luck"))
        self.assertEqual((delivery.state, delivery.last_error), ("pending", "no luck"))
        self.now += 1.0
        second = self.claim()
        self.assertEqual(second.idempotency_key, first.idempotency_key)
        self.assertEqual((second.attempt, second.token), (2, 2))
        dead = self.get(self.ledger.fail(second, "poison", permanent=True))
        self.assertEqual(dead.state, "dead")
        self.assertEqual(self.ledger.statistics()["failed"], 2)

    def test_poison_keeps_its_bytes(self) -> None:
        """What cannot be decoded is dead with its bytes, and the next one proceeds."""
        poison = LedgerEvent("k", payload=b"\xff{", handlings=(Handling("mail"),))
        self.get(self.ledger.admit([poison, event("next")]))
        first, second = self.get(self.ledger.claim(["mail"]))
        self.get(self.ledger.fail(first, "not JSON", permanent=True))
        self.get(self.ledger.complete(second))
        record = self.get(self.ledger.show("k"))
        self.assertEqual(record.event.payload, b"\xff{")
        self.assertEqual(self.state("next"), "done")

    def test_run(self) -> None:
        """Work and completion are one; the work's result is told."""
        self.get(self.ledger.admit([event("k", "transaction")]))

        def work(connection: MemoryConnection) -> str:
            connection.put("note", "written")
            return "result"

        self.assertEqual(self.get(self.ledger.run(self.claim(), work)), "result")
        self.assertEqual((self.store.notes, self.state("k")), ({"note": "written"}, "done"))
        self.assertEqual(self.ledger.statistics()["held"], 0)

    def test_work_that_fails(self) -> None:
        """What failing work wrote is gone; its failure is told, whatever it is."""
        self.get(self.ledger.admit([event("k", "transaction")]))
        claim = self.claim()

        def work(connection: MemoryConnection) -> None:
            connection.put("note", "written")
            raise ZeroDivisionError

        self.refuse(self.ledger.run(claim, work), ZeroDivisionError)
        self.assertEqual((self.store.notes, self.state("k")), ({}, "running"))
        self.assertEqual(self.get(self.ledger.fail(claim, "no")).state, "pending")

    def test_work_of_a_stale_claim(self) -> None:
        """What the work of a claim that was taken away wrote is gone."""
        self.get(self.ledger.admit([event("k", "transaction")]))
        claim = self.claim()
        with self.store.transaction() as transaction:
            (seen,) = transaction.running()
            transaction.rescue(seen)
        write = self.ledger.run(claim, lambda connection: connection.put("note", "written"))
        self.refuse(write, StaleClaimError)
        self.assertEqual(self.store.notes, {})

    def test_released(self) -> None:
        """What is given back is due at once, and was no attempt."""
        self.get(self.ledger.admit([event("k")]))
        self.get(self.ledger.release([self.claim()]))
        self.assertEqual(self.ledger.statistics()["held"], 0)
        self.assertEqual(self.claim().attempt, 1)

    def test_keys(self) -> None:
        """Of given keys alone is claimed, however often each is named; of too many nothing."""
        self.get(self.ledger.admit([event(f"k{n}") for n in range(3)]))
        (claim,) = self.get(self.ledger.claim(["mail"], keys=["k1"] * (GROUP + 1)))
        self.assertEqual(claim.key, "k1")
        self.assertEqual(self.get(self.ledger.claim(["mail"], keys=[])), [])
        with self.assertRaises(ValueError):
            self.ledger.claim(["mail"], keys=[f"k{n}" for n in range(GROUP + 1)])
        self.assertEqual(len(self.get(self.ledger.claim(["mail"]))), 2)

    def test_claimed_for_nobody(self) -> None:
        """What was claimed for somebody who cancelled meanwhile is given back at once."""
        pool = WhenTold()
        ledger = Ledger(
            self.store, interval=None, reactor=self.clock, make_threads=lambda name, size: pool
        )
        started = ledger.start()
        pool.go()
        self.successResultOf(started)
        self.get(self.ledger.admit([event("k")]))
        claimed = ledger.claim(["mail"])
        self.clock.advance(0)
        claimed.cancel()
        self.failureResultOf(claimed, CancelledError)
        pool.go()
        self.assertEqual(self.state("k"), "running")
        self.assertEqual(ledger.statistics()["held"], 0)
        self.clock.advance(0)
        pool.go()
        self.assertEqual(self.claim().attempt, 1)

    def test_held_before_it_is_told(self) -> None:
        """A claim is looked after as soon as it is in the database, whatever the reactor does."""
        told: list[Claim] = []
        self.get(self.ledger.admit([event("k")]))
        with patch.object(Keeper, "hold", lambda keeper, claims: told.extend(claims)):
            claimed = self.ledger.claim(["mail"])
            held = claimed.addCallback(lambda claims: list(told))
            self.assertEqual([claim.key for claim in self.get(held)], ["k"])

    def test_wrong_figures(self) -> None:
        """What would make a delivery unfit, or cannot be kept, is refused at once."""
        self.get(self.ledger.admit([event("k")]))
        claim = self.claim()
        for delay in (-1.0, inf, nan):
            with self.assertRaises(ValueError):
                self.ledger.fail(claim, "no", delay=delay)
        for who in ("", "x" * 256):
            with self.assertRaises(ValueError):
                self.ledger.resolve("mail", "k", "done", who)
        self.get(self.ledger.release([claim]))
        self.get(self.ledger.admit([event("l")]))
        for limit in (0, -1):
            self.assertEqual(self.get(self.ledger.claim(["mail"], limit)), [])

    def test_a_suspect_is_not_kept_waiting(self) -> None:
        """Handlers change places, so that a suspect of one comes though others are busy."""
        zone = LedgerEvent("suspect", handlings=(Handling("zone"),))
        self.get(self.ledger.admit([zone, *(event(f"k{n}") for n in range(10))]))
        self.get(self.ledger.claim(["zone"], 1))
        with self.store.transaction() as transaction:
            (seen,) = transaction.running()
            transaction.rescue(seen)
        told = [self.get(self.ledger.claim(["mail", "zone"], 1)) for _ in range(2)]
        self.assertEqual({claim.handler for claims in told for claim in claims}, {"mail", "zone"})

    def test_operators(self) -> None:
        """An operator decides; deliveries are listed and counted; old keys are forgotten."""
        self.get(self.ledger.admit([event("k", "park")]))
        self.get(self.ledger.fail(self.claim(), "no"))
        self.assertEqual(self.get(self.ledger.count())["uncertain"], 1)
        self.assertEqual(self.get(self.ledger.lag()), 0.0)
        (listed,) = self.get(self.ledger.deliveries("uncertain", "mail"))
        self.assertEqual(listed.key, "k")
        self.assertEqual(self.get(self.ledger.resolve("mail", "k", "done", "ann")).state, "done")
        self.now += 10.0
        self.assertEqual(self.get(self.ledger.prune(5.0)), 1)
        with self.assertRaises(ValueError):
            self.ledger.prune(-1.0)

    def test_strange_names_of_operators(self) -> None:
        """Who decided is written as databases keep it, whatever the machine calls them."""
        self.get(self.ledger.admit([event("k")]))
        self.get(self.ledger.resolve("mail", "k", "done", "ann \0 \udcff"))
        (decision,) = self.get(self.ledger.show("k")).decisions
        self.assertEqual(decision.who, "ann \ufffd \\udcff")

    def test_admit_within(self) -> None:
        """Events join the caller's own transaction."""
        with self.store.transaction() as transaction:
            told = self.ledger.admit_within(transaction.connection, [event("k"), event("k")])
        self.assertEqual(told, ["admitted", "duplicate"])

    def test_unavailable(self) -> None:
        """When the database is away that is said, and it works again by itself."""
        self.get(self.ledger.admit([event("k")]))
        claim = self.claim()
        self.store.begin_error = LedgerUnavailableError("away")
        self.refuse(self.ledger.admit([event("l")]), LedgerUnavailableError)
        self.refuse(self.ledger.complete(claim), LedgerUnavailableError)
        self.assertEqual(self.ledger.statistics()["held"], 0, "it would never be rescued")
        self.store.begin_error = None
        self.get(self.ledger.complete(claim))

    def test_stopped(self) -> None:
        """Before the start and after the stop everything is refused; it can start again."""
        owner = self.ledger.owner
        self.assertTrue(self.store.is_alive(owner))
        self.get(self.ledger.stop())
        self.get(self.ledger.stop())
        self.assertEqual((self.store.closed, self.store.is_alive(owner)), (1, False))
        self.refuse(self.ledger.admit([event("k")]), NotRunningError)
        self.refuse(self.ledger.show("k"), NotRunningError)
        self.get(self.ledger.start())
        self.get(self.ledger.start())
        self.assertNotEqual(self.ledger.owner, owner)
        self.get(self.ledger.admit([event("k")]))

    def test_not_well_stopped(self) -> None:
        """What goes wrong in the end is told; the connections are closed, and it can start again.

        It is another owner then, with a keeper that lives.
        """
        owner = self.ledger.owner
        self.store.leave_error = LedgerUnavailableError("away")
        self.refuse(self.ledger.stop(), LedgerUnavailableError)
        self.assertEqual(self.store.closed, 1)
        self.store.leave_error = None
        self.get(self.ledger.start())
        self.assertNotEqual(self.ledger.owner, owner)
        self.get(self.ledger.admit([event("k")]))

    def test_stopped_while_it_starts(self) -> None:
        """Who stops it waits for a start that is under way, and who starts it again for the stop.

        Cancelling one of them leaves nothing half way.
        """
        pool = WhenTold()
        ledger = Ledger(
            Store(), interval=None, reactor=self.clock, make_threads=lambda name, size: pool
        )
        first, second = ledger.start(), ledger.start()
        stopped, third = ledger.stop(), ledger.start()
        for each in (first, second, stopped, third):
            self.assertNoResult(each)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        pool.go()
        self.successResultOf(second)
        self.assertNoResult(stopped)
        stopped.cancel()
        self.failureResultOf(stopped, CancelledError)
        self.assertNoResult(third)
        pool.go()
        pool.go()
        self.successResultOf(third)
        shown = ledger.show("k")
        pool.go()
        self.assertIsNone(self.successResultOf(shown))

    def test_questions_do_not_wait_for_work(self) -> None:
        """Work that hangs keeps nobody from asking how it goes."""
        pools: dict[str, WhenTold] = {}
        ledger = Ledger(
            Store(),
            interval=None,
            reactor=self.clock,
            make_threads=lambda name, size: pools.setdefault(name, WhenTold()),
        )
        ledger.start()
        pools["writer"].go()
        claim = Claim(Delivery("mail", "k", state="running", token=1), "", b"", "")
        ledger.run(claim, lambda connection: None)
        counted, shown = ledger.count(), ledger.show("k")
        pools["reader"].go()
        self.assertEqual(self.successResultOf(counted)["running"], 0)
        self.assertIsNone(self.successResultOf(shown))
        self.assertEqual(pools["worker"].waiting, 1)

    def test_threads(self) -> None:
        """However long the database is locked, and whoever waits: so many threads there are."""
        sizes: dict[str, int] = {}

        def make(name: str, size: int) -> AtOnce:
            sizes[name] = size
            return AtOnce()

        Ledger(Store(), interval=None, reactor=self.clock, make_threads=make, workers=2).start()
        self.assertEqual(sizes, {"writer": 1, "worker": 2, "reader": 1})

    def test_settings_that_cannot_be(self) -> None:
        """What no ledger could work with is refused where it is said."""
        for wrong in ({"lease": 0.0}, {"lease": None}, {"interval": 0}, {"interval": nan}):
            with self.assertRaises(InvalidTimeoutError):
                Ledger(self.store, **wrong)  # type: ignore[arg-type]
        for nobody in ({"workers": 0}, {"max_waiting": 0}):
            with self.assertRaises(ValueError):
                Ledger(self.store, **nobody)

    def test_claims_are_looked_after_in_time(self) -> None:
        """However short the lease is, claims are looked after several times in it."""
        told: list[float] = []
        with patch.object(Keeper, "start", lambda keeper, interval: told.append(interval)):
            for lease, interval in ((10.0, 0.5), (0.2, 0.5), (10.0, None)):
                ledger = Ledger(
                    Store(),
                    lease=lease,
                    interval=interval,
                    reactor=self.clock,
                    make_threads=lambda name, size: AtOnce(),
                )
                self.get(ledger.start())
        self.assertEqual(told, [0.5, 0.05])

    def test_refused_at_the_start(self) -> None:
        """A store that cannot keep the promise, or is damaged, is not started with."""
        self.get(self.ledger.stop())
        for error in (UnsafeLedgerError(["it forgets"]), LedgerCorruptError("damaged")):
            self.store.open_error = error
            closed = self.store.closed
            self.refuse(self.ledger.start(), type(error))
            self.assertEqual(self.store.closed, closed + 1, "its connections are left open")
            self.refuse(self.ledger.claim(["mail"]), NotRunningError)
        self.store.open_error = None
        self.get(self.ledger.start())
