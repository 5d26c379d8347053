"""From results and publications to the bytes that a client understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

__all__ = [
    "PING",
    "ConnectResult",
    "SubscribeResult",
    "encode_error",
    "encode_publication",
    "encode_reply",
]

#: What the server sends to ask whether the client is there; it answers with the same.
PING = b"{}"


class ConnectResult(Struct, frozen=True, omit_defaults=True):
    """What a client is told about its session.

    Attributes:
        client: The session's id.
        version: The server's kind.
        ping: Seconds between the server's pings, 0 for none.
        pong: Whether the client must answer them.
        data: What the application wants to tell, JSON.
    """

    client: str
    version: str = ""
    ping: int = 0
    pong: bool = False
    data: Any = None


class SubscribeResult(Struct, frozen=True, omit_defaults=True):
    """What a client is told about its subscription.

    Attributes:
        recoverable: Whether the client may ask for what it missed.
        positioned: Whether the server watches that nothing is missed.
        epoch: The life of the stream.
        offset: After which publication the client hears everything.
        was_recovering: Whether the client asked for what it missed.
        recovered: Whether it gets all of that.
        data: What the application wants to tell, JSON.
    """

    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    data: Any = None


class _Error(Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    temporary: bool = False


class _Publication(Struct, frozen=True, omit_defaults=True):
    data: Any
    offset: int = 0
    tags: Mapping[str, str] = {}
    info: Any = None


_encode = msgspec.json.encode


def encode_reply(command_id: int, method: str, result: Struct | None = None) -> bytes:
    """Encode the answer to a command that succeeded.

    Args:
        command_id: The command's id.
        method: The command's name, under which the result stands.
        result: What there is to tell, None for nothing.
    """
    return _encode({"id": command_id, method: {} if result is None else result})


def encode_error(command_id: int, code: int, message: str, temporary: bool = False) -> bytes:
    """Encode the answer to a command that failed."""
    return _encode({"id": command_id, "error": _Error(code, message, temporary)})


def encode_publication(
    channel: str,
    data: bytes,
    offset: int = 0,
    tags: Mapping[str, str] | None = None,
    info: Any = None,
) -> bytes:
    """Encode a publication as a push.

    Args:
        channel: The channel's name.
        data: The data, JSON already.
        offset: Where it stands in its channel, 0 for nowhere.
        tags: Its tags.
        info: Who published it, where a client did.
    """
    if b"\n" in data:
        # Line feeds separate messages. Within JSON they are only ever space between tokens.
        data = data.replace(b"\n", b" ")
    publication = _Publication(Raw(data), offset, tags or {}, info)
    return _encode({"push": {"channel": channel, "pub": publication}})
