"""Readers that take too little are found, by one delayed call."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import StuckReaders
from tests.carriers import wire
from tests.carriers.test_websocket import CarrierTestCase


class Reader:
    """Counts how often it was found."""

    def __init__(self) -> None:
        self.found = 0

    def is_stuck(self) -> None:
        """Count."""
        self.found += 1


class StuckTests(SynchronousTestCase):
    """The readers that wait."""

    def setUp(self) -> None:
        """Begin with none."""
        self.clock = Clock()
        self.readers = StuckReaders(self.clock, 30.0)

    def test_found_once(self) -> None:
        """A reader is found when its time is over, once, and is not waited for any more."""
        reader = Reader()
        self.readers.add(reader)
        self.clock.advance(20)
        self.readers.add(reader)  # it still waits: that is no new beginning
        self.clock.advance(9.9)
        self.assertEqual(reader.found, 0)
        self.clock.advance(0.2)
        self.assertEqual((reader.found, len(self.readers)), (1, 0))
        self.clock.advance(100)
        self.assertEqual(reader.found, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_clean_again(self) -> None:
        """One that took everything in time begins anew when it waits again."""
        reader = Reader()
        for _ in range(3):
            self.readers.add(reader)
            self.clock.advance(29)
            self.readers.remove(reader)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(reader.found, 0)

    def test_many(self) -> None:
        """A thousand of them share one delayed call, and each has its own time."""
        readers = [Reader() for _ in range(1000)]
        for reader in readers:
            self.readers.add(reader)
            self.clock.advance(0.01)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(30 - 10 + 5.001)
        self.assertEqual(sum(reader.found for reader in readers), 501)
        self.readers.remove(readers[-1])
        self.clock.advance(5)
        self.assertEqual([reader.found for reader in readers], [1] * 999 + [0])

    def test_ends_of_others(self) -> None:
        """When one is found, others may end with it."""
        last = Reader()

        class First(Reader):
            def is_stuck(inner) -> None:  # noqa: N805
                super().is_stuck()
                self.readers.remove(last)

        first = First()
        self.readers.add(first)
        self.clock.advance(1)
        self.readers.add(last)
        self.clock.advance(60)
        self.assertEqual((first.found, last.found), (1, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CarrierTests(CarrierTestCase):
    """A websocket whose client reads too slowly."""

    def test_stuck(self) -> None:
        """Bytes that wait for 30 s end the connection, however alive the client looks."""
        carrier, transport, owner = self.open()
        carrier.send(b"something")
        self.reactor.advance(0)
        transport.clear()
        carrier.pauseProducing()
        for _ in range(6):
            carrier.pauseProducing()
            self.assertIsNone(wire.close_of(transport.value()))
            carrier.dataReceived(wire.frame(b"{}"))  # it is there, and sends
            self.reactor.advance(5)
        self.assertEqual(wire.close_of(transport.value()), (3008, "slow"))
        self.assertEqual(owner.ends, 1)
        self.reactor.advance(5.1)
        self.assertTrue(transport.aborted)

    def test_slow(self) -> None:
        """One that takes a flush in less than that is not."""
        carrier, transport, _ = self.open()
        for _ in range(10):
            carrier.pauseProducing()
            self.reactor.advance(29)
            carrier.resumeProducing()
        self.assertEqual(transport.value(), b"")
        self.assertEqual(len(self.factory.stuck), 0)

    def test_ended(self) -> None:
        """One that has ended is not waited for."""
        carrier, _, _ = self.open()
        carrier.pauseProducing()
        carrier.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.factory.stuck), 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
