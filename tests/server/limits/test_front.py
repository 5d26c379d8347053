"""The limits of a listener: by address, by second, by header, by file descriptor."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import MemoryReactorClock
from zope.interface import alsoProvides

from oni.channels import Channels
from oni.server import Oni, make_factory
from oni.server._settings import ServerSettings, Settings
from oni.server.limits import Descriptors
from tests.carriers import wire
from tests.carriers.options import OPTIONS
from tests.server.house import Client, HouseTestCase, WebSocketClient
from tests.server.test_listener import GET

SLOW = b"GET /connection/sse/news HTTP/1.1\r\nHost: localhost\r\n"


class FrontTestCase(HouseTestCase):
    """Clients that come from somewhere."""

    def client(self, host: str = "192.0.2.1") -> Client:
        """Connect from this address."""
        client = Client.__new__(Client)
        client.reactor, client.number = self.reactor, 0
        client.protocol = self.factory.buildProtocol(None)  # type: ignore[assignment]
        client.transport = _wire(host)
        client.transport.protocol = client.protocol
        client.protocol.makeConnection(client.transport)
        return client

    def status(self, data: bytes, host: str = "192.0.2.1") -> int:
        """Send a request; give the status of its response, 0 for none."""
        return status_of(self.asked(data, host))

    def asked(self, data: bytes, host: str = "192.0.2.1") -> Client:
        """Send a request."""
        client = self.client(host)
        client.send(data)
        return client


def status_of(client: Client) -> int:
    """Read the status of a response, 0 for none."""
    found = client.take().split(b" ", 2)
    return int(found[1]) if len(found) > 1 else 0


def _wire(host: str) -> Any:
    from tests.server.house import Wire

    return Wire(None, IPv4Address("TCP", host, 4711))


class AddressTests(FrontTestCase):
    """How many connections one address may have."""

    server = ServerSettings(max_connections_per_address=3, trusted_proxies=("127.0.0.1",))

    def test_direct(self) -> None:
        """One more than allowed is refused at once, and only of this address."""
        clients = [self.asked(wire.upgrade()) for _ in range(3)]
        self.assertEqual([status_of(client) for client in clients], [101] * 3)
        refused = self.client()
        self.assertEqual(status_of(refused), 429)
        self.assertTrue(refused.transport.disconnecting)
        self.assertEqual(self.status(wire.upgrade(), "192.0.2.2"), 101)
        clients[0].vanish()
        self.assertEqual(self.status(wire.upgrade()), 101)

    def test_silent(self) -> None:
        """Who says nothing counts, too."""
        for _ in range(3):
            self.client()
        self.assertEqual(self.status(GET), 429)

    def test_header_of_anybody(self) -> None:
        """Nobody gets around it by a header of its own."""
        for number in range(3):
            self.asked(wire.upgrade(X_Forwarded_For=f"203.0.113.{number}"))
        self.assertEqual(self.status(wire.upgrade(X_Forwarded_For="203.0.113.9")), 429)

    def test_behind_a_proxy(self) -> None:
        """Websockets through our proxy count as their clients'."""
        mine = {"X_Forwarded_For": "9.9.9.9, 203.0.113.7"}
        clients = [self.asked(wire.upgrade(**mine), "127.0.0.1") for _ in range(3)]
        self.assertEqual([status_of(client) for client in clients], [101] * 3)
        mine = {"X_Forwarded_For": "8.8.8.8, 203.0.113.7"}
        self.assertEqual(self.status(wire.upgrade(**mine), "127.0.0.1"), 429)
        other = wire.upgrade(X_Forwarded_For="203.0.113.8")
        self.assertEqual(self.status(other, "127.0.0.1"), 101)
        clients[0].vanish()
        self.assertEqual(self.status(wire.upgrade(**mine), "127.0.0.1"), 101)

    def test_requests_through_a_proxy(self) -> None:
        """A proxy's connection is everybody's: the requests count, as long as they last."""
        stream = SLOW + b"X-Forwarded-For: 203.0.113.7\r\n\r\n"
        clients = [self.asked(stream, "127.0.0.1") for _ in range(3)]
        self.assertEqual([status_of(client) for client in clients], [200] * 3)
        self.assertEqual(self.status(stream, "127.0.0.1"), 429)
        self.assertEqual(self.status(stream.replace(b".7", b".8"), "127.0.0.1"), 200)
        clients[0].vanish()
        self.assertEqual(self.status(stream, "127.0.0.1"), 200)
        for _ in range(10):  # what is over counts no more
            self.assertEqual(self.status(GET, "127.0.0.1"), 404)

    def test_nothing_is_left(self) -> None:
        """When all have gone, nothing is counted."""
        clients = [self.asked(wire.upgrade()) for _ in range(5)]
        clients.append(self.asked(SLOW + b"X-Forwarded-For: 203.0.113.7\r\n\r\n", "127.0.0.1"))
        for client in clients:
            client.vanish()
        self.assertEqual((len(self.factory.addresses), self.factory.connections), (0, 0))


class AdmissionTests(FrontTestCase):
    """How many websockets are opened in a second."""

    server = ServerSettings(max_handshakes_per_second=20, max_connections_per_address=1000)

    def test_storm(self) -> None:
        """Who comes too early is told when to come back; other requests are answered."""
        clients = [self.asked(wire.upgrade()) for _ in range(3)]
        self.assertEqual([status_of(client) for client in clients[:2]], [101, 101])
        told = clients[2].take()
        self.assertTrue(told.startswith(b"HTTP/1.1 503 "), told)
        self.assertIn(b"\r\nRetry-After: 1\r\n", told)
        self.assertEqual(self.status(GET), 404)
        self.reactor.advance(0.051)
        self.assertEqual(self.status(wire.upgrade()), 101)


