"""What every store of a ledger must do, as tests."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.errors import (
    DeliveryStateError,
    LedgerTransactionError,
    StaleClaimError,
    UnknownDeliveryError,
)
from oni.interfaces import ILedgerStore, ILedgerTransaction
from oni.testing._ledger_model import LedgerModel
from oni.values import Claim, Delivery, Handling, LedgerEvent, OnCrash

__all__ = ["LedgerStoreBattery", "take_random_steps"]

_ONE, _TWO = "1" * 32, "2" * 32
_LEASE = 10.0
_STEPS = 200
_STEPS_BY_CHANCE = (
    *("admit", "claim", "complete", "rescue") * 2,
    *("claim", "fail", "release", "extend", "look", "resolve", "prune", "time", "break"),
    "catch_up",
)


class LedgerStoreBattery:
    """Mix it into a test case, and say how a store is made, and how effects are written.

    Each test begins with a store that is open and empty, ``self.store``, on a clock that stands at
    ``self.now``.
    """

    store: ILedgerStore
    now: float

    def make_store(self) -> ILedgerStore:
        """Make a store with nothing in it, whose clock is :meth:`clock`."""
        raise NotImplementedError

    def write_effect(self, connection: Any, name: str) -> None:
        """Write something beside the ledger, through a transaction's connection."""
        raise NotImplementedError

    def effects(self) -> Sequence[str]:
        """Give what was written beside the ledger, and committed."""
        raise NotImplementedError

    def clock(self) -> float:
        """Give the time."""
        return self.now

    def setUp(self) -> None:
        """Open a store."""
        self.now = 1_000_000.0
        self.store = self.make_store()
        self.store.open()
        self.case.addCleanup(self.store.close)

    @property
    def case(self) -> SynchronousTestCase:
        """This, as the test case that it is mixed into."""
        return cast(SynchronousTestCase, self)

    # --- In short

    def admit(self, key: str, on_crash: OnCrash = "retry", max_attempts: int = 5) -> str:
        """Admit an event for one handler."""
        handlings = (Handling("mail", on_crash, max_attempts),)
        with self.store.transaction() as transaction:
            return transaction.admit(LedgerEvent(key, "g", key.encode(), handlings))

    def claim(self, limit: int = 64, owner: str = _ONE) -> Sequence[Claim]:
        """Claim what is due for it."""
        with self.store.transaction() as transaction:
            return transaction.claim(["mail"], limit, owner, _LEASE)

    def rescue_all(self) -> list[bool]:
        """Take everything that runs."""
        with self.store.transaction() as transaction:
            return [transaction.rescue(each) for each in transaction.running()]

    def row(self, key: str, handler: str = "mail") -> Delivery:
        """Give a delivery as it is kept."""
        with self.store.transaction(read=True) as transaction:
            record = transaction.show(key)
        assert record is not None
        (found,) = [each for each in record.deliveries if each.handler == handler]
        return found

    # --- Tests

    def test_interfaces(self) -> None:
        """A store and its transactions keep their interfaces."""
        verifyObject(ILedgerStore, self.store)
        with self.store.transaction() as transaction:
            verifyObject(ILedgerTransaction, transaction)

    def test_admission_once(self) -> None:
        """Of one key, one event is admitted; another payload is a conflict."""
        self.case.assertEqual(self.admit("k"), "admitted")
        self.case.assertEqual(self.admit("k"), "duplicate")
        with self.store.transaction() as transaction:
            again = transaction.admit(LedgerEvent("k", "g", b"something else"))
        self.case.assertEqual(again, "conflict")
        self.case.assertEqual([claim.payload for claim in self.claim()], [b"k"])

    def test_admission_rolled_back(self) -> None:
        """What is admitted in a transaction that fails never was."""
        with self.case.assertRaises(ZeroDivisionError), self.store.transaction() as transaction:
            transaction.admit(LedgerEvent("k", handlings=(Handling("mail"),)))
            _go_wrong()
        self.case.assertEqual(self.admit("k"), "admitted")

    def test_one_delivery_for_each_handler(self) -> None:
        """Each handler's delivery has a fate of its own."""
        event = LedgerEvent("k", handlings=(Handling("mail"), Handling("log")))
        with self.store.transaction() as transaction:
            transaction.admit(event)
            mail, log = transaction.claim(["mail", "log"], 64, _ONE, _LEASE)
            transaction.complete(log)
            transaction.fail(mail, "no", False, None)
        self.case.assertEqual(self.row("k", "log").state, "done")
        self.case.assertEqual(self.row("k", "mail").state, "pending")

    def test_only_due_ones_are_claimed(self) -> None:
        """What has failed waits, and is claimed when its time has come."""
        self.admit("k")
        (claim,) = self.claim()
        with self.store.transaction() as transaction:
            transaction.fail(claim, "no", False, 5.0)
        self.now += 4.0
        self.case.assertEqual(list(self.claim()), [])
        self.now += 1.0
        self.case.assertEqual([each.token for each in self.claim()], [2])

    def test_claimed_once(self) -> None:
        """What is claimed is nobody else's."""
        self.admit("k")
        self.case.assertEqual(len(self.claim()), 1)
        self.case.assertEqual(list(self.claim(owner=_TWO)), [])

    def test_limit(self) -> None:
        """No more is claimed than wanted, and each handler has its share."""
        for number in range(5):
            self.admit(f"k{number}")
        with self.store.transaction() as transaction:
            transaction.admit(LedgerEvent("l", handlings=(Handling("log"),)))
            claims = transaction.claim(["mail", "log"], 4, _ONE, _LEASE)
        self.case.assertEqual([each.handler for each in claims], ["mail", "mail", "log"])
        self.case.assertEqual(len(self.claim(2)), 2)
        self.case.assertEqual(len(self.claim(2)), 1)

    def test_keys(self) -> None:
        """Of given keys alone is claimed, if that is wanted."""
        for number in range(70):
            self.admit(f"k{number}")
        wanted = [f"k{number}" for number in range(66, 2, -1)]
        with self.store.transaction() as transaction:
            self.case.assertEqual(list(transaction.claim(["mail"], 64, _ONE, _LEASE, [])), [])
            none = transaction.claim(["mail"], 64, _ONE, _LEASE, ["another"])
            two = transaction.claim(["mail"], 64, _ONE, _LEASE, ["k0", "k69"])
            all_ = transaction.claim(["mail"], 64, _ONE, _LEASE, wanted)
        self.case.assertEqual(list(none), [])
        self.case.assertEqual([claim.key for claim in two], ["k0", "k69"])
        self.case.assertEqual(sorted(claim.key for claim in all_), sorted(wanted))
        self.case.assertEqual(
            sorted(claim.key for claim in self.claim()), ["k1", "k2", "k67", "k68"]
        )

    def admit_ranked(self, key: str = "k", **ranks: int) -> None:
        """Admit an event for handlers of these ranks."""
        handlings = tuple(Handling(name, rank=rank) for name, rank in ranks.items())
        with self.store.transaction() as transaction:
            transaction.admit(LedgerEvent(key, handlings=handlings))

    def claim_all(self) -> dict[str, Claim]:
        """Claim what is due, for every handler of these tests."""
        with self.store.transaction() as transaction:
            claims = transaction.claim(["third", "second", "mate", "first"], 64, _ONE, _LEASE)
        return {claim.handler: claim for claim in claims}

    def test_ranks(self) -> None:
        """A delivery is due once none of a lower rank is pending or running, whatever the gaps."""
        self.admit_ranked(third=7, second=3, mate=1, first=1)
        claims = self.claim_all()
        self.case.assertEqual(set(claims), {"first", "mate"})
        with self.store.transaction() as transaction:
            transaction.complete(claims["first"])
        self.case.assertEqual(self.claim_all(), {})
        with self.store.transaction() as transaction:
            transaction.complete(claims["mate"])
        claims = self.claim_all()
        self.case.assertEqual(set(claims), {"second"})
        with self.store.transaction() as transaction:
            transaction.complete(claims["second"])
        self.case.assertEqual(set(self.claim_all()), {"third"})

    def test_ranks_in_one_transaction(self) -> None:
        """What ends lets the next one be claimed in the same transaction."""
        self.admit_ranked(second=1, first=0)
        with self.store.transaction() as transaction:
            (claim,) = transaction.claim(["first", "second"], 64, _ONE, _LEASE)
            transaction.complete(claim)
            (claim,) = transaction.claim(["first", "second"], 64, _ONE, _LEASE)
        self.case.assertEqual(claim.handler, "second")

    def test_a_retry_has_not_ended(self) -> None:
        """While one waits for its next attempt, those of a higher rank wait."""
        self.admit_ranked(second=1, first=0)
        (claim,) = self.claim_all().values()
        with self.store.transaction() as transaction:
            transaction.fail(claim, "no", False, 5.0)
        self.case.assertEqual(self.claim_all(), {})
        self.now += 5.0
        self.case.assertEqual(set(self.claim_all()), {"first"})
        self.rescue_all()
        self.case.assertEqual(set(self.claim_all()), {"first"}, "nor has a rescued one")

    def test_the_dead_have_ended(self) -> None:
        """What is dead, in doubt or decided keeps nobody waiting."""
        self.admit_ranked(third=2, second=1, first=0)
        (claim,) = self.claim_all().values()
        with self.store.transaction() as transaction:
            transaction.fail(claim, "no", True, None)
        self.case.assertEqual(set(self.claim_all()), {"second"})
        for _ in range(5):
            self.rescue_all()
            self.now += 1_000.0
            claims = self.claim_all()
        self.case.assertEqual(set(claims), {"third"})
        self.admit_ranked("decided", second=1, first=0)
        with self.store.transaction() as transaction:
            transaction.resolve("first", "decided", "done", "ann")
        self.case.assertEqual(set(self.claim_all()), {"second"})

    def test_ranks_after_a_decision(self) -> None:
        """Those that have not run wait again for one that an operator lets run again."""
        self.admit_ranked(third=2, second=1, first=0)
        (claim,) = self.claim_all().values()
        with self.store.transaction() as transaction:
            transaction.complete(claim)
            (second,) = transaction.claim(["second"], 1, _ONE, _LEASE)
            transaction.resolve("first", "k", "retry", "ann")
            transaction.complete(second)
        self.case.assertEqual(self.row("k", "third").waits_for, 1)
        self.case.assertEqual(self.row("k", "second").waits_for, 1, "though it has ended")
        claims = self.claim_all()
        self.case.assertEqual(set(claims), {"first"})
        with self.store.transaction() as transaction:
            transaction.complete(claims["first"])
        self.case.assertEqual(set(self.claim_all()), {"third"})

    def test_ranks_of_other_keys(self) -> None:
        """Keys do not wait for each other."""
        self.admit_ranked("a", second=1, first=0)
        self.admit_ranked("b", second=1)
        self.case.assertEqual(
            {name: claim.key for name, claim in self.claim_all().items()},
            {"first": "a", "second": "b"},
        )

    def test_ranks_survive_a_rollback(self) -> None:
        """A completion that is rolled back lets nobody run."""
        self.admit_ranked(second=1, first=0)
        (claim,) = self.claim_all().values()
        with self.case.assertRaises(ZeroDivisionError), self.store.transaction() as transaction:
            transaction.complete(claim)
            _go_wrong()
        self.case.assertEqual(self.claim_all(), {})
        self.case.assertEqual(self.row("k", "second").waits_for, 1)

    def test_a_clock_that_is_set_back(self) -> None:
        """What came from the future waits from now on for as long as it had to."""
        for key in ("failed", "new"):
            self.admit(key)
        (claim,) = self.claim(1)
        with self.store.transaction() as transaction:
            transaction.fail(claim, "no", False, 60.0)
            self.case.assertEqual(list(transaction.ahead()), [])
        self.now -= 1_000.0
        self.case.assertEqual(list(self.claim()), [])
        with self.store.transaction() as transaction:
            ahead = transaction.ahead()
            self.case.assertEqual({each.key for each in ahead}, {"failed", "new"})
            self.case.assertEqual([transaction.catch_up(each) for each in ahead], [True] * 2)
            self.case.assertEqual(list(transaction.ahead()), [])
        self.case.assertEqual([claim.key for claim in self.claim()], ["new"])
        with self.store.transaction() as transaction:
            stale = [transaction.catch_up(each) for each in ahead if each.key == "new"]
        self.case.assertEqual(stale, [False])
        self.now += 60.0
        self.case.assertEqual([claim.key for claim in self.claim()], ["failed"])

    def test_another_life_of_a_key(self) -> None:
        """A claim on a key that was forgotten, and came again, is nobody's: its token may fit."""
        self.admit("k")
        (old,) = self.claim()
        self.rescue_all()
        (again,) = self.claim(owner=_TWO)
        with self.store.transaction() as transaction:
            transaction.complete(again)
        self.now += 10.0
        self._prune(1.0)
        self.admit("k")
        (new,) = self.claim(owner=_TWO)
        self.case.assertEqual(new.token, old.token)
        with self.case.assertRaises(StaleClaimError), self.store.transaction() as transaction:
            transaction.complete(old)
        self.case.assertEqual(self.row("k").state, "running")

    def test_halves_of_characters(self) -> None:
        """An error's text is kept, whatever is in it."""
        self.admit("k")
        (claim,) = self.claim()
        with self.store.transaction() as transaction:
            transaction.fail(claim, "file \udcff", True, None)
        self.case.assertEqual(self.row("k").last_error, "file \\udcff")

    def test_lag_of_those_that_wait(self) -> None:
        """What waits for a lower rank is not late."""
        self.admit_ranked(second=1, first=0)
        self.claim_all()
        self.now += 5.0
        with self.store.transaction(read=True) as transaction:
            self.case.assertEqual(transaction.lag(), 0.0)

    def test_effect_with_completion(self) -> None:
        """An effect and its completion are committed together."""
        self.admit("k", "transaction")
        (claim,) = self.claim()
        with self.store.transaction() as transaction:
            self.write_effect(transaction.connection, "sent")
            transaction.complete(claim)
        self.case.assertEqual(list(self.effects()), ["sent"])
        self.case.assertEqual(self.row("k").state, "done")

    def test_effect_of_a_stale_claim(self) -> None:
        """Who was thought to be dead and wakes up changes nothing, neither here nor beside it."""
        self.admit("k", "transaction")
        (old,) = self.claim()
        self.case.assertEqual(self.rescue_all(), [True])
        (new,) = self.claim(owner=_TWO)
        with self.case.assertRaises(StaleClaimError), self.store.transaction() as transaction:
            self.write_effect(transaction.connection, "twice")
            transaction.complete(old)
        self.case.assertEqual(list(self.effects()), [])
        with self.store.transaction() as transaction:
            self.write_effect(transaction.connection, "once")
            transaction.complete(new)
        with self.case.assertRaises(StaleClaimError), self.store.transaction() as transaction:
            self.write_effect(transaction.connection, "twice")
            transaction.complete(new)
        self.case.assertEqual(list(self.effects()), ["once"])

    def test_stale_failure_and_extension(self) -> None:
        """Nor can it fail, extend or release what is another's."""
        self.admit("k")
        (old,) = self.claim()
        self.rescue_all()
        (new,) = self.claim(owner=_TWO)
        with self.case.assertRaises(StaleClaimError), self.store.transaction() as transaction:
            transaction.fail(old, "no", True, None)
        with self.store.transaction() as transaction:
            self.case.assertFalse(transaction.extend(old, _LEASE))
            self.case.assertFalse(transaction.release(old))
            self.case.assertTrue(transaction.extend(new, _LEASE))
        self.case.assertEqual((self.row("k").state, self.row("k").owner), ("running", _TWO))

    def test_rescue_looks_again(self) -> None:
        """What was completed, claimed anew or extended since it was seen is not taken."""
        self.admit("k")
        (claim,) = self.claim()
        with self.store.transaction() as transaction:
            (seen,) = transaction.running()
        self.now += 1.0
        with self.store.transaction() as transaction:
            self.case.assertTrue(transaction.extend(claim, _LEASE))
            self.case.assertFalse(transaction.rescue(seen))
            transaction.complete(claim)
            self.case.assertFalse(transaction.rescue(seen))
        self.case.assertEqual(self.row("k").state, "done")

    def test_attempts_are_counted_at_the_claim(self) -> None:
        """What kills each of its owners is dead after its last attempt."""
        self.admit("k", max_attempts=3)
        for attempt in (1, 2, 3):
            (claim,) = self.claim()
            self.case.assertEqual(claim.attempt, attempt)
            self.case.assertEqual(self.rescue_all(), [True])
            self.now += 1_000.0
        self.case.assertEqual(list(self.claim()), [])
        row = self.row("k")
        self.case.assertEqual((row.state, row.attempts, row.crashes), ("dead", 3, 3))

    def test_suspects_come_alone(self) -> None:
        """What has outlived an owner is claimed alone, and keeps nobody from being claimed."""
        for number in range(3):
            self.admit(f"k{number}")
        self.claim()
        self.rescue_all()
        self.admit("new")
        sizes = [len(self.claim()) for _ in range(5)]
        self.case.assertEqual(sizes, [1, 1, 1, 1, 0])

    def test_suspects_come_alone_after_others(self) -> None:
        """Also one whose turn comes after others' waits until it is the first."""
        for key in ("suspect", "young"):
            self.admit(key)
        self.case.assertEqual([claim.key for claim in self.claim(1)], ["suspect"])
        self.now += 1.0
        self.rescue_all()
        self.case.assertEqual([claim.key for claim in self.claim()], ["young"])
        self.case.assertEqual([claim.key for claim in self.claim()], ["suspect"])

    def test_neighbours_survive_a_poisonous_event(self) -> None:
        """One event kills its process each time: it is dead in the end, the others are done."""
        for number in range(6):
            self.admit(f"k{number}")
        for _ in range(40):
            claims = self.claim()
            if any(claim.key == "k3" for claim in claims):
                self.rescue_all()
            else:
                with self.store.transaction() as transaction:
                    for claim in claims:
                        transaction.complete(claim)
            self.now += 400.0
        states = {key: self.row(key).state for key in (f"k{number}" for number in range(6))}
        self.case.assertEqual(states, dict.fromkeys(states, "done") | {"k3": "dead"})

    def test_parked(self) -> None:
        """With ``park`` a crash and a failure end in doubt; only an operator goes on."""
        for key in ("crash", "failure"):
            self.admit(key, "park")
        claims = {claim.key: claim for claim in self.claim()}
        with self.store.transaction() as transaction:
            transaction.fail(claims["failure"], "no", False, None)
        self.case.assertEqual(self.rescue_all(), [True])
        self.now += 1_000.0
        self.case.assertEqual(list(self.claim()), [])
        self.case.assertEqual(
            [self.row(key).state for key in ("crash", "failure")], ["uncertain"] * 2
        )
        with self.store.transaction() as transaction:
            transaction.resolve("mail", "crash", "done", "ann")
            transaction.resolve("mail", "failure", "retry", "bob")
        self.case.assertEqual([claim.key for claim in self.claim()], ["failure"])
        self.case.assertEqual(self.row("crash").state, "done")
        with self.store.transaction(read=True) as transaction:
            record = transaction.show("crash")
        assert record is not None
        (decision,) = record.decisions
        self.case.assertEqual(
            (decision.decision, decision.was, decision.who, decision.at),
            ("done", "uncertain", "ann", self.now),
        )

    def test_operators_are_refused(self) -> None:
        """Nobody decides about what runs, what is not there, or what is so anyway."""
        self.admit("k")
        (claim,) = self.claim()
        with self.store.transaction() as transaction:
            with self.case.assertRaises(DeliveryStateError):
                transaction.resolve("mail", "k", "done", "ann")
            with self.case.assertRaises(UnknownDeliveryError):
                transaction.resolve("mail", "nothing", "done", "ann")
            transaction.complete(claim)
            with self.case.assertRaises(DeliveryStateError):
                transaction.resolve("mail", "k", "done", "ann")

    def test_release(self) -> None:
        """What was never begun is given back, and was no attempt; its token is used up."""
        self.admit("k", max_attempts=1)
        (claim,) = self.claim()
        with self.store.transaction() as transaction:
            self.case.assertTrue(transaction.release(claim))
        (again,) = self.claim(owner=_TWO)
        self.case.assertEqual((again.attempt, again.token), (1, 2))

    def test_prune(self) -> None:
        """What every handler completed long ago is forgotten, and its key is new again."""
        for key in ("old", "failed", "young"):
            self.admit(key)
        claims = {claim.key: claim for claim in self.claim()}
        with self.store.transaction() as transaction:
            transaction.complete(claims["old"])
            transaction.fail(claims["failed"], "no", True, None)
        self.now += 100.0
        with self.store.transaction() as transaction:
            transaction.complete(claims["young"])
        self.case.assertEqual(self._prune(200.0), 0)
        self.case.assertEqual(self._prune(100.0), 1)
        self.case.assertEqual(
            [self.admit(key) for key in ("old", "failed", "young")],
            ["admitted", "duplicate", "duplicate"],
        )

    def _prune(self, older_than: float) -> int:
        with self.store.transaction() as transaction:
            return transaction.prune(older_than, 10)

    def test_listing(self) -> None:
        """Deliveries are listed, those that changed last first, and counted."""
        for key in ("a", "b", "c"):
            self.admit(key)
            self.now += 1.0
        (claim,) = self.claim(1)
        with self.store.transaction(read=True) as transaction:
            listed = [each.key for each in transaction.deliveries(None, None, 2)]
            running = [each.key for each in transaction.deliveries("running", "mail", 9)]
            nobody = transaction.deliveries(None, "nobody", 9)
            counted = transaction.count()
        self.case.assertEqual(listed, [claim.key, "c"])
        self.case.assertEqual(running, [claim.key])
        self.case.assertEqual(list(nobody), [])
        self.case.assertEqual(
            counted, {"pending": 2, "running": 1, "done": 0, "dead": 0, "uncertain": 0}
        )

    def test_lag(self) -> None:
        """It is told for how long the delivery that is due longest has been so."""

        def lag() -> float:
            with self.store.transaction(read=True) as transaction:
                return round(transaction.lag(), 3)

        self.case.assertEqual(lag(), 0.0)
        self.admit("a")
        self.now += 3.0
        self.admit("b")
        self.now += 2.0
        self.case.assertEqual(lag(), 5.0)
        (claim,) = self.claim(1)
        self.case.assertEqual((claim.key, lag()), ("a", 2.0))
        self.claim(1)
        with self.store.transaction() as transaction:
            transaction.fail(claim, "not now", False, 60.0)
        self.case.assertEqual(lag(), 0.0)

    def test_unknown_key(self) -> None:
        """Of a key that never came nothing is known."""
        with self.store.transaction(read=True) as transaction:
            self.case.assertIsNone(transaction.show("nothing"))

    def test_bytes_and_texts_come_back(self) -> None:
        """Payloads and texts come back as they were, whatever is in them."""
        payload = bytes(range(256))
        with self.store.transaction() as transaction:
            event = LedgerEvent("ü'%s:x", "grüße", payload, (Handling("mail"),))
            transaction.admit(event)
            (claim,) = transaction.claim(["mail"], 1, _ONE, _LEASE)
            transaction.fail(claim, "nul \0 and {braces} ü", True, None)
            record = transaction.show("ü'%s:x")
        assert record is not None
        self.case.assertEqual((claim.payload, claim.group), (payload, "grüße"))
        self.case.assertEqual(record.event, LedgerEvent("ü'%s:x", "grüße", payload))
        self.case.assertEqual(record.deliveries[0].last_error, "nul \ufffd and {braces} ü")

    def test_owners(self) -> None:
        """An owner lives from when it enters until it leaves."""
        self.case.assertFalse(self.store.is_alive(_ONE))
        self.store.enter(_ONE)
        self.store.enter(_ONE)
        self.case.assertTrue(self.store.is_alive(_ONE))
        self.case.assertFalse(self.store.is_alive(_TWO))
        self.store.leave(_ONE)
        self.store.leave(_ONE)
        self.case.assertFalse(self.store.is_alive(_ONE))
        self.store.enter(_ONE)
        self.store.close()
        self.store.open()
        self.case.assertFalse(self.store.is_alive(_ONE))

    def test_joined(self) -> None:
        """What is admitted in somebody else's transaction shares its fate."""
        event = LedgerEvent("k", handlings=(Handling("mail"),))
        with self.case.assertRaises(ZeroDivisionError), self.store.transaction() as transaction:
            self.store.join(transaction.connection).admit(event)
            _go_wrong()
        with self.store.transaction() as transaction:
            self.case.assertEqual(self.store.join(transaction.connection).admit(event), "admitted")
        self.case.assertEqual([claim.key for claim in self.claim()], ["k"])

    def test_joined_with_something_else(self) -> None:
        """What is no connection of this kind of store is refused."""
        with self.case.assertRaises(LedgerTransactionError):
            self.store.join(object())

    def test_random_walk(self) -> None:
        """Whatever is done in whatever order, the store does what the model says."""
        take_random_steps(self.model(), Random(1), _STEPS)

    def test_another_random_walk(self) -> None:
        """And in another order."""
        take_random_steps(self.model(), Random(2), _STEPS)

    def model(self) -> LedgerModel:
        """Give a model that takes steps on the store, and sets its clock."""
        return LedgerModel(self.store, self._set_clock, self.write_effect, self.effects)

    def _set_clock(self, now: float) -> None:
        self.now = now


