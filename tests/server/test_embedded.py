"""An Oni below one place of a site that is not ours."""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data
from zope.component import getGlobalSiteManager

from oni.interfaces import IChannels, IEventDispatcher
from oni.server import EmbeddedOni, OniResource, Settings
from oni.server._settings import ServerSettings
from tests.carriers import wire
from tests.server.house import KEY, Client, HouseTestCase

WEBSOCKET = "/events/connection/websocket"


class SiteTestCase(HouseTestCase):
    """A site with a page of its own at ``/`` and the Oni at ``/events``."""

    def setUp(self) -> None:
        """Build the site."""
        super().setUp()
        root = Resource()
        root.putChild(b"", Data(b"home", "text/plain"))
        self.resource = OniResource(self.oni, self.reactor)
        root.putChild(b"events", self.resource)
        self.factory: Any = Site(root, reactor=self.reactor)
        self.factory.displayTracebacks = False

    def opened(self) -> tuple[Client, bytes]:
        """Open a websocket; give what came besides the response."""
        client = Client(self)
        client.send(wire.upgrade(WEBSOCKET))
        head, rest = wire.split_response(client.take())
        self.assertTrue(head.startswith(b"HTTP/1.1 101"), head)
        return client, rest

    def status(self, data: bytes) -> int:
        """Send a request; give the status."""
        client = Client(self)
        client.send(data)
        return int(client.take().split(b" ")[1])

    def get(self, path: str, **headers: str) -> int:
        """Ask for a page; give the status."""
        return self.answer_of(self.request(b"", "GET", path, **headers))[0]