class HeadTests(FrontTestCase):
    """How long and how many the lines of a head may be."""

    def test_long_target(self) -> None:
        """A first line over 8 KiB is too long, also where no other follows."""
        line = b"GET /" + b"x" * 8200
        self.assertEqual(self.status(line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"), 414)
        self.assertEqual(self.status(line + b"x" * 8200), 414)

    def test_long_header(self) -> None:
        """A header over 8 KiB is too long."""
        head = GET.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 8190 + b"\r\n\r\n")
        self.assertEqual(self.status(head), 431)

    def test_many_headers(self) -> None:
        """64 headers are taken, 65 are not."""
        for number, status in ((63, 404), (64, 431)):
            head = GET.replace(b"\r\n\r\n", b"\r\nX: y" * number + b"\r\n\r\n")
            self.assertEqual(self.status(head), status)

    def test_later(self) -> None:
        """The same holds for later requests on a connection."""
        for bad in (b"\r\nX: y" * 64, b"\r\nX: " + b"x" * 8190):
            client = self.asked(GET)
            client.take()
            client.send(GET.replace(b"\r\n\r\n", bad + b"\r\n\r\n"))
            self.assertIn(status_of(client), (0, 400, 431))
            self.assertTrue(client.transport.disconnecting)


class SilenceTests(FrontTestCase):
    """Who says nothing."""

    def test_plain(self) -> None:
        """Over TCP it is told so."""
        client = self.client()
        self.reactor.advance(5.1)
        self.assertEqual(status_of(client), 408)

    def test_tls(self) -> None:
        """A TLS handshake that is not over after 5 s ends at once: nothing could be told."""
        client = self.client()
        alsoProvides(client.transport, ISSLTransport)
        self.reactor.advance(4.9)
        self.assertFalse(client.transport.aborted)
        self.reactor.advance(0.2)
        self.assertTrue(client.transport.aborted)
        self.assertEqual(client.take(), b"")


class DescriptorTests(FrontTestCase):
    """What happens when the process can open no more."""

    def test_short(self) -> None:
        """Who is accepted all the same is let go at once, and those who are there stay."""
        taken = 10
        self.factory.descriptors = Descriptors(
            self.reactor, lambda: taken, lambda: taken, lambda: 100
        )
        first = self.connected()
        taken = 95
        second = self.asked(wire.upgrade())
        self.assertEqual(status_of(second), 101)  # its descriptor was there
        taken = 96
        third = self.asked(wire.upgrade())
        self.assertTrue(third.transport.aborted)
        self.assertEqual(third.take(), b"")
        self.assertEqual(first.ask("ping"), {})
        third.vanish()
        taken = 70
        self.reactor.advance(0.6)
        self.assertEqual(self.status(wire.upgrade()), 101)
        self.factory.stopFactory()

    def test_stop(self) -> None:
        """The last port's end ends the looking."""
        self.factory.descriptors = Descriptors(self.reactor, lambda: 99, lambda: 99, lambda: 100)
        self.client()
        self.factory.stopFactory()
        self.assertFalse(self.factory.descriptors.is_short)


class DefaultOptionTests(HouseTestCase):
    """What a daemon without settings allows."""

    def test_frozen(self) -> None:
        """Every option of Autobahn, and every limit of ours, as a default server has them."""
        reactor = MemoryReactorClock()
        factory = make_factory(Oni(Settings(), reactor, channels=Channels()), reactor)
        websockets = factory.websockets
        options = {
            name: getattr(websockets, name) for name in websockets.protocol.__mro__[1].CONFIG_ATTRS
        }
        compression = options.pop("perMessageCompressionAccept")
        self.assertIsNone(compression([object()]))
        del options["allowedOriginsPatterns"]
        self.assertEqual(options, OPTIONS)
        intake = websockets.intake
        self.assertEqual(
            (
                (intake.octets.rate, intake.octets.burst),
                (intake.pings.rate, intake.pings.burst),
                intake.fragments,
                websockets.allowed_origins,
            ),
            ((262144.0, 524288.0), (10.0, 20.0), 128, ()),
        )


class CountingTests(FrontTestCase):
    """How often somebody was held back."""

    server = ServerSettings(
        max_connections=3, max_connections_per_address=2, max_handshakes_per_second=20
    )

    def test_all(self) -> None:
        """Each limit has a counter of its own, and the figures show them."""
        for host in ("192.0.2.1", "192.0.2.1", "192.0.2.1"):
            self.client(host)
        self.client("192.0.2.2")
        clients = [self.asked(wire.upgrade(), f"192.0.2.{n}") for n in (3, 4)]
        self.assertEqual(
            self.oni.tally.limited, {"address": 1, "connections": 3}, self.oni.tally.limited
        )
        self.assertEqual([status_of(client) for client in clients], [503, 503])


class CountingMessagesTests(FrontTestCase):
    """How often a client was."""

    def test_messages(self) -> None:
        """So have those of messages, and of slow readers."""
        client = WebSocketClient(self)
        client.ask("connect")
        lines = "\n".join(json.dumps({"id": n, "ping": {}}) for n in range(2, 200))
        client.send(wire.frame(lines))
        carrier: Any = client.protocol._inner
        for _ in range(9):
            carrier.dataReceived(wire.frame(b" " * 65_000))
        self.assertEqual(self.oni.tally.limited, {"commands": 1, "bytes": 1})
        other = WebSocketClient(self)
        other.send(wire.frame(b"", wire.PING) * 21)
        self.assertEqual(self.oni.tally.limited["pings"], 1)
        third: Any = WebSocketClient(self).protocol._inner
        third.pauseProducing()
        self.reactor.advance(31)
        self.assertEqual(self.oni.tally.limited["slow"], 1)
