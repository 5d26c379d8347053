"""From results and publications to the bytes that a client understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from oni.interfaces import IEntry
from oni.values import ClientInfo

__all__ = [
    "PING",
    "ConnectResult",
    "HistoryResult",
    "PresenceResult",
    "PresenceStatsResult",
    "PublicationResult",
    "RefreshResult",
    "RpcResult",
    "SubscribeResult",
    "encode_error",
    "encode_join",
    "encode_leave",
    "encode_message",
    "encode_publication",
    "encode_publication_of",
    "encode_refresh",
    "encode_reply",
    "encode_subscribe",
    "encode_unsubscribe",
    "publication_result",
]

#: What the server sends to ask whether the client is there; it answers with the same.
PING = b"{}"


class PublicationResult(Struct, frozen=True, omit_defaults=True):
    """A publication, as clients are told.

    Attributes:
        data: The data, JSON.
        offset: Where it stands in its channel, 0 for nowhere.
        tags: Its tags.
        info: Who published it, where a client did.
    """

    data: Any
    offset: int = 0
    tags: Mapping[str, str] = {}
    info: ClientInfo | None = None


class SubscribeResult(Struct, frozen=True, omit_defaults=True):
    """What a client is told about its subscription.

    Attributes:
        expires: Whether the subscription ends by itself unless it is refreshed.
        ttl: Seconds until then.
        recoverable: Whether the client may ask for what it missed.
        positioned: Whether the server watches that nothing is missed.
        epoch: The life of the stream.
        offset: After which publication the client hears everything.
        publications: What the client missed, oldest first.
        was_recovering: Whether the client asked for what it missed.
        recovered: Whether it gets all of that.
        data: What the application wants to tell, JSON.
    """

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    publications: Sequence[PublicationResult] = ()
    was_recovering: bool = False
    recovered: bool = False
    data: Any = None


class ConnectResult(Struct, frozen=True, omit_defaults=True):
    """What a client is told about its session.

    Attributes:
        client: The session's id.
        version: The server's kind.
        expires: Whether the session ends by itself unless it is refreshed.
        ttl: Seconds until then.
        data: What the application wants to tell, JSON.
        subs: The channels to which the server has subscribed it.
        ping: Seconds between the server's pings, 0 for none.
        pong: Whether the client must answer them.
    """

    client: str
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: Any = None
    subs: Mapping[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False


class HistoryResult(Struct, frozen=True):
    """A page of what was published.

    Attributes:
        publications: The publications.
        epoch: The life of the stream.
        offset: Where the newest publication stands.
    """

    publications: Sequence[PublicationResult]
    epoch: str
    offset: int


class PresenceResult(Struct, frozen=True):
    """Who is subscribed.

    Attributes:
        presence: Everybody, by session.
    """

    presence: Mapping[str, ClientInfo]


class PresenceStatsResult(Struct, frozen=True):
    """How many are subscribed.

    Attributes:
        num_clients: How many sessions.
        num_users: How many users.
    """

    num_clients: int
    num_users: int


class RpcResult(Struct, frozen=True):
    """What the application answers.

    Attributes:
        data: The answer, JSON.
    """

    data: Any = None


class RefreshResult(Struct, frozen=True, omit_defaults=True):
    """For how long a session or a subscription goes on.

    Attributes:
        expires: Whether it ends by itself unless it is refreshed.
        ttl: Seconds until then.
        client: The session's id, where it is about a session.
        version: The server's kind, where it is about a session.
    """

    expires: bool = False
    ttl: int = 0
    client: str = ""
    version: str = ""


class _Error(Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    temporary: bool = False


class _Subscribed(Struct, frozen=True, omit_defaults=True):
    """What a client is told of a subscription that the server has made."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Any = None


_json = msgspec.json.encode


def _encode(message: Any) -> bytes:
    """Encode one message on one line: line feeds separate messages.

    The encoder itself makes none. JSON that is there already may hold some, and within JSON they
    are only ever space between tokens.
    """
    encoded = _json(message)
    return encoded.replace(b"\n", b" ") if b"\n" in encoded else encoded


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


def publication_result(entry: IEntry) -> PublicationResult:
    """Tell of a publication. The event's name travels as the tag ``event``."""
    tags = {**entry.tags, "event": entry.event}
    return PublicationResult(Raw(entry.data), entry.position.offset, tags, entry.info)


def encode_publication(
    channel: str,
    data: bytes,
    offset: int = 0,
    tags: Mapping[str, str] | None = None,
    info: ClientInfo | None = None,
) -> bytes:
    """Encode a publication as a push.

    Args:
        channel: The channel's name.
        data: The data, JSON already.
        offset: Where it stands in its channel, 0 for nowhere.
        tags: Its tags.
        info: Who published it, where a client did.
    """
    return encode_publication_of(channel, PublicationResult(Raw(data), offset, tags or {}, info))


def encode_publication_of(channel: str, publication: PublicationResult) -> bytes:
    """Encode a publication that is told of already, as a push."""
    return _push(channel, "pub", publication)


def encode_join(channel: str, who: ClientInfo) -> bytes:
    """Encode that somebody has subscribed, as a push."""
    return _push(channel, "join", {"info": who})


def encode_leave(channel: str, who: ClientInfo) -> bytes:
    """Encode that somebody is subscribed no more, as a push."""
    return _push(channel, "leave", {"info": who})


def encode_subscribe(channel: str, result: SubscribeResult) -> bytes:
    """Encode that the server has subscribed the client, as a push."""
    told = _Subscribed(
        result.recoverable, result.epoch, result.offset, result.positioned, result.data
    )
    return _push(channel, "subscribe", told)


def encode_unsubscribe(channel: str, code: int, reason: str) -> bytes:
    """Encode that the server has ended a subscription, as a push."""
    return _push(channel, "unsubscribe", {"code": code, "reason": reason})


def encode_message(data: Any) -> bytes:
    """Encode something that belongs to no channel, as a push."""
    return _encode({"push": {"message": {"data": data}}})


def encode_refresh(ttl: int | None) -> bytes:
    """Encode for how many seconds the session goes on, as a push; None: for ever."""
    told: dict[str, Any] = {} if ttl is None else {"expires": True, "ttl": ttl}
    return _encode({"push": {"refresh": told}})


def _push(channel: str, kind: str, content: Any) -> bytes:
    return _encode({"push": {"channel": channel, kind: content}})
