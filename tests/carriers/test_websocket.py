"""A websocket connection: safe options, one write per turn, bounded."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.carriers import (
    MAX_FLUSH,
    MAX_WAITING,
    CarrierLimits,
    WebSocketCarrier,
    WebSocketCarrierFactory,
    text_frame,
)
from oni.channels import Channel, Channels
from oni.interfaces import ICarrier
from oni.protocol import CloseCode
from oni.values import ClientInfo
from tests.carriers import wire
from tests.carriers.options import OPTIONS


class Wire(StringTransport):
    """A transport that counts writes and remembers how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        """Count."""
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        """Remember."""
        self.aborted = True


class Owner:
    """Keeps what a connection reports."""

    def __init__(self, carrier: WebSocketCarrier) -> None:
        self.carrier = carrier
        self.frames: list[bytes] = []
        self.ends = 0
        self.reads = 0
        self.gaps: list[Any] = []

    def lost(self, subscription: Any, position: Any) -> None:
        """Keep the position."""
        self.gaps.append(position)

    def was_read(self) -> None:
        """Count."""
        self.reads += 1

    def received(self, frame: bytes) -> None:
        """Keep it."""
        self.frames.append(frame)

    def connection_lost(self) -> None:
        """Count."""
        self.ends += 1


class CarrierTestCase(SynchronousTestCase):
    """A factory on a clock."""

    limits = CarrierLimits()

    def setUp(self) -> None:
        """Make the factory."""
        self.reactor = MemoryReactorClock()
        self.owners: list[Owner] = []
        self.factory = WebSocketCarrierFactory(self.own, self.limits, self.reactor)

    def own(self, carrier: WebSocketCarrier) -> Owner:
        """Make an owner."""
        self.owners.append(Owner(carrier))
        return self.owners[-1]

    def connect(self, request: bytes | None = None) -> tuple[WebSocketCarrier, Wire]:
        """Open a connection and send the request."""
        carrier = self.factory.buildProtocol(None)
        transport = Wire()
        transport.protocol = carrier
        carrier.makeConnection(transport)
        carrier.dataReceived(wire.upgrade() if request is None else request)
        return carrier, transport

    def open(self) -> tuple[WebSocketCarrier, Wire, Owner]:
        """Open a websocket, with an empty transport."""
        carrier, transport = self.connect()
        transport.clear()
        transport.writes = 0
        return carrier, transport, self.owners[-1]

    def channel(self) -> Channel:
        """Make a channel."""
        return Channels(reactor=self.reactor).get("c")

    def status(self, request: bytes) -> int:
        """Send a request and read the status of the response."""
        _, transport = self.connect(request)
        return int(transport.value().split(b" ", 2)[1])


