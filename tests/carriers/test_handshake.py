"""A table of opening handshakes: our answer to each, and what Autobahn's own would be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.testing import MemoryReactorClock, StringTransport

from oni.carriers import CarrierLimits, WebSocketCarrierFactory
from oni.protocol import BadHeadError, parse_head, refusal_response
from tests.carriers.wire import KEY

ALLOWED = ("https://example.org",)
JSON = "centrifuge-json"


class Case(NamedTuple):
    """One request, made of a good one.

    Attributes:
        name: What it shows.
        status: What is answered.
        first: The request line.
        put: Headers that are set instead of those of a good request.
        drop: The one that it does not have.
        also: Lines that follow all others.
        autobahn: What Autobahn answers, where that is something else: the reason is told beside.
    """

    name: str
    status: int
    first: str = "GET /connection/websocket?x=1 HTTP/1.1"
    put: Mapping[str, str] = MappingProxyType({})
    drop: str = ""
    also: tuple[str, ...] = ()
    autobahn: int | None = None

    def __str__(self) -> str:
        """Name it in pytest's output."""
        return self.name


GOOD = {
    "Host": "localhost:8000",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}

CASES = (
    # What is good.
    Case("plain", 101),
    Case("names in any case", 101, put={"Upgrade": "WebSocket", "Connection": "UPGRADE"}),
    Case("among others", 101, put={"Upgrade": "h2c, websocket", "Connection": "x , Upgrade"}),
    Case("keep-alive, as Firefox", 101, put={"Connection": "keep-alive, Upgrade"}),
    Case("in two headers", 101, put={"Connection": "keep-alive"}, also=("Connection: upgrade",)),
    Case("spaces around values", 101, put={"Sec-WebSocket-Version": "  13\t"}),
    Case("another key", 101, put={"Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw=="}),
    Case("host without port", 101, put={"Host": "localhost"}),
    Case("host in IPv6", 101, put={"Host": "[::1]:8000"}),
    Case("host in IPv6 without port", 101, put={"Host": "[::1]"}),
    Case("own origin", 101, put={"Origin": "http://localhost:8000"}),
    Case("allowed origin", 101, put={"Origin": "https://example.org"}),
    Case("the subprotocol", 101, put={"Sec-WebSocket-Protocol": JSON}),
    Case("one of the subprotocols", 101, put={"Sec-WebSocket-Protocol": f"x, {JSON}"}),
    Case(
        "subprotocols in two headers",
        101,
        put={"Sec-WebSocket-Protocol": "x"},
        also=(f"Sec-WebSocket-Protocol: {JSON}",),
    ),
    Case("an extension", 101, put={"Sec-WebSocket-Extensions": "permessage-deflate"}),
    Case(
        "an extension with parameters",
        101,
        put={
            "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits; "
            'server_max_window_bits="10", x-other;a=b'
        },
    ),
    Case(
        "extensions in two headers",  # section 11.3.2 allows it
        101,
        put={"Sec-WebSocket-Extensions": "x-one"},
        also=("Sec-WebSocket-Extensions: x-two",),
        autobahn=400,
    ),
    Case("a body that is none", 101, put={"Content-Length": "0"}),
    # The request line.
    Case("POST", 405, "POST /connection/websocket HTTP/1.1"),
    Case("get in small letters", 405, "get /connection/websocket HTTP/1.1"),
    Case("HTTP 1.0", 505, "GET /connection/websocket HTTP/1.0"),
    Case("HTTP 2.0", 400, "GET /connection/websocket HTTP/2.0", autobahn=505),  # as all nonsense
    Case("no version", 400, "GET /connection/websocket"),
    Case("a fragment", 400, "GET /connection/websocket#there HTTP/1.1"),
    # Host.
    Case("no host", 400, drop="Host"),
    Case("two hosts", 400, also=("Host: localhost:8000",)),
    Case("a port that is no number", 400, put={"Host": "localhost:http"}),
    # Upgrade and Connection.
    Case("no upgrade", 426, drop="Upgrade"),
    Case("an upgrade to something else", 400, put={"Upgrade": "h2c"}),
    Case("an upgrade to nearly that", 400, put={"Upgrade": "websockets"}),
    Case("no connection", 400, drop="Connection"),
    Case("a connection that stays", 400, put={"Connection": "keep-alive"}),
    Case("a connection to nearly that", 400, put={"Connection": "upgraded"}),
    # The version: section 4.2.2 names 426 for another one.
    Case("no version of websockets", 400, drop="Sec-WebSocket-Version"),
    Case("version 8", 426, put={"Sec-WebSocket-Version": "8"}, autobahn=400),
    Case("version 0", 426, put={"Sec-WebSocket-Version": "0"}, autobahn=400),
    Case("version 14", 426, put={"Sec-WebSocket-Version": "14"}, autobahn=400),
    Case("a version that is no number", 400, put={"Sec-WebSocket-Version": "new"}),
    Case("an empty version", 400, put={"Sec-WebSocket-Version": ""}),
    Case("two versions", 400, also=("Sec-WebSocket-Version: 13",)),
    Case("two versions in one", 400, put={"Sec-WebSocket-Version": "13, 8"}),
    # Section 4.3 writes numbers without a sign and leading zeros.
    Case("013", 400, put={"Sec-WebSocket-Version": "013"}, autobahn=101),
    Case("+13", 400, put={"Sec-WebSocket-Version": "+13"}, autobahn=101),
    Case("1_3", 400, put={"Sec-WebSocket-Version": "1_3"}, autobahn=101),
    # The key: 16 bytes in Base64.
    Case("no key", 400, drop="Sec-WebSocket-Key"),
    Case("an empty key", 400, put={"Sec-WebSocket-Key": ""}),
    Case("two keys", 400, also=(f"Sec-WebSocket-Key: {KEY}",)),
    Case("a key of 15 bytes", 400, put={"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j"}),
    Case("a key of 17 bytes", 400, put={"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQE="}),
    Case("a key of 18 bytes", 400, put={"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQEB"}),
    Case("a key that is no Base64", 400, put={"Sec-WebSocket-Key": "dGhlIHNhbXBsZS_ub25jZQ=="}),
    Case("a key that ends early", 400, put={"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j===="}),
    # Origins.
    Case("another origin", 403, put={"Origin": "http://evil.example"}),
    Case("another port", 403, put={"Origin": "http://localhost:8001"}),
    Case("no site", 400, put={"Origin": "null"}),
    Case("a file", 400, put={"Origin": "file:///etc/passwd"}),
    Case("an empty origin", 400, put={"Origin": ""}),
    Case(
        "two origins",
        400,
        put={"Origin": "http://localhost:8000"},
        also=("Origin: http://localhost:8000",),
    ),
    # Subprotocols.
    Case("another subprotocol", 400, put={"Sec-WebSocket-Protocol": "centrifuge-protobuf"}),
    Case("an empty subprotocol", 400, put={"Sec-WebSocket-Protocol": ""}),
    Case("a subprotocol twice", 400, put={"Sec-WebSocket-Protocol": f"{JSON}, {JSON}"}),
    # Extensions that are not written as section 9.1 says: the handshake fails. Autobahn only
    # looks at those that it knows.
    Case("no extension", 400, put={"Sec-WebSocket-Extensions": ","}, autobahn=101),
    Case("half an extension", 400, put={"Sec-WebSocket-Extensions": "x-a; ="}, autobahn=101),
    Case("an open quote", 400, put={"Sec-WebSocket-Extensions": 'x-a; b="c'}, autobahn=101),
    # Lines that are none: a strict reader's business.
    Case("a folded line", 400, also=(" more",), autobahn=101),
    Case("a line without colon", 400, also=("X",), autobahn=101),
    Case("a line feed alone", 400, also=("X: a\nY: b",), autobahn=101),
)


