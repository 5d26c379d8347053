"""The shorter way in is the same as Autobahn's own, but shorter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import CarrierLimits, WebSocketCarrierFactory
from oni.carriers._websocket_protocol import LeanServerProtocol
from oni.protocol import BadHeadError, parse_head
from tests.carriers import wire
from tests.carriers.test_rfc6455 import Frames, frame

LIMIT = 300

#: What Autobahn keeps for each connection, and nobody of ours looks at.
UNUSED = {
    "_transport_details": "the peer is asked for when it is logged",
    "_valid_events": "nobody listens to its signals",
    "_results": "the same",
    "_wskey": "of the handshake",
    "http_headers": "of the handshake",
    "http_request_data": "of the handshake",
    "http_request_host": "of the handshake",
    "http_request_params": "of the handshake",
    "http_request_path": "of the handshake",
    "http_request_uri": "of the handshake",
    "http_response_data": "of the handshake",
    "http_status_line": "of the handshake",
    "is_closed": "nobody waits for it",
    "is_open": "nobody waits for it",
    "send_queue": "nothing is sent in pieces",
    "trafficStats": "nobody reads them",
    "utf8validator": "made when text comes in pieces",
    "websocket_extensions": "of the handshake",
    "websocket_extensions_in_use": "of the handshake",
    "websocket_origin": "of the handshake",
    "websocket_protocols": "of the handshake",
    "factory": "another one",
    "transport": "another one",
}


class Wire(StringTransport):
    """A transport that can be aborted."""

    def abortConnection(self) -> None:
        """End."""
        self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Keep it."""
        self.no_delay = enabled


def carriers(owner: Frames) -> WebSocketCarrierFactory:
    """Make a factory on a clock."""
    limits = CarrierLimits(max_message_bytes=LIMIT)
    return WebSocketCarrierFactory(lambda _: owner, limits, MemoryReactorClock())  # type: ignore[arg-type, return-value]


