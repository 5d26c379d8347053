"""What is fed with nonsense, and what must hold then.

Each target takes one input after the other and raises where something does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from oni.carriers import (
    CarrierLimits,
    WebSocketCarrierFactory,
    event_of,
    position_of,
)
from oni.errors import BadRequestError, SettingsError
from oni.protocol import (
    CLOSES,
    BadHeadError,
    NotFound,
    Pong,
    Send,
    decode_command,
    decode_json,
    parse_head,
    split_frame,
)
from oni.server._hosts import host_is_allowed
from oni.server._settings import Settings
from oni.server._settings_file import parse_settings
from oni.server.auth._jwt import BadTokenError
from oni.server.auth._keys import keys_of
from oni.server.auth._settings import AuthSettings
from oni.server.auth._tokens import Tokens
from oni.server.limits import Proxies
from oni.values import Position
from tests.carriers import wire
from tests.carriers.test_rfc6455 import Wire, strict_frames

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """What is fed.

    Attributes:
        name: Its name.
        corpus: Inputs that are right, or nearly.
        make: Makes what takes an input; it is made once.
    """

    name: str
    corpus: Sequence[bytes]
    make: Callable[[], Callable[[bytes], None]]


# --- Heads ---------------------------------------------------------------------------------------

_HEADS = (
    wire.upgrade().removesuffix(b"\r\n\r\n"),
    wire.upgrade(Origin="https://example.org", X_Forwarded_For="1.2.3.4, [::1]:80")[:-4],
    b"GET /connection/sse/news?last_event_id=a:1 HTTP/1.1\r\nHost: localhost:8000",
    b"POST /api/publish HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 12\r\nX-API-Key: k",
)


def _heads() -> Callable[[bytes], None]:
    proxies = Proxies(["10.0.0.0/8"])
    peer = IPv4Address("TCP", "10.0.0.1", 1)

    def feed(data: bytes) -> None:
        try:
            head = parse_head(data)
        except BadHeadError as error:
            assert error.status in (400, 414, 431)
            return
        for name, values in head.headers.items():
            assert name == name.lower()
            for value in values:
                text = (name + b": " + value).decode("latin-1")
                assert text.splitlines() == [text], "another parser sees two headers"
        host_is_allowed(head.values(b"host"), ("localhost",))
        assert len(proxies.client(peer, head.values(b"x-forwarded-for"))) < 50

    return feed


# --- Frames --------------------------------------------------------------------------------------

_FRAMES = (
    wire.command(id=1, ping={}),
    wire.frame(b"x" * 200),
    wire.frame(b"x" * 130, wire.BINARY),
    wire.frame(b"a", fin=False) + wire.frame(b"?", wire.PING) + wire.frame(b"b", 0),
    wire.frame(b"", fin=False) + wire.frame(b"", 0, fin=False) * 5 + wire.frame("€", 0),
    wire.frame(b"ping", wire.PING) + wire.frame(b"", wire.PONG),
    wire.close(1000, "bye"),
    wire.close(3001),
    wire.frame("äöü€😀"),
    b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04",
    b"\xc1\x85\x01\x02\x03\x04hello",
)
#: Our own codes, and those of a client, which come back to it.
_CODES = {*WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED, *CLOSES}


class _Taker:
    """The owner of a connection."""

    def __init__(self) -> None:
        self.is_gone = False

    def received(self, frame: bytes) -> None:
        assert len(frame) <= 65536

    def was_read(self) -> None:
        pass

    def connection_lost(self) -> None:
        assert not self.is_gone, "gone twice"
        self.is_gone = True


def _frames() -> Callable[[bytes], None]:
    reactor = MemoryReactorClock()
    limits = CarrierLimits(max_pings_per_second=1e6, max_bytes_per_second=1e12)
    factory = WebSocketCarrierFactory(lambda carrier: _Taker(), limits, reactor)  # type: ignore[arg-type, return-value]
    first: Any = factory.buildProtocol(None)
    first.makeConnection(Wire())
    first.dataReceived(wire.upgrade())
    assert first.state == first.STATE_OPEN

    def begin() -> Any:
        """Give a connection that is as the first one was: a handshake each would take too long."""
        carrier: Any = copy(first)
        for name, value in vars(first).items():
            if isinstance(value, list | dict) or name == "utf8validator":
                setattr(carrier, name, copy(value))
        carrier.transport, carrier._owner, carrier.is_closed = Wire(), _Taker(), Deferred()
        carrier.transport.registerProducer(carrier, True)
        return carrier

    def feed(data: bytes) -> None:
        carrier = begin()
        carrier.dataReceived(data)
        reactor.advance(0)
        ended = False
        for opcode, payload in strict_frames(carrier.transport.value()):
            assert opcode in (wire.PONG, wire.CLOSE), opcode
            if opcode == wire.CLOSE:
                assert not ended, "closed twice"
                ended = True
                code = int.from_bytes(payload[:2], "big") if payload else 1000
                assert code in _CODES or 3000 <= code <= 4999, code
                payload[2:].decode()
        owner = carrier._owner
        carrier.connectionLost(Failure(ConnectionDone()))
        assert owner is None or owner.is_gone
        for call in reactor.getDelayedCalls():
            call.cancel()

    return feed


# --- Commands ------------------------------------------------------------------------------------

_COMMANDS = tuple(
    json.dumps(command).encode()
    for command in (
        {},
        {"id": 1, "connect": {"token": "t", "data": {"a": 1}, "subs": {"c": {"offset": 3}}}},
        {"id": 2, "subscribe": {"channel": "c", "recover": True, "epoch": "e", "offset": 17}},
        {
            "id": 3,
            "subscribe": {
                "channel": "c",
                "tf": {"op": "and", "nodes": [{"key": "k", "cmp": "eq", "val": "v"}]},
            },
        },
        {"id": 4, "publish": {"channel": "c", "data": {"deep": [[[1, 2.5, None, "é"]]]}}},
        {"id": 5, "history": {"channel": "c", "limit": 10, "since": {"offset": 1, "epoch": "e"}}},
        {"id": 6, "rpc": {"method": "oni.publish", "data": {"channel": "c", "data": 1}}},
        {"id": 7, "presence_stats": {"channel": "c"}},
        {"send": {"data": [1, 2, 3]}},
        {"id": 4294967295, "ping": {}},
        {"id": 9, "refresh": {"token": "t"}},
        {"id": 10, "sub_refresh": {"channel": "c", "token": "t"}},
    )
)


def _commands() -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        try:
            lines = split_frame(data)
        except BadRequestError:
            return
        for line in lines:
            try:
                command = decode_command(line)
            except BadRequestError as error:
                assert 0 <= error.command_id < 2**32
                continue
            if not isinstance(command, Send | Pong | NotFound):
                assert 0 < command.id < 2**32
            payload = getattr(command, "data", None)
            if isinstance(payload, msgspec.Raw):
                msgspec.json.encode(decode_json(payload))

    return feed


# --- Settings ------------------------------------------------------------------------------------

_SETTINGS = (
    b'[server]\nlisten = ["tcp:8000"]\nmax_connections = 10\npong_timeout = 5.5\n'
    b'trusted_proxies = ["10.0.0.0/8", "unix"]\n',
    b'[auth]\nanonymous = true\nhmac_secret = "0123456789abcdef0123456789abcdef"\n',
    b"[channels]\npublish = true\n[channels.chat]\nhistory_size = 3\nhistory_ttl = 2.5\n",
    b'[dispatcher]\nphases = ["before", {name = "x", timeout = 1.0}, "during", "after"]\n',
    b'[app]\nconfigure = "a:b"\n[zca]\nname = ""\n[backend]\nurl = "memory:"\n',
    b'[api]\nkey = "0123456789abcdef"\n',
)


def _settings() -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        try:
            settings = parse_settings(data.decode("utf-8", "replace"))
        except SettingsError as error:
            assert error.problems
            assert all(len(problem) < 2000 for problem in error.problems)
            return
        assert settings.server.max_connections >= 1
        assert settings.server.max_commands_per_second >= 1
        settings.warnings()
        assert isinstance(settings, Settings)

    return feed


# --- Tokens --------------------------------------------------------------------------------------

_SECRET = "a secret of more than thirty-two bytes, for tests"
_CLAIMS: tuple[dict[str, Any], ...] = (
    {"sub": "bob", "exp": 2_000_000_000, "info": {"name": "Bob"}, "channels": ["news"]},
    {"sub": "bob", "subs": {"news": {"info": 1}}, "meta": {"a": [1]}, "expire_at": 2_000_000_000},
    {"sub": "bob", "channel": "chat:1", "exp": 2_000_000_000, "client": "c"},
    {"sub": "", "iat": 1, "nbf": 1, "aud": ["a", "b"], "iss": "me", "jti": "1"},
)
_TOKENS = (
    *(jwt.encode(claims, _SECRET, "HS256").encode() for claims in _CLAIMS),
    jwt.encode({"sub": "eve"}, "", "none").encode(),
    *(json.dumps(claims).encode() for claims in _CLAIMS),
)


def _tokens() -> Callable[[bytes], None]:
    settings = AuthSettings(hmac_secret=_SECRET)
    tokens = Tokens(settings, keys_of(settings, None), lambda: 1_700_000_000.0)

    def feed(data: bytes) -> None:
        token = data.decode("utf-8", "replace")
        signed = b"{" in data
        if signed:  # the signature is right, what is signed is not
            token = jwt.api_jws.encode(data, _SECRET, "HS256")
        try:
            identity = tokens.identity(token)
        except BadTokenError:
            pass
        else:
            assert isinstance(identity.user, str)
            assert signed or data in _TOKENS, "a token that nobody has signed"
        try:
            tokens.permission(token, "chat:1", "bob", "c")
        except BadTokenError:
            pass
        else:
            assert signed or data in _TOKENS, "a token that nobody has signed"

    return feed


# --- Positions -----------------------------------------------------------------------------------

_POSITIONS = (b"epoch:17", b"a:b:0", b":1", b"e:9223372036854775807", b"e:-1", b"1:1e5", b"e:+1")


def _positions() -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        found = position_of(text)
        assert 0 <= found.offset < 2**63
        written = event_of("x", b"1", Position("epoch", found.offset))
        line = written.split(b"\n")[0].removeprefix(b"id: ").decode()
        assert position_of(line) == Position("epoch", found.offset)
        command = {"id": 1, "subscribe": {"channel": "c", "recover": True, "epoch": text}}
        command["subscribe"]["offset"] = found.offset  # type: ignore[index]
        decoded: Any = decode_command(json.dumps(command).encode())
        assert decoded.since.offset == found.offset

    return feed


TARGETS = (
    Target("heads", _HEADS, _heads),
    Target("frames", _FRAMES, _frames),
    Target("commands", _COMMANDS, _commands),
    Target("settings", _SETTINGS, _settings),
    Target("tokens", _TOKENS, _tokens),
    Target("positions", _POSITIONS, _positions),
)
