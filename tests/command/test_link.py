"""The client's websocket: what it asks for, and its bounds."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.command._link import _Factory
from oni.command._target import target_of_url

REFUSED = b"HTTP/1.1 %s\r\nServer: x\r\nContent-Length: 0\r\n\r\n"


class Transport(StringTransport):
    """A transport that can be cut."""

    def abortConnection(self) -> None:
        """Remember."""
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        """Let it go, however often."""
        self.producer = None


class Links(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        """Remember what is reported."""
        self.closes: list[tuple[int, str]] = []

    def opened(self, link: Any) -> None:
        """Nothing opens here."""

    def received(self, link: Any, frame: bytes) -> None:
        """Nothing is received here."""

    def closed(self, link: Any, code: int, reason: str) -> None:
        """Remember."""
        self.closes.append((code, reason))

    def made(self, url: str = "http://127.0.0.1:8000") -> Any:
        """Make a connection; give its protocol."""
        protocol: Any = _Factory(target_of_url(url), self, MemoryReactorClock()).buildProtocol(
            None
        )
        protocol.makeConnection(Transport())
        return protocol

    def test_request(self) -> None:
        """It names host, port, path and protocol; an IPv6 address has its brackets."""
        for url, host in (
            ("http://127.0.0.1:8000/x", "127.0.0.1:8000"),
            ("http://[fd00::7]:81/x", "[fd00::7]:81"),
        ):
            head = self.made(url).transport.value().decode()
            self.assertTrue(head.startswith("GET /x/connection/websocket HTTP/1.1\r\n"), head)
            self.assertEqual(1, head.count("\r\nHost:"))
            self.assertIn(f"\r\nHost: {host}\r\n", head)
            self.assertIn("\r\nSec-WebSocket-Protocol: centrifuge-json\r\n", head)
            self.assertNotIn("Origin", head)

    def test_refused_handshake(self) -> None:
        """What the daemon answers instead of a websocket is said in words, once."""
        for status, text in (
            (b"404 Not Found", "there is no websocket: status 404"),
            (b"421 Misdirected Request", "see server.allowed_hosts"),
            (b"503 Service Unavailable", "takes no more connections"),
        ):
            self.closes.clear()
            protocol = self.made()
            protocol.dataReceived(REFUSED % status)
            protocol.connectionLost(Failure(ConnectionDone()))
            ((code, reason),) = self.closes
            self.assertEqual(1006, code)
            self.assertIn(text, reason)

    def test_lost(self) -> None:
        """A connection that is just gone is said to be."""
        self.made().connectionLost(Failure(ConnectionLost()))
        self.assertEqual([(1006, "the connection was lost")], self.closes)

    def test_silence(self) -> None:
        """Where nobody answers, it is said for how long that was waited for."""
        protocol = self.made()
        protocol.onOpenHandshakeTimeout()
        self.assertTrue(protocol.transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual([(1006, "it did not answer within 10 s")], self.closes)

    def test_nothing_is_sent_unopened(self) -> None:
        """Before the handshake and after the end nothing is sent."""
        protocol = self.made()
        protocol.transport.clear()
        protocol.send(b"{}")
        protocol.end()
        self.assertEqual(b"", protocol.transport.value())
        self.assertTrue(protocol.transport.disconnecting)

    def test_every_option_is_set(self) -> None:
        """No option is left to Autobahn, whose defaults have no bounds."""
        factory = _Factory(target_of_url("http://x"), self, MemoryReactorClock())
        self.assertEqual(
            {
                "version": 18,
                "utf8validateIncoming": True,
                "acceptMaskedServerFrames": False,
                "maskClientFrames": True,
                "applyMask": True,
                "maxFramePayloadSize": 67108864,
                "maxMessagePayloadSize": 67108864,
                "autoFragmentSize": 0,
                "failByDrop": True,
                "echoCloseCodeReason": True,
                "serverConnectionDropTimeout": 1.0,
                "openHandshakeTimeout": 10.0,
                "closeHandshakeTimeout": 2.0,
                "tcpNoDelay": True,
                "perMessageCompressionOffers": [],
                "autoPingInterval": 0,
                "autoPingTimeout": 0,
            },
            {
                name: getattr(factory, name)
                for name in factory.protocol.CONFIG_ATTRS
                if name
                not in (
                    "logOctets",
                    "logFrames",
                    "trackTimings",
                    "perMessageCompressionAccept",
                    "autoPingSize",
                    "autoPingRestartOnAnyTraffic",
                )
            },
        )
        self.assertIsNone(factory.perMessageCompressionAccept(object()))
