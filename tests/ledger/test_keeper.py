"""Claims are looked after: ours are kept, those of the dead are taken."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerUnavailableError
from oni.ledger import MemoryStore
from oni.ledger._keeper import Keeper
from oni.values import Claim, Delivery, Handling, LedgerEvent

ME, OTHER = "1" * 32, "2" * 32
LEASE = 9.0


class KeeperTests(SynchronousTestCase):
    """One keeper on clocks of its own: one that only runs forward, and the wall's."""

    def setUp(self) -> None:
        """Make a keeper, a key, and another owner that lives."""
        self.clock = Clock()
        self.wall = 1_000_000.0
        self.store = MemoryStore(clock=lambda: self.wall)
        self.keeper = Keeper(self.store, ME, LEASE, self.clock.seconds)
        self.store.enter(OTHER)
        with self.store.transaction() as transaction:
            transaction.admit(LedgerEvent("k", handlings=(Handling("h"),)))

    def claim(self, owner: str) -> Claim:
        """Claim the key."""
        with self.store.transaction() as transaction:
            (claim,) = transaction.claim(["h"], 1, owner, LEASE)
        return claim

    def row(self) -> Delivery:
        """Give the delivery."""
        return self.store.rows["k", "h"]

    def pass_time(self, seconds: float) -> None:
        """Let both clocks run, with a look each second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.wall += 1.0
            self.keeper.tick()

    def test_the_dead_are_rescued_at_once(self) -> None:
        """At the first look after an owner's death what it ran is taken."""
        self.claim(OTHER)
        self.keeper.tick()
        self.assertEqual(self.row().state, "running")
        self.store.leave(OTHER)
        self.keeper.tick()
        self.assertEqual((self.row().state, self.row().crashes), ("pending", 1))
        self.assertEqual(self.keeper.rescued, 1)

    def test_the_silent_are_rescued_after_a_lease(self) -> None:
        """Who lives and says nothing loses it after the lease, and not before."""
        self.claim(OTHER)
        self.keeper.tick()
        self.pass_time(LEASE - 1)
        self.assertEqual(self.row().state, "running")
        self.pass_time(1)
        self.assertEqual(self.row().state, "pending")

    def test_the_living_keep_theirs(self) -> None:
        """Who makes the lease longer in time keeps it for ever."""
        claim = self.claim(OTHER)
        other = Keeper(self.store, OTHER, LEASE, self.clock.seconds)
        other.hold([claim])
        for _ in range(20):
            other.tick()
            self.pass_time(4)
        self.assertEqual((self.row().state, self.row().owner), ("running", OTHER))

    def test_a_database_that_was_away(self) -> None:
        """However long it was away, nobody's silence was seen: who lives has time to say so."""
        claim = self.claim(OTHER)
        other = Keeper(self.store, OTHER, LEASE, self.clock.seconds)
        other.hold([claim])
        self.pass_time(2)
        with mock.patch.object(
            self.store, "transaction", side_effect=LedgerUnavailableError("away")
        ):
            for _ in range(10):
                self.clock.advance(LEASE)
                self.keeper.look()
                other.look()
        self.keeper.look()
        self.pass_time(2)
        self.assertEqual(self.keeper.rescued, 0)
        other.look()
        self.pass_time(LEASE)
        self.assertEqual(self.keeper.rescued, 0)
        self.pass_time(1)
        self.assertEqual(self.keeper.rescued, 1, "that it was away excuses nobody for ever")

    def test_a_database_that_is_locked(self) -> None:
        """Who had to wait to take what is silent leaves it: its owner had to wait, too."""
        transaction = self.store.transaction

        def wait_and_write(read: bool = False) -> Any:
            if not read:
                self.clock.advance(LEASE / 4)
            return transaction(read)

        self.claim(OTHER)
        self.keeper.tick()
        with mock.patch.object(self.store, "transaction", wait_and_write):
            self.pass_time(LEASE + 3)
            self.assertEqual(self.row().state, "running")
        self.keeper.tick()
        self.assertEqual(self.row().state, "pending")
        self.claim(OTHER)
        self.store.leave(OTHER)
        with mock.patch.object(self.store, "transaction", wait_and_write):
            self.keeper.tick()
        self.assertEqual(self.row().state, "pending", "the dead wait for nothing")

    def test_a_wall_clock_that_jumps(self) -> None:
        """A day more or less on the wall's clock takes nothing from anybody."""
        claim = self.claim(OTHER)
        other = Keeper(self.store, OTHER, LEASE, self.clock.seconds)
        other.hold([claim])
        for jump in (86_400.0, -86_400.0, -86_400.0, 86_400.0):
            self.wall += jump
            self.keeper.tick()
            for _ in range(4):
                self.pass_time(3)
                other.tick()
        self.assertEqual((self.keeper.rescued, other.lost), (0, 0))
        self.assertEqual(self.row().state, "running")

    def test_a_clock_that_is_set_back(self) -> None:
        """What was due stays due, and what was to wait waits as long as it had to."""
        (claim,) = [self.claim(OTHER)]
        with self.store.transaction() as transaction:
            transaction.fail(claim, "no", False, 60.0)
            transaction.admit(LedgerEvent("l", handlings=(Handling("h"),)))
        self.wall -= 86_400.0
        self.keeper.tick()
        self.assertEqual(self.claim(OTHER).key, "l")
        self.wall += 59.0
        with self.store.transaction() as transaction:
            self.assertEqual(list(transaction.claim(["h"], 1, OTHER, LEASE)), [])
        self.wall += 1.0
        self.assertEqual((self.claim(OTHER).key, self.keeper.rescued), ("k", 0))

    def test_ours_are_kept_up(self) -> None:
        """A claim of ours is extended while it is held."""
        claim = self.claim(ME)
        self.keeper.hold([claim])
        before = self.row().lease_until
        self.pass_time(2)
        self.assertEqual(self.row().lease_until, before, "too early")
        self.pass_time(20)
        self.assertGreater(self.row().lease_until, before + 10)
        self.keeper.drop(claim)
        self.pass_time(LEASE + 1)
        self.assertEqual(self.row().state, "pending")

    def test_what_nobody_knows_of_is_taken_back(self) -> None:
        """A claim of ours whose answer was lost comes back after a lease."""
        self.claim(ME)
        self.keeper.tick()
        self.pass_time(LEASE - 1)
        self.assertEqual(self.row().state, "running")
        self.pass_time(1)
        self.assertEqual(self.row().state, "pending")

    def test_what_was_lost_is_dropped(self) -> None:
        """A claim that was taken from us is not held any more, and not taken back."""
        self.keeper.hold([self.claim(ME)])
        with self.store.transaction() as transaction:
            (seen,) = transaction.running()
            self.assertTrue(transaction.rescue(seen))
        self.claim(OTHER)
        self.pass_time(4)
        self.assertEqual((self.keeper.held, self.keeper.lost), (0, 1))
        self.assertEqual(self.row().owner, OTHER)

    def test_a_bad_day(self) -> None:
        """What goes wrong is said once, and ends nothing; that it goes well again is said, too."""
        heard: list[str] = []

        def hear(event: LogEvent) -> None:
            if event.get("log_namespace") == "oni.ledger._keeper":
                heard.append(event["log_format"])

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        self.claim(OTHER)
        self.keeper.look()
        with mock.patch.object(
            self.store, "transaction", side_effect=LedgerUnavailableError("away")
        ):
            self.keeper.look()
            self.keeper.look()
        self.keeper.look()
        self.assertEqual(["cannot" in heard[0], "again" in heard[1], len(heard)], [True, True, 2])
        with mock.patch.object(self.store, "transaction", side_effect=ZeroDivisionError):
            self.keeper.look()
            self.keeper.look()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.store.leave(OTHER)
        self.keeper.look()
        self.assertEqual(self.row().state, "pending")

    def test_an_old_claim_hides_nothing(self) -> None:
        """That we still hold an old claim does not keep us from rescuing what another ran."""
        self.keeper.hold([self.claim(ME)])
        with self.store.transaction() as transaction:
            (seen,) = transaction.running()
            transaction.rescue(seen)
        self.claim(OTHER)
        self.store.leave(OTHER)
        self.keeper.tick()
        self.assertEqual((self.row().state, self.keeper.held), ("pending", 1))

    def test_an_old_claim_drops_nothing(self) -> None:
        """Letting an old claim go does not let go of the new one."""
        old = self.claim(ME)
        with self.store.transaction() as transaction:
            transaction.release(old)
        self.keeper.hold([self.claim(ME)])
        self.keeper.drop(old)
        self.assertEqual(self.keeper.held, 1)