def written(case: Case) -> bytes:
    """Write a request."""
    headers = {name: value for name, value in {**GOOD, **case.put}.items() if name != case.drop}
    lines = [case.first, *(f"{name}: {value}" for name, value in headers.items()), *case.also]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Wire(StringTransport):
    """A transport that can be aborted."""

    def abortConnection(self) -> None:
        """End."""
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        """Let none go."""


class Owner:
    """What a connection belongs to."""

    def connection_lost(self) -> None:
        """Nothing depends on it."""


def factory() -> WebSocketCarrierFactory:
    """Make a factory on a clock."""
    limits = CarrierLimits(allowed_origins=ALLOWED)
    return WebSocketCarrierFactory(lambda _: Owner(), limits, MemoryReactorClock())  # type: ignore[arg-type, return-value]


def by_listener(request: bytes) -> bytes:
    """Answer as the listener does, which has read the head itself."""
    transport = Wire()
    carrier: Any = factory().buildProtocol(None)
    try:
        carrier.accept(parse_head(request[:-4]), secure=False)
    except BadHeadError as error:
        return refusal_response(error)
    carrier.makeConnection(transport)
    return transport.value()


def by_carrier(request: bytes) -> bytes:
    """Answer as a connection does that reads its request itself, byte by byte."""
    transport = Wire()
    carrier: Any = factory().buildProtocol(None)
    carrier.makeConnection(transport)
    for byte in request:
        carrier.dataReceived(bytes((byte,)))
    return transport.value()


