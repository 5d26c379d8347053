"""One port for page, API and websocket."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from oni.channels import Channels
from oni.server import Oni, make_factory
from oni.server._settings import ServerSettings, Settings
from tests.carriers import wire
from tests.server.house import Client, HouseTestCase

GET = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"


class ListenerTestCase(HouseTestCase):
    """Raw requests."""

    def status(self, data: bytes) -> int:
        """Send bytes on a connection of their own, and read the status of the response."""
        client = Client(self)
        client.send(data)
        return _status(client.take())


class HandOverTests(ListenerTestCase):
    """Who gets a connection."""

    def test_websocket(self) -> None:
        """An upgrade on the websocket's path becomes a websocket."""
        self.assertEqual(self.status(wire.upgrade()), 101)
        self.assertEqual(self.status(wire.upgrade("/connection/websocket?x=1")), 101)

    def test_websocket_elsewhere(self) -> None:
        """An upgrade on another path is an ordinary request."""
        self.assertEqual(self.status(wire.upgrade("/nothing")), 404)

    def test_no_upgrade(self) -> None:
        """Without an upgrade, the websocket's path says what is missing."""
        self.assertEqual(self.status(GET.replace(b"/nothing", b"/connection/websocket")), 426)

    def test_byte_by_byte(self) -> None:
        """A head may come in any pieces, and what follows it is not lost."""
        data = wire.upgrade() + wire.command(id=1, connect={}) + wire.command(id=2, ping={})
        client = Client(self)
        for byte in data:
            client.protocol.dataReceived(bytes([byte]))
        _, rest = wire.split_response(client.take())
        self.assertEqual([message["id"] for message in wire.messages(rest)], [1, 2])

    def test_all_at_once(self) -> None:
        """Commands may come in one piece with the head."""
        client = Client(self)
        client.send(wire.upgrade() + wire.command(id=1, connect={}))
        _, rest = wire.split_response(client.take())
        self.assertEqual([message["id"] for message in wire.messages(rest)], [1])

    def test_several_requests(self) -> None:
        """A connection may be used for several requests, sent one after the other or at once."""
        client = Client(self)
        client.send(GET + GET)
        self.assertEqual(client.take().count(b"HTTP/1.1 404"), 2)
        client.send(GET)
        self.assertEqual(_status(client.take()), 404)
        self.assertFalse(client.transport.disconnecting)

    def test_no_upgrade_later(self) -> None:
        """A connection that began with HTTP does not become a websocket."""
        client = Client(self)
        client.send(GET)
        client.take()
        client.send(wire.upgrade())
        self.assertEqual(_status(client.take()), 426)

    def test_no_version(self) -> None:
        """No response tells which versions we run."""
        client = Client(self)
        client.send(GET)
        head, _ = wire.split_response(client.take())
        self.assertIn(b"Server: Oni\r\n", head)
        self.assertNotIn(b"Twisted", head)

    def test_page(self) -> None:
        """Without another page, Oni's own is served."""
        factory = make_factory(self.oni, self.reactor)
        self.factory = factory
        self.assertEqual(self.status(GET.replace(b"/nothing", b"/")), 200)

    def test_given_page(self) -> None:
        """A page that is given is served."""

        class Page(Resource):
            isLeaf = False

            def getChild(self, path: bytes, request: Any) -> Resource:
                return self

            def render_GET(self, request: Any) -> bytes:
                return b"mine"

        self.factory = make_factory(self.oni, self.reactor, Page())
        client = Client(self)
        client.send(GET.replace(b"/nothing", b"/"))
        self.assertTrue(client.take().endswith(b"mine"))
        self.assertEqual(self.http(b"{}")[0], 401)

    def test_lost(self) -> None:
        """Whoever has the connection learns of its end."""
        client = self.connected()
        client.vanish()
        self.assertEqual(self.oni.sessions, {})
        early = Client(self)
        early.send(b"GET")
        early.vanish()
        self.assertEqual(self.factory.connections, 0)
        self.assertEqual(self.reactor.getDelayedCalls(), self.idle)


