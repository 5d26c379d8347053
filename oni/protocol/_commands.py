"""What a client may ask for, as typed values."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw, Struct

__all__ = [
    "Command",
    "Connect",
    "NotAvailable",
    "NotFound",
    "Ping",
    "Pong",
    "Publish",
    "Send",
    "Subscribe",
    "Unsubscribe",
]

_NULL = Raw(b"null")


class Connect(Struct, frozen=True):
    """Open the session. It must be the first command.

    Attributes:
        id: The command's id.
        token: Who the client is, ``""`` for nobody.
        data: What the client wants to say about itself, JSON.
        name: The client's kind.
        version: The client's version.
    """

    id: int
    token: str = ""
    data: Raw = _NULL
    name: str = ""
    version: str = ""


class Subscribe(Struct, frozen=True):
    """Hear a channel.

    Attributes:
        id: The command's id.
        channel: The channel's name.
        token: A permission for this channel.
        recover: Whether the client wants what it missed since ``epoch`` and ``offset``.
        epoch: The life of the stream that the client knows.
        offset: Where in it the client stands.
        data: What the client wants to say about the subscription, JSON.
    """

    id: int
    channel: str
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = _NULL


class Unsubscribe(Struct, frozen=True):
    """Hear a channel no more.

    Attributes:
        id: The command's id.
        channel: The channel's name.
    """

    id: int
    channel: str


class Publish(Struct, frozen=True):
    """Give data to a channel's subscribers.

    Attributes:
        id: The command's id.
        channel: The channel's name.
        data: The data: checked JSON, as it came.
    """

    id: int
    channel: str
    data: Raw


class Ping(Struct, frozen=True):
    """A question that is answered at once.

    Attributes:
        id: The command's id.
    """

    id: int


class Send(Struct, frozen=True):
    """A message that gets no reply.

    Attributes:
        data: The message, JSON.
    """

    data: Raw


class Pong(Struct, frozen=True):
    """The client's answer to the server's ping, ``{}``."""


class NotAvailable(Struct, frozen=True):
    """A command that the protocol has and this server does not offer.

    Attributes:
        id: The command's id.
        method: Its name.
    """

    id: int
    method: str


class NotFound(Struct, frozen=True):
    """A command without a method that the protocol knows.

    Attributes:
        id: The command's id.
    """

    id: int


Command: TypeAlias = (
    Connect | Subscribe | Unsubscribe | Publish | Ping | Send | Pong | NotAvailable | NotFound
)
