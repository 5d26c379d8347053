"""Attacks whose figures need no real socket: on a clock, and byte by byte."""

from __future__ import annotations

import zlib
from typing import Any

from oni.server._settings import ServerSettings
from tests.carriers import wire
from tests.server.house import Client, HouseTestCase, WebSocketClient
from tests.server.test_listener import GET

MANY = ServerSettings(
    max_connections=2000, max_connections_per_address=2000, max_handshakes_per_second=1e6
)
LIMIT = 65536


class ThreatTestCase(HouseTestCase):
    """A house that many may enter at once."""

    server = MANY

    def status(self, data: bytes) -> int:
        """Send bytes on a connection of their own; give the status of the answer, 0 for none."""
        client = Client(self)
        client.send(data)
        found = client.take().split(b" ", 2)
        return int(found[1]) if len(found) > 1 else 0

    def closed_with(self, client: WebSocketClient, *frames: bytes) -> Any:
        """Send frames; give the code and the reason with which the server closes."""
        for data in frames:
            if not client.transport.disconnecting:
                client.send(data)
        return wire.close_of(client.take())


class IdleTests(ThreatTestCase):
    """Connections that only are there."""

    def test_never_authenticates(self) -> None:
        """1,000 websockets that never connect are closed as stale after 10 s."""
        clients = [self.websocket() for _ in range(1000)]
        self.reactor.advance(9.9)
        self.assertEqual(len(self.oni.sessions), 1000)
        for _ in range(5):
            self.reactor.advance(0.2)
        self.assertEqual(len(self.oni.sessions), 0)
        self.assertEqual(wire.close_of(clients[500].take()), (3502, "stale"))
        for _ in range(30):
            self.reactor.advance(0.2)
        for client in clients:
            self.assertTrue(client.transport.aborted)
            client.vanish()
        self.assertEqual((self.factory.connections, len(self.factory.addresses)), (0, 0))

    def test_trickles(self) -> None:
        """500 that send a head byte by byte are given up after 5 s, however busy they are."""
        clients = [Client(self) for _ in range(500)]
        for byte in range(50):
            for client in clients:
                client.protocol.dataReceived(wire.upgrade()[byte : byte + 1])
            self.reactor.advance(0.1)
        self.reactor.advance(0.05)
        self.assertTrue(all(client.transport.disconnecting for client in clients))
        self.assertTrue(clients[0].take().startswith(b"HTTP/1.1 408 "))


class SizeTests(ThreatTestCase):
    """Messages that are too large, in whatever way."""

    def test_announced(self) -> None:
        """A header that announces 2^63-1 bytes is enough to be refused."""
        head = b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04"
        code, _ = self.closed_with(self.connected(), head)
        self.assertEqual(code, 1009)

    def test_in_parts(self) -> None:
        """One byte more than the limit, in 2, 10 and 10,000 parts; the limit itself is taken."""
        for parts, expected in ((2, 1009), (10, 1009), (10_000, 1008)):
            size = LIMIT // parts
            first = wire.frame(b" " * size, fin=False)
            more = [wire.frame(b" " * size, 0, fin=False)] * (parts - 1)
            last = wire.frame(b" " * (LIMIT + 1 - size * parts), 0)
            code, _ = self.closed_with(self.connected(), first + b"".join(more) + last)
            self.assertEqual(code, expected, parts)
        padded = b'{"id":9,"ping":{}}'.ljust(LIMIT)
        client = self.connected()
        client.send(wire.frame(padded[:9], fin=False) + wire.frame(padded[9:], 0))
        self.assertEqual(client.messages(), [{"id": 9, "ping": {}}])

    def test_compressed(self) -> None:
        """No compression is ever agreed on; so a compressed message breaks the protocol.

        Nothing is inflated, nothing is cut off: there is no bomb, and no message that is just
        over the limit can be delivered as one that is just within it.
        """
        client = Client(self)
        client.send(
            wire.upgrade(
                Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits, "
                "permessage-bzip2, permessage-snappy"
            )
        )
        head, _ = wire.split_response(client.take())
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"extensions", head.lower())
        for overage in (1, 2, 50, 100, 600, 20_000_000):
            packer = zlib.compressobj(wbits=-15)
            packed = packer.compress(b" " * (LIMIT + overage)) + packer.flush(zlib.Z_SYNC_FLUSH)
            data = bytearray(wire.frame(packed[:-4]))
            data[0] |= 0x40  # RSV1: compressed
            code, _ = self.closed_with(self.connected(), bytes(data))
            self.assertEqual(code, 1002)

    def test_extensions_with_strange_names(self) -> None:
        """Names that mean something to some languages mean nothing here."""
        for name in (
            "constructor",
            "__proto__",
            "toString; a=b",
            "x; __proto__=1",
            "hasOwnProperty",
        ):
            self.assertEqual(self.status(wire.upgrade(Sec_WebSocket_Extensions=name)), 101, name)


