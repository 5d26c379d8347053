"""Steps that a store's own tests do not reach, because somebody else has to be faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerUnavailableError
from oni.ledger import MemoryStore
from oni.ledger._transaction import LostRaceError
from oni.values import Handling, LedgerEvent
from tests.ledger.stores import SqlFolder

EVENT = LedgerEvent("k", handlings=(Handling("mail"),))


class RaceTests(SynchronousTestCase):
    """Others are at the same rows."""

    def refuse(self, times: int) -> Callable[..., bool]:
        """Give what refuses an event so many times: its key is there, and gone when one looks."""
        refused = [0]

        def add_event(transaction: Any, *event: Any) -> bool:
            refused[0] += 1
            return refused[0] > times and bool(self.add_event(transaction, *event))

        return add_event

    def admit(self, times: int) -> str:
        """Admit an event whose key is pruned by another one so many times meanwhile."""
        store = MemoryStore()
        with store.transaction() as transaction:
            kind = type(transaction)
            self.add_event = kind.add_event
            with mock.patch.object(kind, "add_event", self.refuse(times)):
                return transaction.admit(EVENT)

    def test_pruned_meanwhile(self) -> None:
        """A key that was there, and is pruned before one looks at it, is new."""
        self.assertEqual(self.admit(1), "admitted")

    def test_pruned_again_and_again(self) -> None:
        """What never stands still is said, and not waited for without an end."""
        self.assertRaises(LedgerUnavailableError, self.admit, 100)

    def test_claimed_by_somebody_without_a_lock(self) -> None:
        """Where a claimed row is not what it was, nothing is claimed, and it is done again."""
        folder = SqlFolder()
        self.addCleanup(folder.remove)
        folder.store.open()
        with folder.store.transaction() as transaction:
            transaction.admit(EVENT)
            ((before, _, _),) = transaction.due("mail", transaction.now(), 1, None)
            after = replace(before, state="running", token=1)
            stale = replace(before, token=7)
            self.assertEqual(transaction.write_each([(before, after)]), [True])
            self.assertRaises(LostRaceError, transaction.write_each, [(stale, after)])
