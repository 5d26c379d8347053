"""A whole Oni on a clock, and clients that speak to it byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Channels
from oni.server import Oni, make_factory
from oni.server._admin_settings import AdminSettings
from oni.server._settings import (
    ApiSettings,
    AuthSettings,
    ChannelRules,
    ChannelsSettings,
    DispatcherSettings,
    ServerSettings,
    Settings,
)
from oni.values import Position
from tests.carriers import wire

_TURNS = 4  # of the reactor, in which what was begun has left
KEY = "a key of many characters"
NOW = 1_700_000_000.0
OPEN = ChannelRules(publish=True, subscribe=True)
KEPT = ChannelRules(
    publish=True,
    subscribe=True,
    history_size=2000,
    history_ttl=300.0,
    presence=True,
    join_leave=True,
)


class Wire(StringTransport):
    """A transport that remembers how it ended, and takes a producer's pauses as a socket does."""

    aborted = False

    def abortConnection(self) -> None:
        """Remember, and end."""
        self.aborted = True
        self.disconnecting = True

    def pauseProducing(self) -> None:
        """Pause, however often."""
        self.producerState = "paused"

    def resumeProducing(self) -> None:
        """Resume, however often."""
        self.producerState = "producing"

    def stopProducing(self) -> None:
        """Stop."""
        self.producerState = "stopped"

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take one producer at a time."""
        super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Let it go, however often."""
        self.producer = None


class Client:
    """A client of the factory's."""

    def __init__(self, case: HouseTestCase) -> None:
        self.reactor = case.reactor
        self.protocol = case.factory.buildProtocol(None)
        self.transport = Wire()
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        self.number = 0

    def send(self, data: bytes) -> None:
        """Send bytes, and let a turn of the reactor pass."""
        self.protocol.dataReceived(data)
        self.reactor.advance(0)

    def take(self) -> bytes:
        """Give what the server has sent since the last time."""
        for _ in range(_TURNS):
            self.reactor.advance(0)
        data = self.transport.value()
        self.transport.clear()
        return data

    def vanish(self) -> None:
        """End the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class WebSocketClient(Client):
    """A client that has a websocket."""

    def __init__(self, case: HouseTestCase, **headers: str) -> None:
        super().__init__(case)
        self.send(wire.upgrade(**headers))
        self.response, rest = wire.split_response(self.take())
        assert not rest

    def command(self, method: str, /, **members: Any) -> int:
        """Send a command, and give its id."""
        self.number += 1
        self.send(wire.command(id=self.number, **{method: members}))
        return self.number

    def messages(self) -> list[Any]:
        """Give the messages that have come since the last time."""
        return wire.messages(self.take())

    def ask(self, method: str, /, **members: Any) -> Any:
        """Send a command and give its reply: the result, or the error."""
        number = self.command(method, **members)
        (reply,) = (message for message in self.messages() if message.get("id") == number)
        return reply.get("error") or reply[method]


class HouseTestCase(SynchronousTestCase):
    """An Oni where anonymous clients may connect, chat and only listen to the news."""

    server = ServerSettings()
    anonymous = True
    auth: AuthSettings | None = None
    namespaces: Mapping[str, ChannelRules] = {}
    dispatcher = DispatcherSettings()
    admin = AdminSettings()

    def setUp(self) -> None:
        """Build and start it."""
        self.reactor = MemoryReactorClock()
        self.settings = Settings(
            server=self.server,
            auth=self.auth or AuthSettings(anonymous=self.anonymous),
            api=ApiSettings(key=KEY),
            admin=self.admin,
            channels=ChannelsSettings(
                defaults=OPEN,
                namespaces={
                    "news": ChannelRules(subscribe=True),
                    "log": ChannelRules(publish=True),
                    "typed": msgspec.structs.replace(OPEN, event_from="type"),
                    "kept": KEPT,
                    "few": msgspec.structs.replace(KEPT, history_size=3, ring_entries=2),
                    **self.namespaces,
                },
            ),
            dispatcher=self.dispatcher,
        )
        self.channels = Channels(options=self.settings.stream_of, reactor=self.reactor)
        self.oni = Oni(self.settings, self.reactor, channels=self.channels, now=self.now)
        self.successResultOf(self.oni.start())
        self.factory = make_factory(self.oni, self.reactor)
        self.idle = self.reactor.getDelayedCalls()  # what is there without any client

    def now(self) -> float:
        """Give the time of day."""
        return NOW + self.reactor.seconds()

    def on(self, phase: str, handler: Any, **match_spec: Any) -> None:
        """Register a handler."""
        add = self.oni.dispatcher.add_event_handler
        self.successResultOf(add(handler, phase, use_weakref=False, **match_spec))

    def top(self, channel: str) -> Position:
        """Say where a channel's newest publication stands."""
        page = self.successResultOf(self.channels.get(channel).history(0))
        top: Position = page.top
        return top

    def websocket(self) -> WebSocketClient:
        """Open a websocket."""
        return WebSocketClient(self)

    def connected(self) -> WebSocketClient:
        """Open a websocket, and connect."""
        client = self.websocket()
        client.ask("connect")
        return client

    def http(
        self,
        body: bytes | str = b"",
        method: str = "POST",
        path: str = "/api/publish",
        **headers: str,
    ) -> tuple[int, Any]:
        """Send a request to a new connection; give the status and the JSON that came back."""
        return self.answer_of(self.request(body, method, path, **headers))

    def request(
        self,
        body: bytes | str = b"",
        method: str = "POST",
        path: str = "/api/publish",
        **headers: str,
    ) -> Client:
        """Send a request to a new connection."""
        if isinstance(body, str):
            body = body.encode()
        given = {"Host": "localhost:8000", "Content-Length": str(len(body)), **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        client = Client(self)
        client.send("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1"))
        if body:
            client.send(body)
        return client

    def answer_of(self, client: Client) -> tuple[int, Any]:
        """Read status and body of a response."""
        head, body = wire.split_response(client.take())
        status = int(head.split(b" ")[1])
        return status, json.loads(body) if b"application/json" in head else body
