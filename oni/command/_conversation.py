"""What a reader of channels says to a daemon, and understands of what it hears.

The Centrifugo client protocol from the client's side, without sockets and clocks: frames go in,
and what happened and what to answer comes out. It outlives connections, so that after each one it
knows where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from oni.values import Position

__all__ = [
    "Connected",
    "Conversation",
    "Ended",
    "Gap",
    "Happening",
    "NoOniError",
    "Published",
    "Refreshed",
    "Refused",
    "Subscribed",
]

_CONNECT = 1
_REFRESH = 2
_FIRST_CHANNEL = 10
_RESUBSCRIBES = 2500  # from this code on an unsubscribed client subscribes again


class NoOniError(Exception):
    """What came is not the protocol."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The session has begun.

    Attributes:
        ping: Seconds between the daemon's pings, 0 for none.
        ttl: Seconds until it must be refreshed, 0 for never.
    """

    ping: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The session goes on.

    Attributes:
        ttl: Seconds until it must be refreshed again, 0 for never.
    """

    ttl: float


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A channel is heard from here on.

    Attributes:
        channel: Which.
        position: Where it stands, or where we stand if more is to follow.
        again: Whether it was heard before, or from a given position on.
    """

    channel: str
    position: Position
    again: bool


@dataclass(frozen=True, slots=True)
class Published:
    """A publication.

    Attributes:
        channel: Where.
        position: At which place.
        tags: Its tags, the event's name among them.
        data: JSON.
    """

    channel: str
    position: Position
    tags: Mapping[str, str]
    data: Raw


@dataclass(frozen=True, slots=True)
class Gap:
    """It cannot be shown that nothing is missing.

    Attributes:
        channel: Where.
        since: Where we stood.
        position: After this everything is heard again.
    """

    channel: str
    since: Position
    position: Position


@dataclass(frozen=True, slots=True)
class Ended:
    """The daemon has ended a subscription for good.

    Attributes:
        channel: Which.
        code: Why.
        reason: Why, in words.
    """

    channel: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The daemon has refused something.

    Attributes:
        channel: What, ``""`` for the connection.
        code: Why.
        message: Why, in words.
        temporary: Whether the same may be granted later.
    """

    channel: str
    code: int
    message: str
    temporary: bool


Happening: TypeAlias = Connected | Refreshed | Subscribed | Published | Gap | Ended | Refused


class _Pub(Struct):
    data: Raw = Raw(b"null")
    offset: int = 0
    tags: dict[str, str] = {}


class _Unsubscribe(Struct):
    code: int = 0
    reason: str = ""


class _Push(Struct):
    channel: str = ""
    pub: _Pub | None = None
    unsubscribe: _Unsubscribe | None = None


class _Error(Struct):
    code: int = 0
    message: str = ""
    temporary: bool = False


class _Subscribe(Struct):
    epoch: str = ""
    offset: int = 0
    publications: list[_Pub] = []
    was_recovering: bool = False
    recovered: bool = False


class _Connect(Struct):
    ping: float = 0
    expires: bool = False
    ttl: float = 0
    subs: dict[str, _Subscribe] = {}


class _Message(Struct):
    id: int = 0
    push: _Push | None = None
    error: _Error | None = None
    connect: _Connect | None = None
    subscribe: _Subscribe | None = None
    refresh: _Connect | None = None