class OriginTests(ThreatTestCase):
    """A page of another site, in the browser of somebody who is known here."""

    def test_origins(self) -> None:
        """Only the page's own origin is let in; no session is touched, whatever cookies came."""
        refused = (
            "http://localhost:8001",  # another port
            "https://localhost:8000",  # another scheme
            "http://localhost:8000.evil.example",
            "http://evil-localhost:8000",
            "http://x.localhost:8000",
            "http://localhost.:8000",  # a dot at the end
            "http://xn--lcalhost-p9a:8000",
            "http://localhost:8000, http://evil.example",
            "null",
            "",
        )
        for origin in refused:
            request = wire.upgrade(Origin=origin, Cookie="session=of-somebody")
            self.assertIn(self.status(request), (400, 403), origin)
        twice = wire.upgrade(Origin="http://localhost:8000", origin="http://evil.example")
        self.assertIn(self.status(twice), (400, 403))
        self.assertEqual(self.oni.sessions, {})
        for headers in (
            {"Origin": "http://localhost:8000"},
            {"Origin": "HTTP://LocalHost:8000"},
            {},
        ):
            self.assertEqual(self.status(wire.upgrade(**headers)), 101, headers)


UP = wire.upgrade()
BAD_REQUESTS: tuple[tuple[bytes, tuple[int, ...]], ...] = (
    # what is no HTTP, or not this one
    (b"GET /\r\n\r\n", (400,)),
    (b"GET / HTTP/0.9\r\n\r\n", (400,)),
    (b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n", (400,)),
    (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", (400,)),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    (b"GET / http/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    (b"\r\n\r\n\r\n", (400,)),
    (b"\x00\x00\x00\x00\r\n\r\n", (400,)),
    (b"\x16\x03\x01\x00\xa5\x01\r\n\r\n", (400,)),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (400,)),
    (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", (404,)),
    (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", (404,)),
    # heads that two parsers read in two ways
    (GET.replace(b"\r\n", b"\n"), (0,)),  # it has not ended
    (GET.replace(b"\r\n\r\n", b"\r\n folded: x\r\n\r\n"), (400,)),
    (GET.replace(b"\r\n\r\n", b"\r\nX\x00: y\r\n\r\n"), (400,)),
    (GET.replace(b"\r\n\r\n", b"\r\nX : y\r\n\r\n"), (400,)),
    (GET.replace(b"\r\n\r\n", b"\r\n: y\r\n\r\n"), (400,)),
    (GET.replace(b"Host: localhost\r\n", b""), (400,)),
    (GET.replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n"), (400,)),
    (GET.replace(b"localhost", b""), (421,)),
    (GET.replace(b"localhost", b"evil.example"), (421,)),
    (GET.replace(b"localhost", b"localhost@evil.example"), (421,)),
    (GET.replace(b"localhost", b"localhost.evil.example"), (421,)),
    (GET.replace(b"localhost", b"evil.example:80@localhost"), (421,)),
    # bodies whose end is not clear
    (
        b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    (
        b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\nhello!",
        (400,),
    ),
    (b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", (400,)),
    (b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello", (400,)),
    (
        b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        (400,),
    ),
    # websockets that are none
    (UP.replace(b"GET", b"POST"), (405,)),
    (UP.replace(b"HTTP/1.1", b"HTTP/1.0"), (400, 505)),
    (UP.replace(b"Upgrade: websocket\r\n", b""), (426,)),
    (UP.replace(b"Connection: Upgrade\r\n", b""), (400, 426)),
    (UP.replace(b"Connection: Upgrade", b"Connection: close"), (400, 426)),
    (UP.replace(b"Version: 13", b"Version: 12"), (400, 426)),
    (UP.replace(b"Version: 13", b"Version: x"), (400, 426)),
    (UP.replace(b"Sec-WebSocket-Version: 13\r\n", b""), (400, 426)),
    (UP.replace(wire.KEY.encode(), b"short"), (400,)),
    (UP.replace(wire.KEY.encode(), b"!" * 24), (400,)),
    (UP.replace(b"Sec-WebSocket-Key: " + wire.KEY.encode() + b"\r\n", b""), (400,)),
    (
        UP.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + wire.KEY.encode() + b"\r\n\r\n"),
        (400,),
    ),
)


class RequestTests(ThreatTestCase):
    """Requests that are none."""

    def test_corpus(self) -> None:
        """Each is answered as what it is, and none becomes a session."""
        self.assertGreaterEqual(len(BAD_REQUESTS), 40)
        for data, expected in BAD_REQUESTS:
            self.assertIn(self.status(data), expected, data)
        self.assertEqual(self.oni.sessions, {})

    def test_bytes_after_a_refused_handshake(self) -> None:
        """What follows a handshake is only looked at when that was accepted."""
        evil = wire.upgrade(Origin="http://evil.example")
        client = Client(self)
        client.send(evil + wire.command(id=1, connect={}))
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)
        self.assertNotIn(b'"connect"', answer)
        self.assertEqual(self.oni.sessions, {})


class SubscribeTests(ThreatTestCase):
    """Who wants to hear everything."""

    def test_too_many_channels(self) -> None:
        """The 129th channel is refused, and the connection stays."""
        client = self.connected()
        answers = []
        for number in range(129):
            answers.append(client.ask("subscribe", channel=f"c{number}").get("code", 0))
            self.reactor.advance(0.05)
        self.assertEqual(answers, [0] * 128 + [106])
        self.assertEqual(client.ask("ping"), {})

    def test_patterns(self) -> None:
        """There are no patterns: a name with a star is a name, each is asked for by itself."""
        client = self.connected()
        client.ask("subscribe", channel="*")
        self.successResultOf(self.oni.act("publish", channel="lobby", data=1))
        self.assertEqual(client.messages(), [])
        self.assertEqual(client.ask("subscribe", channel="*:lobby")["code"], 102)

    def test_long_names(self) -> None:
        """A channel's name has at most 255 bytes."""
        client = self.connected()
        self.assertNotIn("code", client.ask("subscribe", channel="x" * 255))
        self.assertEqual(client.ask("subscribe", channel="x" * 256)["code"], 107)
        self.assertEqual(client.ask("subscribe", channel="line\nfeed")["code"], 107)


class RetryTests(ThreatTestCase):
    """The same publication, again and again."""

    def test_idempotent(self) -> None:
        """1,000 retries of one publication are one publication."""
        body = '{"channel":"kept:1","data":1,"idempotency_key":"order-1"}'
        answers = {str(self.http(body, X_API_Key="a key of many characters")) for _ in range(1000)}
        self.assertEqual(len(answers), 1)
        self.assertEqual(self.top("kept:1").offset, 1)


class EventStreamTests(ThreatTestCase):
    """Event streams that are not read."""

    def stream(self) -> Client:
        """Open one."""
        client = self.request(method="GET", path="/connection/sse/kept:1")
        self.assertIn(b" 200 ", client.take())
        return client

    def test_stuck(self) -> None:
        """One that takes nothing for 30 s is ended, though nobody can tell it so."""
        client = self.stream()
        client.transport.producer.pauseProducing()
        self.reactor.advance(29)
        self.assertFalse(client.transport.aborted)
        self.reactor.advance(1.1)
        self.assertTrue(client.transport.aborted)
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})

    def test_slow(self) -> None:
        """One that takes what it was sent, late, stays."""
        client = self.stream()
        for _ in range(5):
            client.transport.producer.pauseProducing()
            self.reactor.advance(29)
            client.transport.producer.resumeProducing()
        self.assertFalse(client.transport.aborted)