class StateTests(SynchronousTestCase):
    """What an open connection knows."""

    def handed_over(self, request: bytes) -> tuple[Any, Wire]:
        """Open a connection whose request somebody else has read."""
        carrier: Any = carriers(Frames()).buildProtocol(None)
        carrier.accept(parse_head(request.removesuffix(b"\r\n\r\n")), secure=False)
        transport = Wire()
        carrier.makeConnection(transport)
        return carrier, transport

    def stock(self, request: bytes) -> Any:
        """Open a connection of Autobahn's own, with the same options."""
        options = carriers(Frames())
        factory = WebSocketServerFactory(reactor=MemoryReactorClock())
        for name in WebSocketServerProtocol.CONFIG_ATTRS:
            setattr(factory, name, getattr(options, name))

        class Spoken(WebSocketServerProtocol):  # type: ignore[misc]
            def onConnect(self, asked: Any) -> str | None:
                return asked.protocols[0] if asked.protocols else None

        factory.protocol = Spoken
        connection: Any = factory.buildProtocol(None)
        connection.makeConnection(Wire())
        connection.dataReceived(request)
        return connection

    def test_same(self) -> None:
        """Everything that Autobahn sets when it opens a connection is there, and the same."""
        for request in (
            wire.upgrade(),
            wire.upgrade(Sec_WebSocket_Protocol="centrifuge-json"),
        ):
            stock = self.stock(request)
            ours, _ = self.handed_over(request)
            read, _ = self.read_itself(request)
            self.assertEqual(stock.state, stock.STATE_OPEN)
            for name, value in vars(stock).items():
                if name not in UNUSED:
                    self.assertEqual(getattr(ours, name), value, name)
                    self.assertEqual(getattr(read, name), value, name)

    def read_itself(self, request: bytes) -> tuple[Any, Wire]:
        """Open a connection that reads its request."""
        carrier: Any = carriers(Frames()).buildProtocol(None)
        transport = Wire()
        carrier.makeConnection(transport)
        carrier.dataReceived(request)
        return carrier, transport

    def test_small(self) -> None:
        """A connection's own dictionary is small, whoever has read its request."""
        for open_one in (self.handed_over, self.read_itself):
            carrier, transport = open_one(wire.upgrade())
            own = vars(carrier)
            self.assertLess(len(own), 25, sorted(own))
            self.assertLess(sys.getsizeof(own), 1300)
            self.assertTrue(transport.no_delay)

    def test_no_timer(self) -> None:
        """An open connection has no timer, also where it had one until its request was read."""
        for open_one in (self.handed_over, self.read_itself):
            carrier, _ = open_one(wire.upgrade())
            self.assertEqual(carrier.factory.reactor.getDelayedCalls(), [])

    def test_count(self) -> None:
        """Open connections are counted, and one too many is refused by both."""
        factory = carriers(Frames())
        factory.protocol.maxConnections = 1  # type: ignore[attr-defined]
        first: Any = factory.buildProtocol(None)
        first.makeConnection(Wire())
        self.assertEqual(factory.countConnections, 1)
        second: Any = factory.buildProtocol(None)
        head = parse_head(wire.upgrade().removesuffix(b"\r\n\r\n"))
        error = self.assertRaises(BadHeadError, second.accept, head, False)
        self.assertEqual(error.status, 503)
        first.connectionLost()
        self.assertEqual(factory.countConnections, 0)
        second.accept(head, False)

    def test_long_head(self) -> None:
        """A head that does not end within 16 KiB is refused, and no more of it is read."""
        carrier: Any = carriers(Frames()).buildProtocol(None)
        transport = Wire()
        carrier.makeConnection(transport)
        carrier.dataReceived(b"GET /" + b"x" * 16378)
        self.assertEqual(transport.value(), b"")
        carrier.dataReceived(b"x")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 431 "))
        self.assertTrue(transport.disconnecting)

    def test_peer(self) -> None:
        """The other end has a name."""
        carrier, _ = self.handed_over(wire.upgrade())
        self.assertEqual(carrier.peer, "tcp4:192.168.1.1:54321")

    def test_shared_statistics(self) -> None:
        """Nobody counts traffic for each connection."""
        one, _ = self.handed_over(wire.upgrade())
        self.assertIsInstance(one.trafficStats, TrafficStats)
        self.assertNotIn("trafficStats", vars(one))


class LogTests(SynchronousTestCase):
    """What a client does wrong is counted; it is no line in the log, or clients could fill it."""

    def setUp(self) -> None:
        """Listen to the log."""
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def levels(self, data: bytes) -> set[str]:
        """Give the levels of what is logged of a client that sends this and goes on waiting."""
        self.logged.clear()
        carrier: Any = carriers(Frames()).buildProtocol(None)
        carrier.makeConnection(Wire())
        carrier.dataReceived(wire.upgrade())
        carrier.dataReceived(data)
        carrier.factory.reactor.pump([1.0] * 60)
        return {event["log_level"].name for event in self.logged}

    def test_what_clients_do(self) -> None:
        """A frame that is wrong, and a closing that is not answered, are for debugging."""
        for data in (b"\xc1\x80\0\0\0\0", frame(b"\xff"), frame(b"x" * (LIMIT + 1))):
            with self.subTest(data[:8]):
                self.assertEqual({"debug"}, self.levels(data))

    def test_what_we_do(self) -> None:
        """What is wrong here is heard of."""
        LeanServerProtocol.log.error("a fault of {whose}", whose="ours")
        self.assertEqual(["error"], [event["log_level"].name for event in self.logged])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def outcome(parts: list[bytes], careful: bool) -> Any:
    """Give bytes to an open connection; say what its owner heard, what it sent, how it stands."""
    owner = Frames()
    carrier: Any = carriers(owner).buildProtocol(None)
    if careful:
        carrier._take_whole = lambda data: data  # all is Autobahn's
    transport = Wire()
    carrier.makeConnection(transport)
    carrier.dataReceived(wire.upgrade())
    for part in parts:
        if not transport.disconnecting:
            carrier.dataReceived(part)
    carrier.factory.reactor.advance(0)
    return owner.heard, owner.ends, transport.value(), carrier.state, transport.disconnecting


