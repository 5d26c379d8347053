"""What a client may ask for, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Raw, Struct

from oni.protocol._filters import TagsFilter

__all__ = [
    "Command",
    "Connect",
    "History",
    "NotAvailable",
    "NotFound",
    "Ping",
    "Pong",
    "Presence",
    "PresenceCount",
    "Publish",
    "Refresh",
    "Rpc",
    "Send",
    "Since",
    "SubRefresh",
    "Subscribe",
    "Unsubscribe",
]

_NULL = Raw(b"null")


class Since(Struct, frozen=True):
    """Where a client stands in a channel, as it says.

    Attributes:
        offset: The offset of the last publication that it knows.
        epoch: The life of the stream, ``""`` if it does not know it.
    """

    offset: int = 0
    epoch: str = ""


class Connect(Struct, frozen=True):
    """Open the session. It must be the first command.

    Attributes:
        id: The command's id.
        token: Who the client is, ``""`` for nobody.
        data: What the client wants to say about itself, JSON.
        name: The client's kind.
        version: The client's version.
        headers: What a client says that can set no HTTP headers.
        subs: Where it stands in channels to which the server subscribes it, where it wants what
            it missed.
    """

    id: int
    token: str = ""
    data: Raw = _NULL
    name: str = ""
    version: str = ""
    headers: Mapping[str, str] = {}
    subs: Mapping[str, Since] = {}


class Subscribe(Struct, frozen=True):
    """Hear a channel.

    Attributes:
        id: The command's id.
        channel: The channel's name.
        token: A permission for this channel.
        since: Where the client stands, where it wants what it missed; None else.
        data: What the client wants to say about the subscription, JSON.
        positioned: Whether the client wants the server to watch that nothing is missed.
        recoverable: Whether the client wants to be able to ask for what it will have missed.
        join_leave: Whether the client wants to hear who comes and goes.
        filter: Which publications are wanted, by tags; None for all.
        rejects_gap: Whether the client wants an error where it cannot get all that it missed.
    """

    id: int
    channel: str
    token: str = ""
    since: Since | None = None
    data: Raw = _NULL
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    filter: TagsFilter | None = None
    rejects_gap: bool = False


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


class History(Struct, frozen=True):
    """Give what was published.

    Attributes:
        id: The command's id.
        channel: The channel's name.
        limit: How many publications at most; 0 for the position only, below 0 for as many as the
            server gives at once.
        since: After which position; None from the beginning, or in reverse from the end.
        reverse: Whether the newest comes first.
    """

    id: int
    channel: str
    limit: int = 0
    since: Since | None = None
    reverse: bool = False


class Presence(Struct, frozen=True):
    """Say who is subscribed.

    Attributes:
        id: The command's id.
        channel: The channel's name.
    """

    id: int
    channel: str


class PresenceCount(Struct, frozen=True):
    """Say how many are subscribed.

    Attributes:
        id: The command's id.
        channel: The channel's name.
    """

    id: int
    channel: str


class Rpc(Struct, frozen=True):
    """Ask the application.

    Attributes:
        id: The command's id.
        method: What for.
        data: With what: checked JSON, as it came.
    """

    id: int
    method: str
    data: Raw


class Refresh(Struct, frozen=True):
    """Stay connected for longer.

    Attributes:
        id: The command's id.
        token: Who the client is.
    """

    id: int
    token: str


class SubRefresh(Struct, frozen=True):
    """Stay subscribed for longer.

    Attributes:
        id: The command's id.
        channel: The channel's name.
        token: The permission for it.
    """

    id: int
    channel: str
    token: str


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
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | History
    | Presence
    | PresenceCount
    | Rpc
    | Refresh
    | SubRefresh
    | Ping
    | Send
    | Pong
    | NotAvailable
    | NotFound
)