class OptionTests(CarrierTestCase):
    """The effective options of a default server."""

    def test_frozen(self) -> None:
        """Every option that Autobahn has is set, and to what we mean."""
        carrier, _, _ = self.open()
        options = {name: getattr(carrier, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}
        self.assertIsNone(options.pop("perMessageCompressionAccept")([object()]))
        (pattern,) = options.pop("allowedOriginsPatterns")
        self.assertTrue(pattern.match("http://localhost:8000"))
        self.assertEqual(options, OPTIONS)


class HandshakeTests(CarrierTestCase):
    """Who is let in."""

    def test_accepted(self) -> None:
        """A request without origin is accepted; the response tells no version of ours."""
        carrier, transport = self.connect()
        head, rest = wire.split_response(transport.value())
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b"\r\nServer: Oni\r\n", head)
        self.assertNotIn(b"autobahn", head.lower())
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head)
        self.assertEqual(rest, b"")
        self.assertEqual(len(self.owners), 1)
        verifyObject(ICarrier, carrier)

    def test_same_origin(self) -> None:
        """A page of the same origin may connect, one of another may not."""
        for origin, status in (
            ("http://localhost:8000", 101),
            ("HTTP://LocalHost:8000", 101),
            ("http://localhost", 403),
            ("https://localhost:8000", 403),
            ("http://evil.example", 403),
            ("http://localhost.evil.example:8000", 403),
            ("null", 400),
            ("file:///etc/passwd", 400),
            ("", 400),
        ):
            self.assertEqual(self.status(wire.upgrade(Origin=origin)), status, origin)

    def test_two_origins(self) -> None:
        """Two origins are none."""
        request = wire.upgrade(Origin="http://localhost:8000\r\nOrigin: http://evil.example")
        self.assertEqual(self.status(request), 400)

    def test_subprotocol(self) -> None:
        """JSON is spoken, whether it is named or not; another protocol is refused."""
        _, transport = self.connect(wire.upgrade(Sec_WebSocket_Protocol="x, centrifuge-json"))
        self.assertIn(b"Sec-WebSocket-Protocol: centrifuge-json\r\n", transport.value())
        self.assertEqual(
            self.status(wire.upgrade(Sec_WebSocket_Protocol="centrifuge-protobuf")), 400
        )

    def test_no_compression(self) -> None:
        """An offer to compress is not accepted."""
        _, transport = self.connect(wire.upgrade(Sec_WebSocket_Extensions="permessage-deflate"))
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"permessage-deflate", transport.value())

    def test_timeout(self) -> None:
        """A handshake that does not end is ended, on the reactor that the factory was given."""
        _, transport = self.connect(b"GET /")
        self.reactor.advance(4.9)
        self.assertFalse(transport.aborted)
        self.reactor.advance(0.2)
        self.assertTrue(transport.aborted)

    def test_bytes_after_the_handshake(self) -> None:
        """What a client sends along with its request is taken."""
        self.connect(wire.upgrade() + wire.frame("hello"))
        self.assertEqual(self.owners[0].frames, [b"hello"])

    def test_refused_and_stuck(self) -> None:
        """A refused client that does not read is cut off."""
        _, transport = self.connect(wire.upgrade(Origin="http://evil.example"))
        self.assertTrue(transport.disconnecting)
        self.reactor.advance(5.1)
        self.assertTrue(transport.aborted)


class AllowedOriginTests(CarrierTestCase):
    """Other origins that the settings allow."""

    limits = CarrierLimits(allowed_origins=("https://example.org",), max_connections=2)

    def test_allowed(self) -> None:
        """A listed origin may connect, besides the own one."""
        self.assertEqual(self.status(wire.upgrade(Origin="https://example.org")), 101)
        self.assertEqual(self.status(wire.upgrade(Origin="http://localhost:8000")), 101)

    def test_max_connections(self) -> None:
        """One more connection than allowed is refused."""
        self.open()
        self.open()
        self.assertEqual(self.status(wire.upgrade()), 503)


