"""What a client sends is held to its limits."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from oni.carriers import CarrierLimits, WebSocketCarrier
from tests.carriers import wire
from tests.carriers.test_websocket import CarrierTestCase, Wire

EMPTY = wire.frame(b"", 0, fin=False)


class FragmentTests(CarrierTestCase):
    """Of how many frames a message may be."""

    def test_at_the_limit(self) -> None:
        """A message of 128 frames is taken, and so is the next one."""
        carrier, transport, owner = self.open()
        for _ in range(2):
            carrier.dataReceived(wire.frame(b"a", fin=False) + EMPTY * 126 + wire.frame(b"b", 0))
        self.assertEqual(owner.frames, [b"ab", b"ab"])
        self.assertEqual(transport.value(), b"")

    def test_empty_fragments(self) -> None:
        """20,000 empty frames: the connection is closed at the first one too many."""
        carrier, transport, owner = self.open()
        carrier.dataReceived(wire.frame(b"", fin=False) + EMPTY * 127)
        self.assertEqual(transport.value(), b"")
        carrier.dataReceived(EMPTY)
        self.assertEqual(wire.close_of(transport.value()), (1008, "too many fragments"))
        carrier.dataReceived(EMPTY * 20_000)
        self.assertEqual(len(wire.frames(transport.value())), 1)
        self.assertEqual(owner.frames, [])
        self.reactor.advance(5.1)
        self.assertTrue(transport.aborted)


class PingTests(CarrierTestCase):
    """How often a client may ask whether the server is there."""

    def test_flood(self) -> None:
        """Of 10,000 pings 20 are answered; then the connection is closed."""
        carrier, transport, _ = self.open()
        carrier.dataReceived(wire.frame(b"x" * 125, wire.PING) * 10_000)
        self.reactor.advance(0)
        found = wire.frames(transport.value())
        self.assertEqual([opcode for opcode, _ in found], [wire.PONG] * 20 + [wire.CLOSE])
        self.assertEqual(wire.close_of(transport.value()), (1008, "too many pings"))
        self.assertLess(len(transport.value()), 3000)

    def test_pongs_count(self) -> None:
        """Pongs that nobody asked for are no way around it."""
        carrier, transport, _ = self.open()
        carrier.dataReceived(wire.frame(b"", wire.PONG) * 21)
        self.assertEqual(wire.close_of(transport.value()), (1008, "too many pings"))

    def test_often_enough(self) -> None:
        """Ten a second are answered for ever."""
        carrier, transport, _ = self.open()
        for _ in range(100):
            carrier.dataReceived(wire.frame(b"?", wire.PING))
            self.reactor.advance(0.1)
        self.assertEqual([opcode for opcode, _ in wire.frames(transport.value())], [10] * 100)


class BytesTests(CarrierTestCase):
    """How many bytes a client may send."""

    limits = CarrierLimits(max_bytes_per_second=10_000)

    def send(self, carrier: WebSocketCarrier, transport: Wire, size: int) -> None:
        """Send a message, as long as the server reads."""
        self.assertNotEqual(transport.producerState, "paused")
        carrier.dataReceived(wire.frame(b"x" * (size - 8)))

    def test_paused(self) -> None:
        """Who sends too much is not read from for as long as that would have taken."""
        carrier, transport, owner = self.open()
        self.reactor.advance(1)
        self.send(carrier, transport, 20_000)
        self.assertFalse(carrier.is_throttled)
        self.send(carrier, transport, 5_000)
        self.assertEqual(transport.producerState, "paused")
        self.reactor.advance(0.49)
        self.assertEqual(transport.producerState, "paused")
        self.reactor.advance(0.02)
        self.assertEqual(transport.producerState, "producing")
        self.assertEqual(len(owner.frames), 2)
        self.assertNotIn("is_throttled", vars(carrier))

    def test_rate(self) -> None:
        """In the long run it is what the limit says."""
        carrier, transport, owner = self.open()
        end = self.reactor.seconds() + 60
        while self.reactor.seconds() < end:
            while transport.producerState != "paused":
                self.send(carrier, transport, 1000)
            self.reactor.advance(0.05)
        self.assertLess(abs(len(owner.frames) / 620 - 1), 0.05)

    def test_also_when_closing(self) -> None:
        """A close does not end the limit; the connection's end does."""
        carrier, transport, _ = self.open()
        self.send(carrier, transport, 30_000)
        carrier.sendClose(3001, "shutdown")
        self.assertEqual(transport.producerState, "paused")
        carrier.connectionLost(Failure(ConnectionDone()))
        self.assertNotIn("_going_on", vars(carrier))
        self.reactor.advance(60)
        self.assertEqual(transport.producerState, "paused")

    def test_owner_pauses(self) -> None:
        """Reading goes on when nobody speaks against it any more."""
        carrier, transport, _ = self.open()
        self.send(carrier, transport, 30_000)
        carrier.pause_reading()
        self.reactor.advance(60)
        self.assertEqual(transport.producerState, "paused")
        carrier.resume_reading()
        self.assertEqual(transport.producerState, "producing")