class RefusalTests(ListenerTestCase):
    """Who is refused, before anything else has read the request."""

    def test_smuggling(self) -> None:
        """A head that two parsers read differently is refused, for websocket and page."""
        for byte in (0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x85):
            evil = f"hello{chr(byte)}X-Evil: smuggled"
            self.assertEqual(self.status(wire.upgrade(X_Test=evil)), 400)
            self.assertEqual(
                self.status(GET.replace(b"\r\n\r\n", f"\r\nX: {evil}\r\n\r\n".encode("latin-1"))),
                400,
            )

    def test_nonsense(self) -> None:
        """What is no request is refused."""
        for data in (
            b"\r\n\r\n",
            b"hello\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        ):
            self.assertEqual(self.status(data), 400, data)

    def test_host(self) -> None:
        """A request that names another host is refused: a page may have been led here."""
        self.assertEqual(self.status(wire.upgrade(host="evil.example")), 421)
        self.assertEqual(self.status(GET.replace(b"localhost", b"evil.example:80")), 421)
        self.assertEqual(self.status(wire.upgrade(host="[::1]:8000")), 101)

    def test_host_later(self) -> None:
        """Nor may a later request on the same connection."""
        client = Client(self)
        client.send(GET)
        client.take()
        client.send(GET.replace(b"localhost", b"evil.example"))
        self.assertEqual(_status(client.take()), 421)

    def test_origin(self) -> None:
        """A page of another site gets no websocket, and no session is made."""
        self.assertEqual(self.status(wire.upgrade(Origin="http://evil.example")), 403)
        self.assertEqual(self.status(wire.upgrade(Origin="null")), 400)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(self.status(wire.upgrade(Origin="http://localhost:8000")), 101)

    def test_endless_head(self) -> None:
        """A head over 16 KiB is refused as soon as it is, and no more of it is kept."""
        client = Client(self)
        client.send(b"GET / HTTP/1.1\r\nX: ")
        client.send(b"x" * 16384)
        self.assertEqual(_status(client.take()), 431)
        self.assertTrue(client.transport.disconnecting)
        client.send(b"x" * 100_000 + b"\r\n\r\n")
        self.assertEqual(client.take(), b"")
        self.assertEqual(client.protocol._head, b"")

    def test_large_head(self) -> None:
        """A head that just fits is read, whatever follows it."""
        long = (b"\r\nX: " + b"x" * 5000) * 2
        padding = 16384 - len(GET) - len(long) - len("\r\nX: ")
        head = GET.replace(b"\r\n\r\n", b"%s\r\nX: %s\r\n\r\n" % (long, b"x" * padding))
        self.assertEqual(len(head), 16384)
        self.assertEqual(self.status(head + GET), 404)
        self.assertEqual(self.status(head.replace(b"X: ", b"X: x")), 431)

    def test_slow_head(self) -> None:
        """A head that is not complete in time is given up, however busy its sender is."""
        client = Client(self)
        for _ in range(49):
            client.send(b"G")
            self.reactor.advance(0.1)
        self.assertEqual(client.take(), b"")
        self.reactor.advance(0.2)
        self.assertEqual(_status(client.take()), 408)
        self.assertTrue(client.transport.disconnecting)
        self.reactor.advance(5.1)
        self.assertTrue(client.transport.aborted)

    def test_slow_later(self) -> None:
        """A later head on the same connection has no more time."""
        client = Client(self)
        client.send(GET)
        client.take()
        self.reactor.advance(20)  # an idle connection may stay
        for _ in range(49):
            client.send(b"G")
            self.reactor.advance(0.1)
        self.assertFalse(client.transport.aborted)
        self.reactor.advance(0.2)
        self.assertTrue(client.transport.aborted)

    def test_idle(self) -> None:
        """A connection that does nothing after its request is ended at last."""
        client = Client(self)
        client.send(GET)
        self.reactor.pump([1] * 61)
        self.assertTrue(client.transport.disconnecting)


class FullTests(ListenerTestCase):
    """How many connections there may be."""

    server = ServerSettings(max_connections=2)

    def test_full(self) -> None:
        """One more than allowed is refused; when one has gone, there is room."""
        first = self.connected()
        silent = Client(self)
        self.assertEqual(self.status(GET), 503)
        self.assertEqual(first.ask("ping"), {})
        silent.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.status(GET), 404)


class DefaultTests(ListenerTestCase):
    """Without a word in the settings."""

    def test_safe(self) -> None:
        """The API is closed and nobody may connect, but all is served."""
        reactor = MemoryReactorClock()
        closed = Oni(Settings(), reactor, channels=Channels())
        self.successResultOf(closed.start())
        self.factory = make_factory(closed, self.reactor)
        self.assertEqual(self.http('{"channel":"a","data":1}', X_API_Key="")[0], 401)
        self.assertEqual(self.http('{"channel":"a","data":1}', X_API_Key="None")[0], 401)
        self.assertEqual(self.websocket().ask("connect")["code"], 101)


def _status(data: bytes) -> int:
    assert data.startswith(b"HTTP/1.1 "), data
    return int(data.split(b" ", 2)[1])