def _go_wrong() -> None:
    raise ZeroDivisionError


def take_random_steps(model: LedgerModel, random: Random, steps: int) -> None:
    """Take so many steps, chosen by chance, and compare after each one.

    Args:
        model: Takes them.
        random: Chooses.
        steps: How many.
    """
    handlers = ["mail", "log", "push"]
    for _ in range(steps):
        _random_step(model, random, handlers)
        model.verify()


def _random_step(model: LedgerModel, random: Random, handlers: Sequence[str]) -> None:
    key = f"k{random.randrange(8)}"
    name = random.choice(_STEPS_BY_CHANCE)
    claim = random.choice(model.claims[-8:]) if model.claims else None
    if name == "admit":
        policies: list[OnCrash] = ["retry", "park", "transaction"]
        handlings = [
            Handling(each, random.choice(policies), random.randint(1, 3), random.randint(0, 2))
            for each in random.sample(handlers, random.randint(0, len(handlers)))
        ]
        model.admit(key, random.choice([b"a", b"a", b"b"]), handlings)
    elif name == "claim":
        wanted = random.sample(handlers, random.randint(1, len(handlers)))
        keys = random.choice([None, None, [key, "k0"], []])
        model.claim(random.choice([_ONE, _TWO]), wanted, random.randint(1, 4), _LEASE, keys)
    elif name == "look":
        model.look()
    elif name == "rescue" and model.sightings:
        model.rescue(*random.choice(model.sightings[-8:]))
    elif name == "resolve":
        model.resolve(random.choice(handlers), key, random.choice(["done", "retry"]))
    elif name == "catch_up":
        model.catch_up()
    elif name == "prune":
        model.prune(random.choice([0.0, 5.0, 50.0]))
    elif name == "time":
        model.pass_time(random.choice([0.5, 3.0, 20.0, 400.0, -86_400.0, 86_400.0]))
    elif claim is not None:
        if name == "complete":
            model.complete(claim)
        elif name == "fail":
            model.fail(claim, random.random() < 0.2, random.choice([None, 0.0, 2.0]))
        elif name == "release":
            model.release(claim)
        elif name == "extend":
            model.pass_time(0.25)
            model.extend(claim, _LEASE)
        elif name == "break":
            model.break_down(claim)