class Conversation:
    """Reads channels, connection after connection.

    Args:
        channels: Which, each with the position after which it is wanted, None for from now on.
        name: What the client calls itself.
        event: Only publications of this name are wanted.

    Attributes:
        positions: Where each channel that is still wanted stands.
    """

    def __init__(
        self, channels: Mapping[str, Position | None], name: str = "oni", event: str | None = None
    ) -> None:
        self.positions: dict[str, Position | None] = dict(channels)
        self._name = name
        self._event = event
        self._ids = {channel: _FIRST_CHANNEL + n for n, channel in enumerate(channels)}
        self._channels = {number: channel for channel, number in self._ids.items()}
        self._open: set[str] = set()

    def opened(self, token: str | None = None) -> bytes:
        """Begin on a new connection; give what to send."""
        self._open.clear()
        connect: dict[str, Any] = {"name": self._name}
        # It counts where the daemon subscribes by itself, as a token may want it.
        if since := {name: self._since(name) for name, at in self.positions.items() if at}:
            connect["subs"] = since
        if token is not None:
            connect["token"] = token
        return msgspec.json.encode({"id": _CONNECT, "connect": connect})

    def refresh(self, token: str) -> bytes:
        """Give what to send so that the session goes on."""
        return msgspec.json.encode({"id": _REFRESH, "refresh": {"token": token}})

    def subscribe(self, channels: Sequence[str]) -> bytes:
        """Give what to send to hear these channels from where they stand."""
        return b"\n".join(map(self._subscribe_to, channels))

    def received(self, frame: bytes) -> tuple[bytes, list[Happening]]:
        """Take a frame.

        Returns:
            What to send, maybe nothing, and what has happened.

        Raises:
            NoOniError: It is not the protocol.
        """
        answers: list[bytes] = []
        happened: list[Happening] = []
        for line in frame.splitlines():
            try:
                message = msgspec.json.decode(line, type=_Message)
            except msgspec.DecodeError as error:
                raise NoOniError(str(error)) from error
            self._take(message, answers, happened)
        return b"\n".join(answers), happened

    def _take(self, message: _Message, answers: list[bytes], happened: list[Happening]) -> None:
        if message.push is not None:
            self._pushed(message.push, answers, happened)
        elif message.error is not None:
            error = message.error
            channel = self._channels.get(message.id, "")
            happened.append(Refused(channel, error.code, error.message, error.temporary))
        elif message.connect is not None:
            told = message.connect
            happened.append(Connected(told.ping, told.ttl if told.expires else 0))
            subs = {name: sub for name, sub in told.subs.items() if name in self.positions}
            for name, sub in subs.items():
                self._subscribed(name, sub, happened)
            if missing := [name for name in self.positions if name not in subs]:
                answers.append(self.subscribe(missing))
        elif message.refresh is not None:
            told = message.refresh
            happened.append(Refreshed(told.ttl if told.expires else 0))
        elif message.subscribe is not None:
            channel = self._channels.get(message.id, "")
            if channel in self.positions:
                self._subscribed(channel, message.subscribe, happened)
        elif not message.id:
            answers.append(b"{}")  # a ping

    def _pushed(self, push: _Push, answers: list[bytes], happened: list[Happening]) -> None:
        channel = push.channel
        if push.pub is not None:
            self._published(channel, push.pub, happened)
        elif push.unsubscribe is not None and channel in self.positions:
            self._open.discard(channel)
            if push.unsubscribe.code >= _RESUBSCRIBES:
                answers.append(self.subscribe([channel]))
            else:
                self.forget(channel)
                told = push.unsubscribe
                happened.append(Ended(channel, told.code, told.reason))

    def _subscribed(self, channel: str, told: _Subscribe, happened: list[Happening]) -> None:
        stood = self.positions[channel]
        position = Position(told.epoch, told.offset)
        if told.was_recovering and not told.recovered and stood is not None:
            happened.append(Gap(channel, stood, position))
            self.positions[channel] = position
        elif told.publications:
            # They lead up to the position, so it is not ours before they are.
            self.positions[channel] = Position(told.epoch, 0 if stood is None else stood.offset)
        else:
            self.positions[channel] = position
        self._open.add(channel)
        happened.append(Subscribed(channel, position, stood is not None))
        for publication in told.publications:
            self._published(channel, publication, happened)
        self.positions[channel] = position

    def _published(self, channel: str, told: _Pub, happened: list[Happening]) -> None:
        stood = self.positions.get(channel)
        if channel not in self._open or stood is None:
            return
        position = Position(stood.epoch, told.offset)
        self.positions[channel] = position
        if self._event is None or told.tags.get("event", "message") == self._event:
            happened.append(Published(channel, position, told.tags, told.data))

    def forget(self, channel: str) -> None:
        """Want a channel no more."""
        del self.positions[channel]

    def _since(self, channel: str) -> dict[str, Any]:
        """Say from where on a channel is wanted; nothing for now."""
        stood = self.positions[channel]
        if stood is None:
            return {}
        return {"recover": True, "epoch": stood.epoch, "offset": stood.offset}

    def _subscribe_to(self, channel: str) -> bytes:
        wanted: dict[str, Any] = {"channel": channel, **self._since(channel)}
        if self._event is not None:
            wanted["tf"] = {"key": "event", "cmp": "eq", "val": self._event}
        return msgspec.json.encode({"id": self._ids[channel], "subscribe": wanted})