class Stock(WebSocketServerProtocol):  # type: ignore[misc]
    """Autobahn's own handshake."""

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Speak what is spoken."""
        if request.origin and request.origin not in (*ALLOWED, "http://localhost:8000"):
            return self._refuse(403)
        if request.protocols and JSON not in request.protocols:
            return self._refuse(400)
        return JSON if request.protocols else None

    def _refuse(self, status: int) -> None:
        raise ConnectionDeny(status, "no")


def by_autobahn(request: bytes) -> bytes:
    """Answer as Autobahn would."""
    transport = Wire()
    stock = WebSocketServerFactory(reactor=MemoryReactorClock())
    stock.protocol = Stock
    stock.setProtocolOptions(webStatus=False, versions=[13])
    connection: Any = stock.buildProtocol(None)
    connection.makeConnection(transport)
    connection.dataReceived(request)
    return transport.value()


def status_of(response: bytes) -> int:
    """Read the status."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", response)
    assert found is not None, response
    return int(found[1])


def fields_of(response: bytes) -> dict[bytes, bytes]:
    """Read those headers of a response that a websocket client looks at."""
    lines = response.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    found = {
        name.lower(): value.strip() for name, _, value in (li.partition(b":") for li in lines)
    }
    wanted = (b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-protocol")
    return {name: found.get(name, b"").lower() for name in wanted} | {
        b"sec-websocket-accept": found.get(b"sec-websocket-accept", b""),
        b"sec-websocket-extensions": found.get(b"sec-websocket-extensions", b""),
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_table(case: Case) -> None:
    """Each handshake is answered as the table says, whoever reads the head."""
    request = written(case)
    for answer in (by_listener(request), by_carrier(request)):
        assert status_of(answer) == case.status
        assert answer.endswith(b"\r\n\r\n")
        if case.status == 426:
            assert b"\r\nUpgrade: websocket\r\n" in answer
        assert (b"\r\nSec-WebSocket-Version: 13\r\n" in answer) is (
            case.status == 426 and case.drop != "Upgrade"
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_like_autobahn(case: Case) -> None:
    """Autobahn says the same, but where the table says otherwise; and what opens is the same."""
    request = written(case)
    stock = by_autobahn(request)
    assert status_of(stock) == (case.status if case.autobahn is None else case.autobahn)
    if case.status == 101 == status_of(stock):
        assert fields_of(by_listener(request)) == fields_of(stock)


def test_accept_of_the_rfc() -> None:
    """The key of section 1.3 gives what stands there."""
    answer = by_listener(written(CASES[0]))
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