class EmbeddedResource(SiteTestCase):
    """The resource."""

    def test_site(self) -> None:
        """The site's own pages are as before, under any name."""
        self.assertEqual((200, b"home"), self.http(b"", "GET", "/", Host="elsewhere"))

    def test_websocket(self) -> None:
        """A websocket speaks the protocol, and hears what the API publishes."""
        client, _ = self.opened()
        client.send(wire.command(id=1, connect={}))
        client.send(wire.command(id=2, subscribe={"channel": "lobby"}))
        self.assertEqual([1, 2], [found["id"] for found in wire.messages(client.take())])
        body = b'{"channel": "lobby", "data": 7}'
        status, _ = self.http(body, path="/events/api/publish", X_API_Key=KEY)
        self.assertEqual(200, status)
        (push,) = wire.messages(client.take())
        self.assertEqual(7, push["push"]["pub"]["data"])

    def test_bytes_behind_the_head(self) -> None:
        """What came in one piece with the head, or byte by byte, is not lost."""
        data = wire.upgrade(WEBSOCKET) + wire.command(id=1, connect={})
        for pieces in ([data], [bytes([byte]) for byte in data]):
            client = Client(self)
            for piece in pieces:
                client.send(piece)
            _, rest = wire.split_response(client.take())
            self.assertEqual([1], [found["id"] for found in wire.messages(rest)])

    def test_after_another_request(self) -> None:
        """A connection that carried requests may become a websocket, once they are answered."""
        client = Client(self)
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn(b"home", client.take())
        client.send(wire.upgrade(WEBSOCKET))
        self.assertIn(b"101", client.take()[:12])

    def test_no_upgrade(self) -> None:
        """Whoever asks for no websocket is told what is there."""
        self.assertEqual(426, self.get(WEBSOCKET))

    def test_idle(self) -> None:
        """The site's time limit for silence does not end a websocket."""
        client, _ = self.opened()
        client.send(wire.command(id=1, connect={}))
        client.take()
        for _ in range(int(self.factory.timeOut) // 10 + 2):
            self.reactor.advance(10)
            for _ in wire.messages(client.take()):  # pings
                client.send(wire.command())
        self.assertFalse(client.transport.disconnecting)
        self.assertFalse(client.transport.aborted)

    def test_foreign_names(self) -> None:
        """Under a name that is not in the settings nothing of the Oni is served."""
        self.assertEqual(421, self.status(wire.upgrade(WEBSOCKET, "elsewhere")))
        self.assertEqual(421, self.http(b"{}", path="/events/api/publish", Host="elsewhere")[0])

    def test_foreign_origin(self) -> None:
        """A page of another site may not connect."""
        self.assertEqual(403, self.status(wire.upgrade(WEBSOCKET, Origin="https://evil.example")))

    def test_smuggled_header(self) -> None:
        """What another parser might take for two headers is refused."""
        self.assertEqual(400, self.status(wire.upgrade(WEBSOCKET, X_A="1\x85Host: evil")))

    def test_what_is_not_served(self) -> None:
        """Console, metrics and health belong to a daemon."""
        for path in ("", "/", "/admin/state", "/metrics", "/healthz", "/nothing"):
            self.assertEqual(404, self.get(f"/events{path}"), path)

    def test_page_headers(self) -> None:
        """Event streams are where they are in a daemon."""
        client = self.request(b"", "GET", "/events/connection/sse/lobby")
        self.assertIn(b"text/event-stream", client.take())

    def test_access_log(self) -> None:
        """The site's access log has no queries of ours: tokens may be in them."""
        lines = io.StringIO()
        self.patch(self.factory, "_logFile", lines)
        for path in ("connection/sse/lobby", "connection/websocket", "nothing"):
            self.request(b"", "GET", f"/events/{path}?token=hidden").vanish()
        self.request(b"", "GET", "/events/api/info?token=hidden", Host="elsewhere").take()
        self.request(b"", "GET", "/?shown=yes").take()
        self.assertNotIn("hidden", lines.getvalue())
        self.assertIn('"GET /events/connection/sse/lobby HTTP/1.1" 401', lines.getvalue())
        self.assertIn("/?shown=yes", lines.getvalue())

    def test_memory(self) -> None:
        """When a websocket has ended, nothing of it is kept."""
        client, _ = self.opened()
        self.assertEqual([], client.protocol._channel.requests)
        kept = weakref.ref(client.protocol._channel)
        self.assertEqual(1, self.resource.count_connections())
        client.vanish()
        self.assertEqual(0, self.resource.count_connections())
        del client
        self.reactor.advance(60)
        gc.collect()
        self.assertIsNone(kept())


class EmbeddedLimits(SiteTestCase):
    """The limits of the settings."""

    server = ServerSettings(max_connections=3, max_connections_per_address=2, max_body_bytes=100)

    def test_body(self) -> None:
        """A body that is too large is refused."""
        body = b'{"channel": "lobby", "data": "%s"}' % (b"x" * 100)
        self.assertEqual(413, self.http(body, path="/events/api/publish", X_API_Key=KEY)[0])

    def test_address(self) -> None:
        """One address has no more websockets than it may; one that has ended counts no more."""
        first, _ = self.opened()
        self.opened()
        for _ in range(5):
            self.assertEqual(429, self.status(wire.upgrade(WEBSOCKET)))
        first.vanish()
        self.opened()


class EmbeddedAdmission(SiteTestCase):
    """The limit of handshakes in a second."""

    server = ServerSettings(
        max_connections=2, max_connections_per_address=2, max_handshakes_per_second=1.0
    )

    def test_refused_handshakes(self) -> None:
        """A handshake that comes too soon is refused, says when to come, and takes no place."""
        self.opened()
        for _ in range(5):
            client = Client(self)
            client.send(wire.upgrade(WEBSOCKET))
            head, _ = wire.split_response(client.take())
            self.assertIn(b" 503 ", head)
            self.assertIn(b"Retry-After: ", head)
        self.reactor.advance(2)
        self.opened()


class EmbeddedLimitOfAll(EmbeddedLimits):
    """The limit of all connections."""

    server = ServerSettings(max_connections=1, max_connections_per_address=2, max_body_bytes=100)

    def test_address(self) -> None:
        """There are no more websockets than there may be."""
        first, _ = self.opened()
        self.assertEqual(503, self.status(wire.upgrade(WEBSOCKET)))
        first.vanish()
        self.opened()


class EmbeddedService(SynchronousTestCase):
    """The service."""

    def test_life(self) -> None:
        """Between start and stop the utilities are there; it listens nowhere."""
        registry = getGlobalSiteManager()
        before = registry.queryUtility(IChannels)
        reactor = MemoryReactorClock()
        embedded = EmbeddedOni(Settings(), reactor)
        self.addCleanup(registry.unregisterUtility, embedded.oni.channels, IChannels)
        embedded.privilegedStartService()
        embedded.startService()
        self.assertIs(embedded.oni.dispatcher, registry.queryUtility(IEventDispatcher))
        self.assertEqual([], reactor.tcpServers)
        stopped = embedded.stopService()
        for _ in range(20):
            reactor.advance(0.1)
        self.successResultOf(stopped)
        self.assertIsNone(registry.queryUtility(IEventDispatcher))
        self.assertIsNone(before)