texts = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"x" * 125, b"x" * 126, b"x" * LIMIT, b"x" * (LIMIT + 1), b"\xed\xa0\x80"]
    ),
)
frames = st.builds(
    frame,
    texts,
    st.sampled_from(
        [wire.TEXT] * 6 + [wire.BINARY, wire.BINARY, 0, wire.PING, wire.PONG, wire.CLOSE, 3]
    ),
    fin=st.sampled_from([True] * 5 + [False]),
    reserved=st.sampled_from([0] * 12 + [4]),
    mask=st.sampled_from([b"\x00\xff\x13\x80"] * 8 + [b"\x00" * 4, b""]),
    width=st.sampled_from([0] * 8 + [2, 8]),
)


class ReceiveTests(SynchronousTestCase):
    """What comes from a client."""

    @given(st.lists(frames, max_size=6).map(b"".join), st.lists(st.integers(0, 2000), max_size=6))
    def test_same(self, data: bytes, cuts: list[int]) -> None:
        """Whatever comes, in whatever pieces, has the same outcome as with Autobahn alone."""
        parts = pieces(data, cuts)
        self.assertEqual(outcome(parts, careful=False), outcome(parts, careful=True))

    def test_no_short_way(self) -> None:
        """What only looks like a whole message is none: each guard for itself."""
        more = frame("and more to come")
        alike = frame("not a message", mask=b"abcd")
        for parts in (
            [b"\x82", b"\x82\x85\x01\x02\x03ab" + more],  # the rest of a head
            [frame(alike + more, wire.PING, mask=b"\0" * 4)[:6], alike + more],  # of a payload
            [frame("a", fin=False), frame("b"), more],  # within another message
            [frame("unmasked", mask=b"") + more],
            [frame("x" * (LIMIT + 1)) + more],
            [frame("short", width=2) + more],
            [frame("x" * 200)[:-1]],
            [frame(b"\xff") + more],
        ):
            self.assertEqual(outcome(parts, careful=False), outcome(parts, careful=True), parts)

    def test_short_way(self) -> None:
        """A whole message takes the short way, one in pieces the other."""
        for parts, expected in (
            ([frame("hello")], 0),
            ([frame("a") + frame("b") + frame("x" * 200)], 0),
            ([frame("hello")[:5], frame("hello")[5:]], 2),
            ([frame("a", fin=False) + frame("b", 0)], 1),
        ):
            self.assertEqual(self.long_ways(parts), expected, parts)

    def long_ways(self, parts: list[bytes]) -> int:
        """Count how often Autobahn is given bytes."""
        carrier: Any = carriers(Frames()).buildProtocol(None)
        carrier.makeConnection(Wire())
        carrier.dataReceived(wire.upgrade())
        calls = []
        careful: Callable[[bytes], None] = carrier._dataReceived
        carrier._dataReceived = lambda data: (calls.append(data), careful(data))
        for part in parts:
            carrier.dataReceived(part)
        return len(calls)

    def test_closed_meanwhile(self) -> None:
        """When a message closes the connection, what follows it is not handed over."""
        owner = Frames()
        carrier: Any = carriers(owner).buildProtocol(None)
        carrier.makeConnection(Wire())
        carrier.dataReceived(wire.upgrade())
        received = owner.received

        def close(payload: bytes) -> None:
            received(payload)
            carrier.sendClose(3000, "enough")

        owner.received = close  # type: ignore[method-assign]
        carrier.dataReceived(frame("a") + frame("b"))
        self.assertEqual(owner.heard, [b"a"])