class ReceiveTests(CarrierTestCase):
    """What comes from the client."""

    def test_message(self) -> None:
        """Text, binary and fragmented messages are handed over whole."""
        carrier, _, owner = self.open()
        carrier.dataReceived(wire.frame("a") + wire.frame(b"b", wire.BINARY))
        carrier.dataReceived(wire.frame("c", fin=False) + wire.frame("d", 0))
        self.assertEqual(owner.frames, [b"a", b"b", b"cd"])

    def refused(self, data: bytes) -> int:
        """Send what is wrong; give the close code, and check that nothing was handed over."""
        carrier, transport, owner = self.open()
        carrier.dataReceived(data)
        closed = wire.close_of(transport.value())
        self.assertIsNotNone(closed)
        self.assertEqual(owner.frames, [])
        assert closed is not None
        return closed[0]

    def test_too_large(self) -> None:
        """A message over the limit is refused: by its head alone, and in fragments."""
        self.assertEqual(self.refused(wire.frame(b"x" * 65537)), 1009)
        self.assertEqual(
            self.refused(b"\x81\xff" + (2**63 - 1).to_bytes(8, "big") + b"mask"), 1009
        )
        half = b"x" * 40000
        self.assertEqual(self.refused(wire.frame(half, fin=False) + wire.frame(half, 0)), 1009)

    def test_limit(self) -> None:
        """A message as large as the limit is taken."""
        carrier, _, owner = self.open()
        carrier.dataReceived(wire.frame(b"x" * 65536))
        self.assertEqual(len(owner.frames[0]), 65536)

    def test_violations(self) -> None:
        """What RFC 6455 forbids is answered with its close code."""
        self.assertEqual(self.refused(b"\x81\x02hi"), 1002)  # not masked
        self.assertEqual(self.refused(wire.frame("x", 3)), 1002)  # reserved opcode
        self.assertEqual(self.refused(b"\xc1" + wire.frame("x")[1:]), 1002)  # reserved bit
        self.assertEqual(self.refused(wire.frame(b"\xff\xfe")), 1007)  # not UTF-8

    def test_ping(self) -> None:
        """A ping is answered with what it brought."""
        carrier, transport, _ = self.open()
        carrier.dataReceived(wire.frame("hi", wire.PING))
        self.reactor.advance(0)
        self.assertEqual(wire.frames(transport.value()), [(wire.PONG, b"hi")])

    def test_closed_by_client(self) -> None:
        """A client that closes is answered in kind, and the owner is told once."""
        carrier, transport, owner = self.open()
        carrier.dataReceived(wire.close(3000, "bye"))
        self.assertEqual(wire.close_of(transport.value()), (3000, "bye"))
        carrier.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(owner.ends, 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_owner_is_told_at_once(self) -> None:
        """Whoever closes, the owner learns it then, not when the connection has ended at last."""
        for end in (
            lambda carrier: carrier.dataReceived(wire.close(3000)),
            lambda carrier: carrier.dataReceived(wire.frame("x", 3)),
            lambda carrier: carrier.close(CloseCode.STALE),
            lambda carrier: carrier.dropConnection(abort=True),
        ):
            carrier, _, owner = self.open()
            end(carrier)
            self.assertEqual(owner.ends, 1)
            carrier.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(owner.ends, 1)

    def test_paused_reading(self) -> None:
        """Reading can be stopped and gone on with, as often as one likes."""
        carrier, transport, _ = self.open()
        for _ in range(2):
            carrier.pause_reading()
            carrier.pause_reading()
            self.assertEqual(transport.producerState, "paused")
            carrier.resume_reading()
            carrier.resume_reading()
            self.assertEqual(transport.producerState, "producing")


class SendTests(CarrierTestCase):
    """What goes to the client."""

    def test_one_write_per_turn(self) -> None:
        """What is sent within a turn leaves in one write when it is over, in order."""
        carrier, transport, _ = self.open()
        channel = self.channel()
        channel.subscribe(None, carrier)
        carrier.send(b'{"id":1}')
        channel.publish("added", {"n": 1}, tags={"t": "x"}, info=ClientInfo("bob"))
        self.assertEqual(transport.writes, 0)
        self.reactor.advance(0)
        self.assertEqual(transport.writes, 1)
        pub = {
            "data": {"n": 1},
            "offset": 1,
            "tags": {"t": "x", "event": "added"},
            "info": {"user": "bob"},
        }
        self.assertEqual(
            wire.messages(transport.value()), [{"id": 1}, {"push": {"channel": "c", "pub": pub}}]
        )

    def test_same_bytes(self) -> None:
        """A publication is framed once, for all connections."""
        first, second = self.open()[0], self.open()[0]
        channel = self.channel()
        written: list[bytes] = []
        for carrier in (first, second):
            carrier.transport.write = written.append
            channel.subscribe(None, carrier)
        channel.publish("a", 1)
        self.reactor.advance(0)
        self.assertEqual(len(written), 2)
        self.assertIs(written[0], written[1])

    def test_sizes(self) -> None:
        """Frames of every length are whole."""
        for size in (0, 125, 126, 65535, 65536):
            self.assertEqual(wire.frames(text_frame(b"x" * size)), [(wire.TEXT, b"x" * size)])

    def test_large_turn(self) -> None:
        """A turn that sends much does not keep it all, and hands over a bounded part at once."""
        carrier, transport, _ = self.open()
        written: list[bytes] = []
        transport.write = written.append  # type: ignore[method-assign]
        for _ in range(4):
            carrier.send(b"x" * 40_000)
        self.assertEqual(len(written), 3)
        self.reactor.advance(0)
        self.assertTrue(all(len(data) <= MAX_FLUSH for data in written))
        self.assertEqual(len(wire.frames(b"".join(written))), 4)

    def test_close(self) -> None:
        """A close comes after what was sent before, and nothing comes after it."""
        carrier, transport, owner = self.open()
        carrier.pause_reading()
        carrier.send(b'{"id":1}')
        carrier.close(CloseCode.SHUTDOWN)
        carrier.send(b'{"id":2}')
        carrier.close(CloseCode.SLOW)
        self.reactor.advance(0)
        self.assertEqual(
            wire.frames(transport.value()),
            [(wire.TEXT, b'{"id":1}'), (wire.CLOSE, (3001).to_bytes(2, "big") + b"shutdown")],
        )
        self.assertEqual(transport.producerState, "producing")
        carrier.dataReceived(wire.frame("late") + wire.close(3001))
        self.assertEqual(owner.frames, [])
        self.assertTrue(transport.aborted)

    def test_close_unanswered(self) -> None:
        """A client that does not answer a close is cut off."""
        carrier, transport, _ = self.open()
        carrier.close(CloseCode.STALE)
        self.reactor.advance(5.1)
        self.assertTrue(transport.aborted)

    def test_woken_when_closed(self) -> None:
        """A connection that has ended leaves its channels when it is woken."""
        carrier, _, _ = self.open()
        channel = self.channel()
        channel.subscribe(None, carrier)
        self.reactor.advance(0)
        carrier.close(CloseCode.STALE)
        channel.publish("a", 1)
        self.reactor.advance(0)
        self.assertEqual(channel.subscribers, 0)


class SlowTests(CarrierTestCase):
    """A client that does not read."""

    def test_paused(self) -> None:
        """Nothing is written while the transport asks to pause; all of it when it resumes."""
        carrier, transport, owner = self.open()
        carrier.pauseProducing()
        carrier.pauseProducing()
        for number in range(3):
            carrier.send(b"%d" % number)
            self.reactor.advance(0)
        self.assertEqual(transport.value(), b"")
        carrier.resumeProducing()
        self.reactor.advance(0)
        self.assertEqual(wire.messages(transport.value()), [0, 1, 2])
        self.assertEqual(transport.writes, 1)
        self.assertEqual(owner.reads, 1)

    def test_not_read_from(self) -> None:
        """Who does not read is not read from, so that it cannot ask for ever more."""
        carrier, transport, _ = self.open()
        carrier.pauseProducing()
        self.assertEqual(transport.producerState, "paused")
        carrier.pause_reading()
        carrier.resumeProducing()
        self.assertEqual(transport.producerState, "paused")
        carrier.resume_reading()
        self.assertEqual(transport.producerState, "producing")
        carrier.pauseProducing()
        carrier.close(CloseCode.SLOW)
        self.assertEqual(transport.producerState, "producing")

    def test_too_slow(self) -> None:
        """With more than the limit waiting, the client is disconnected, and nothing is kept."""
        carrier, transport, _ = self.open()
        carrier.pauseProducing()
        message = b"x" * 60_000
        for _ in range(MAX_WAITING // 60_000):
            carrier.send(message)
        self.assertIsNone(wire.close_of(transport.value()))
        carrier.send(message)
        self.assertEqual(
            wire.frames(transport.value()), [(8, (3008).to_bytes(2, "big") + b"slow")]
        )
        carrier.resumeProducing()
        self.reactor.advance(5.1)
        self.assertEqual(len(wire.frames(transport.value())), 1)
        self.assertTrue(transport.aborted)

    def test_pings_are_bounded(self) -> None:
        """A client that asks and asks and never reads is disconnected, however much it may ask."""
        limits = CarrierLimits(max_pings_per_second=1e6)
        self.factory = WebSocketCarrierFactory(self.own, limits, self.reactor)
        carrier, transport, _ = self.open()
        carrier.pauseProducing()
        ping = wire.frame(b"x" * 125, wire.PING) * 100
        for _ in range(MAX_WAITING // 12_700 + 2):
            carrier.dataReceived(ping)
        self.assertEqual(wire.close_of(transport.value()), (3008, "slow"))

    def test_stopped(self) -> None:
        """After the transport has stopped, nothing is kept."""
        carrier, transport, _ = self.open()
        carrier.send(b"x")
        carrier.stopProducing()
        self.reactor.advance(0)
        self.assertEqual(transport.value(), b"")

    def test_failing_write(self) -> None:
        """A connection that cannot be written to is ended; the others get theirs."""
        bad, bad_transport, _ = self.open()
        good, transport, _ = self.open()
        bad.send(b"1")
        good.send(b"1")

        def fail(data: Any) -> None:
            raise OSError("broken")

        bad_transport.write = fail  # type: ignore[method-assign]
        self.reactor.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertTrue(bad_transport.aborted)
        self.assertEqual(wire.messages(transport.value()), [1])
