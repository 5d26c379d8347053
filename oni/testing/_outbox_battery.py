"""What every outbox must do, as tests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.errors import LedgerKeyError, LedgerPayloadError, LedgerTransactionError
from oni.interfaces import IOutbox, IOutboxBatch
from oni.values import Handling, LedgerEvent, OutboxBacklog

__all__ = ["OutboxBattery"]

_MANY = 1000


class OutboxBattery:
    """Mix it into a test case, and say how an outbox is made, and what a transaction is.

    Each test begins with an outbox that is open and empty, ``self.outbox``, on a clock that stands
    at ``self.now``.
    """

    outbox: IOutbox
    now: float

    def make_outbox(self) -> IOutbox:
        """Make an outbox with nothing in it, whose clock is :meth:`clock`."""
        raise NotImplementedError

    def transaction(self) -> AbstractContextManager[Any]:
        """Give a transaction of the program's, as what the outbox takes for one.

        It is committed unless an exception leaves the block.
        """
        raise NotImplementedError

    def execute(self, statement: str) -> None:
        """Run a statement in the program's database, and commit it."""
        raise NotImplementedError

    def clock(self) -> float:
        """Give the time."""
        return self.now

    def setUp(self) -> None:
        """Open an outbox."""
        self.now = 1_000_000.0
        self.outbox = self.make_outbox()
        self.outbox.open()
        self.case.addCleanup(self.outbox.close)

    @property
    def case(self) -> SynchronousTestCase:
        """This, as the test case that it is mixed into."""
        return cast(SynchronousTestCase, self)

    # --- In short

    def put(self, *keys: str) -> None:
        """Put events, in a transaction of their own."""
        with self.transaction() as connection:
            self.outbox.put(connection, [_event(key) for key in keys])

    def take(self, limit: int = _MANY) -> Sequence[str]:
        """Take what there is, and give the keys; all of it is removed."""
        batch = self.outbox.take(limit)
        batch.end({})
        return [event.key for event in batch.events]

    # --- Tests

    def test_interfaces(self) -> None:
        """An outbox and its batches keep their interfaces."""
        verifyObject(IOutbox, self.outbox)
        batch = self.outbox.take(1)
        verifyObject(IOutboxBatch, batch)
        batch.give_up()

    def test_events_come_back(self) -> None:
        """Events come back as they were, whatever is in them."""
        handlings = (Handling("mail", "park", 3, 0), Handling("größe", "transaction", 5, 2))
        events = [
            LedgerEvent("ü'%s:x", "grüße", bytes(range(256)), handlings),
            LedgerEvent("empty"),
        ]
        with self.transaction() as connection:
            self.outbox.put(connection, events)
        batch = self.outbox.take(_MANY)
        self.case.assertEqual(list(batch.events), events)
        self.case.assertEqual(batch.size, 2)
        batch.give_up()

    def test_in_order(self) -> None:
        """Those that were put first are taken first, so many at most."""
        self.put("c", "a")
        self.put("b")
        self.case.assertEqual(list(self.take(2)), ["c", "a"])
        self.case.assertEqual(list(self.take(2)), ["b"])
        self.case.assertEqual(list(self.take(2)), [])

    def test_rolled_back(self) -> None:
        """What is put in a transaction that is rolled back never was."""
        with self.case.assertRaises(ZeroDivisionError), self.transaction() as connection:
            self.outbox.put(connection, [_event("k")])
            _go_wrong()
        self.case.assertEqual(list(self.take()), [])

    def test_given_up(self) -> None:
        """What was taken and given up is still there."""
        self.put("k")
        batch = self.outbox.take(_MANY)
        batch.give_up()
        self.case.assertEqual(list(self.take()), ["k"])

    def test_the_same_key(self) -> None:
        """The ledger knows duplicates; the outbox keeps each one."""
        self.put("k", "k")
        self.case.assertEqual(list(self.take()), ["k", "k"])

    def test_refused(self) -> None:
        """What can never be admitted lies aside, and keeps nothing else from being taken."""
        self.put("a", "b", "c")
        batch = self.outbox.take(_MANY)
        told = batch.end({1: "it is too blue"})
        self.case.assertEqual(list(told.values()), ["it is too blue"])
        self.case.assertEqual(list(self.take()), [])
        self.case.assertEqual(self.outbox.backlog(_MANY), OutboxBacklog(0, 1, 0.0))

    def test_refused_for_any_reason(self) -> None:
        """A reason that no database keeps as it is keeps nothing from being taken, either."""
        self.put("a", "b")
        batch = self.outbox.take(_MANY)
        batch.end({0: "\0 and \ud800" + "x" * 10_000, 1: ""})
        self.case.assertEqual(list(self.take()), [])
        self.case.assertEqual(self.outbox.backlog(_MANY), OutboxBacklog(0, 2, 0.0))

    def test_unreadable(self) -> None:
        """So does what cannot be read, before the ledger has ever seen it."""
        for text in ("no JSON", "[1]", "7", '[{"handler": "mail", "colour": 1}]', "[" * 100_000):
            self.put("bad", "good")
            self.execute(f"UPDATE oni_outbox SET handlings = '{text}' WHERE key = 'bad'")
            batch = self.outbox.take(_MANY)
            self.case.assertEqual([event.key for event in batch.events], ["good"])
            self.case.assertEqual(batch.size, 2)
            (why,) = batch.end({}).values()
            self.case.assertIn("handlings", why)
            self.case.assertEqual(list(self.take()), [])
            self.execute("DELETE FROM oni_outbox")

    def test_a_key_that_cannot_be(self) -> None:
        """A row that somebody else has written may have a key that no ledger takes."""
        self.put("bad")
        self.execute("UPDATE oni_outbox SET key = ''")
        batch = self.outbox.take(_MANY)
        self.case.assertEqual(list(batch.events), [])
        (why,) = batch.end({}).values()
        self.case.assertIn("empty", why)

    def test_refused_at_once(self) -> None:
        """What no ledger would take is refused when it is put, and nothing is put with it."""
        for bad, error in (
            (LedgerEvent("x" * 256), LedgerKeyError),
            (LedgerEvent("k", payload=bytes(100_000)), LedgerPayloadError),
            (LedgerEvent("k", handlings=(Handling("a/b"),)), LedgerKeyError),
        ):
            with self.transaction() as connection, self.case.assertRaises(error):
                self.outbox.put(connection, [_event("good"), bad])
        self.case.assertEqual(list(self.take()), [])

    def test_nowhere_to_put(self) -> None:
        """What is no connection is refused."""
        with self.case.assertRaises(LedgerTransactionError):
            self.outbox.put(object(), [_event("k")])

    def test_backlog(self) -> None:
        """It says how many wait, counted up to a limit, and for how long the oldest one has."""
        self.case.assertEqual(self.outbox.backlog(_MANY), OutboxBacklog())
        self.put("a")
        self.now += 7.0
        self.put("b", "c")
        self.now += 3.0
        self.case.assertEqual(self.outbox.backlog(_MANY), OutboxBacklog(3, 0, 10.0))
        self.case.assertEqual(self.outbox.backlog(2), OutboxBacklog(2, 0, 10.0))
        self.now -= 86_400.0
        self.case.assertEqual(self.outbox.backlog(_MANY).age, 0.0)

    def test_other_versions_are_left_alone(self) -> None:
        """Rows of another program's version are neither taken nor counted."""
        self.put("theirs")
        self.execute("UPDATE oni_outbox SET version = 2")
        self.put("ours")
        self.case.assertEqual(self.outbox.backlog(_MANY).waiting, 1)
        self.case.assertEqual(list(self.take()), ["ours"])
        self.execute("UPDATE oni_outbox SET version = 1")
        self.case.assertEqual(list(self.take()), ["theirs"])

    def test_wake(self) -> None:
        """It wakes the relay that there is, and nobody where there is none."""
        woken: list[str] = []
        self.outbox.wake()
        self.outbox.relayed_by(lambda: woken.append("relay"))
        self.outbox.wake()
        self.outbox.relayed_by(None)
        self.outbox.wake()
        self.case.assertEqual(woken, ["relay"])

    def test_opened_twice(self) -> None:
        """What is there already stays."""
        self.put("k")
        self.outbox.close()
        self.outbox.open()
        self.case.assertEqual(list(self.take()), ["k"])


def _event(key: str) -> LedgerEvent:
    return LedgerEvent(key, "g", key.encode(), (Handling("mail"),))


def _go_wrong() -> None:
    raise ZeroDivisionError
