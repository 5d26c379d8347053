"""The opening handshake of a websocket, the server's side of it: RFC 6455, section 4.2."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1
from typing import NamedTuple

from oni.carriers._origin import is_origin, origin_is_allowed
from oni.protocol import BadHeadError, RequestHead

__all__ = ["Accepted", "accept_handshake"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in Base64
_HOST = re.compile(rb"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_VERSION = re.compile(rb"0|[1-9][0-9]{0,2}")  # section 4.3
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EXTENSION = rb'%b(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|"%b"))?)*' % ((_TOKEN,) * 4)
_EXTENSIONS = re.compile(rb"%b(?:[ \t]*,[ \t]*%b)*" % (_EXTENSION, _EXTENSION))

_UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
_RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nServer: Oni\r\n" + _UPGRADE + b"%b"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)


class Accepted(NamedTuple):
    """What an accepted handshake comes to.

    Attributes:
        response: The bytes that open the websocket.
        subprotocol: What is spoken on it, None where the client named nothing.
    """

    response: bytes
    subprotocol: str | None


def accept_handshake(
    head: RequestHead, spoken: str, secure: bool, allowed_origins: Iterable[str] = ()
) -> Accepted:
    """Check a request that opens a websocket.

    Extensions that are offered are never taken up: that needs no answer. They may be offered in
    several headers, but each must be written as it has to be.

    Args:
        head: The request's head.
        spoken: The one subprotocol.
        secure: Whether the request came over TLS.
        allowed_origins: See :func:`oni.carriers.origin_is_allowed`.

    Raises:
        BadHeadError: It does not open one: something is missing, wrong, or there twice (400); it
            is for another version of the websocket protocol (426), or of HTTP (505); has another
            method than GET (405); comes from a page of another site (403).
    """
    if head.method != b"GET":
        raise BadHeadError(405, "the method is not GET", b"Allow: GET\r\n")
    if head.minor != 1:
        raise BadHeadError(505, "HTTP 1.0")
    if b"#" in head.target:
        raise BadHeadError(400, "the target has a fragment")
    host = _only(head, b"host")
    if _HOST.fullmatch(host) is None:
        raise BadHeadError(400, "the host's port is no number")
    if b"upgrade" not in head.headers:
        raise BadHeadError(426, "no upgrade", _UPGRADE)
    if not head.lists(b"upgrade", b"websocket"):
        raise BadHeadError(400, "an upgrade to something else")
    if not head.lists(b"connection", b"upgrade"):
        raise BadHeadError(400, "the connection is not to be upgraded")
    version = _only(head, b"sec-websocket-version")
    if version != b"13":
        if _VERSION.fullmatch(version) is None:
            raise BadHeadError(400, "the version is no number")
        raise BadHeadError(426, "another version", b"Sec-WebSocket-Version: 13\r\n" + _UPGRADE)
    subprotocol = _choose(head, spoken)
    if b"origin" in head.headers:
        _check_origin(_only(head, b"origin"), host, secure, allowed_origins)
    key = _only(head, b"sec-websocket-key")
    if _KEY.fullmatch(key) is None:
        raise BadHeadError(400, "the key is not 16 bytes in Base64")
    for offered in head.values(b"sec-websocket-extensions"):
        if _EXTENSIONS.fullmatch(offered) is None:
            raise BadHeadError(400, "extensions that cannot be read")
    answer = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    named = b"" if subprotocol is None else b"Sec-WebSocket-Protocol: %b\r\n" % spoken.encode()
    return Accepted(_RESPONSE % (named, answer), subprotocol)


def _only(head: RequestHead, name: bytes) -> bytes:
    """Give the value of a header that must be there once."""
    values = head.headers.get(name, ())
    if len(values) != 1:
        raise BadHeadError(400, f"{len(values)} headers {name.decode()}")
    return values[0]


def _choose(head: RequestHead, spoken: str) -> str | None:
    """Choose the subprotocol, where the client names any."""
    if b"sec-websocket-protocol" not in head.headers:
        return None
    named = head.items(b"sec-websocket-protocol")
    if len(set(named)) < len(named):
        raise BadHeadError(400, "a subprotocol is named twice")
    if spoken.encode() not in named:
        raise BadHeadError(400, "no subprotocol that is spoken")
    return spoken


def _check_origin(origin: bytes, host: bytes, secure: bool, allowed: Iterable[str]) -> None:
    text = origin.decode("latin-1")
    if not is_origin(text):
        raise BadHeadError(400, "the origin is no site's")
    if not origin_is_allowed(text, host.decode("latin-1"), secure, allowed):
        raise BadHeadError(403, "the origin is not allowed")
