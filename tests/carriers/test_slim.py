"""An idle connection keeps only what is its own, and nothing is lost by that."""

from __future__ import annotations

import sys

from oni.carriers import WebSocketCarrier, WebSocketCarrierFactory
from oni.protocol import CloseCode
from tests.carriers import wire
from tests.carriers.test_websocket import CarrierTestCase


class SlimTests(CarrierTestCase):
    """What an open connection has."""

    def test_size(self) -> None:
        """Its dictionary is small; options and handshake are not in it."""
        carrier, _, _ = self.open()
        own = vars(carrier)
        self.assertLess(len(own), 45, sorted(own))
        self.assertLess(sys.getsizeof(own), 2000)
        dropped = ("http_headers", "http_request_data", "maxConnections", "send_queue")
        for name in (*dropped, "_transport_details", "_valid_events"):
            self.assertNotIn(name, own)

    def test_factories_keep_apart(self) -> None:
        """Another factory's options are its own."""
        limits = type(self.limits)(max_message_bytes=10)
        other = WebSocketCarrierFactory(self.own, limits, self.reactor)
        self.assertEqual(other.buildProtocol(None).maxMessagePayloadSize, 10)
        self.assertEqual(self.open()[0].maxMessagePayloadSize, 65536)
        self.assertFalse(hasattr(WebSocketCarrier, "maxMessagePayloadSize"))

    def test_timers_work(self) -> None:
        """An unanswered close still ends, an answered one is clean: each connection for itself."""
        stuck, stuck_transport, _ = self.open()
        other, _, _ = self.open()
        stuck.close(CloseCode.SHUTDOWN)
        self.assertFalse(other.closedByMe)
        other.close(CloseCode.SHUTDOWN)
        other.dataReceived(wire.close(3001))
        self.assertTrue(other.wasClean)
        self.assertFalse(stuck.wasClean)
        self.reactor.advance(5.1)
        self.assertTrue(stuck_transport.aborted)
        self.assertTrue(stuck.wasCloseHandshakeTimeout)
        self.assertFalse(other.wasCloseHandshakeTimeout)

    def test_fragments(self) -> None:
        """Messages in fragments, with pings between, are put together for each connection."""
        one, _, first = self.open()
        two, _, second = self.open()
        one.dataReceived(wire.frame("a", fin=False))
        two.dataReceived(wire.frame("x", fin=False))
        one.dataReceived(wire.frame("p", wire.PING) + wire.frame("b", 0))
        two.dataReceived(wire.frame("y", 0))
        self.assertEqual((first.frames, second.frames), ([b"ab"], [b"xy"]))
