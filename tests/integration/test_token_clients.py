"""Tokens, their refresh and permissions, with the unmodified clients against a real daemon.

Both clients do the same. What they tell has one form: that of the puppet, ``{"kind": ...}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from oni.server.auth import make_token
from tests.integration.clients import bare, needs_centrifuge, needs_websockets
from tests.integration.daemon import RunningDaemon, daemon
from tests.integration.test_npm_clients import Puppet, puppet
from tests.integration.test_npm_clients import pytestmark as needs_npm
from tests.integration.test_python_clients import run, until

SECRET = "not much of a mystery, as tests have it"

SETTINGS = """\
[server]
listen = ["tcp:{port}:interface=127.0.0.1"]
[auth]
hmac_secret_file = "secret"
issuer = "tests"
[api]
key = "{key}"
[channels.chat]
subscribe = true
publish = "subscriber"
history_size = 10
history_ttl = 60
read_history = "subscriber"
presence = true
[channels.private]
subscribe = "token"
publish = false
[app]
configure = "application:configure"
"""

# What is to end soon ends so long after its beginning: no test has to be quick for that.
APPLICATION = """
from msgspec.structs import replace
from oni.server import Identity


def by_cookie(act):
    known = act.handshake is not None and act.handshake.cookies.get("session") == "b0b"
    return Identity(user="bob") if known else None


def configure(oni):
    oni.authenticate(by_cookie)
    heard = []

    def shorten(act):
        if act.data == "short" or act.channel == "private:short":
            act.grant = replace(act.grant, ttl=1)

    def note(act):
        if act.action in ("connect", "refresh", "subscribe", "sub_refresh"):
            heard.append([act.action, act.user, act.refusal.code if act.refusal else 0])

    oni.dispatcher.add_event_handler(shorten, "before", action="connect")
    oni.dispatcher.add_event_handler(shorten, "before", action="subscribe")
    oni.dispatcher.add_event_handler(note, "after")
    oni.answer("rpc", lambda act: [h for h in heard if h[1] == act.user], "heard")
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Run one daemon for all tests; each has users of its own."""
    folder = tmp_path_factory.mktemp("daemon")
    modules = {"application.py": APPLICATION, "secret": SECRET}
    with daemon(folder, SETTINGS, modules=modules) as found:
        yield found


def token(user: str, ttl: float = 600, **claims: Any) -> str:
    """Make a token."""
    return make_token(SECRET, user, ttl=ttl, issuer="tests", **claims)


class Driven(Protocol):
    """A client that a test drives."""

    events: list[dict[str, Any]]

    def all(self, kind: str, **members: Any) -> list[dict[str, Any]]:
        """Give the events of a kind."""

    async def next(self, kind: str, number: int = 1, **members: Any) -> dict[str, Any]:
        """Wait for so many events of a kind, and give the last of them."""

    def subscribe(self, channel: str, tokens: list[str] | None = None) -> None:
        """Begin to subscribe."""

    async def code(self, method: str, channel: str) -> int:
        """Do something on a channel that was subscribed to; give the error's code or 0."""

    async def heard(self) -> list[list[Any]]:
        """Ask which acts the server has heard of this user, each with its refusal."""


class NpmClient:
    """The client from npm, in a process of its own."""

    def __init__(self, found: Puppet) -> None:
        self._puppet = found
        self.events = found.events
        self.all, self.next = found.all, found.next

    def subscribe(self, channel: str, tokens: list[str] | None = None) -> None:
        """Begin to subscribe."""
        options = {} if tokens is None else {"tokens": tokens}
        self._puppet.do("subscribe", channel=channel, options=options)

    async def code(self, method: str, channel: str) -> int:
        """Do something on a channel that was subscribed to; give the error's code or 0."""
        args = {"publish": ["x"], "history": [{"limit": 1}]}.get(method, [])
        answer = await self._puppet.call(method, *args, channel=channel)
        return int(answer.get("error", {}).get("code", 0))

    async def heard(self) -> list[list[Any]]:
        """Ask which acts the server has heard of this user."""
        answer = await self._puppet.call("rpc", "heard", None)
        return list(answer["answer"]["data"])


class PythonClient:
    """The client from PyPI."""

    def __init__(self, address: str, tokens: list[str], data: Any) -> None:
        from centrifuge import Client, ClientEventHandler

        self.events: list[dict[str, Any]] = []
        tell, self._subscriptions = self._tell, dict[str, Any]()

        class Hear(ClientEventHandler):  # type: ignore[misc]
            async def on_connected(self, ctx: Any) -> None:
                tell("connected", id=ctx.client)

            async def on_connecting(self, ctx: Any) -> None:
                tell("connecting", code=ctx.code)

            async def on_disconnected(self, ctx: Any) -> None:
                tell("disconnected", code=ctx.code)

            async def on_publication(self, ctx: Any) -> None:
                tell("server_publication", channel=ctx.channel, data=ctx.pub.data)

        async def get_token() -> str:
            tell("token")
            return tokens.pop(0) if tokens else ""

        self.client = Client(
            address,
            Hear(),
            proxy=None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
            get_token=get_token,
            data=data,
        )

    def _tell(self, kind: str, **members: Any) -> None:
        self.events.append({"kind": kind, **members})

    def all(self, kind: str, **members: Any) -> list[dict[str, Any]]:
        """Give the events of a kind."""
        return [
            event
            for event in self.events
            if event["kind"] == kind and members.items() <= event.items()
        ]

    async def next(self, kind: str, number: int = 1, **members: Any) -> dict[str, Any]:
        """Wait for so many events of a kind, and give the last of them."""
        await until(lambda: len(self.all(kind, **members)) >= number, f"{number} {kind}", 20)
        return self.all(kind, **members)[number - 1]

    def subscribe(self, channel: str, tokens: list[str] | None = None) -> None:
        """Begin to subscribe."""
        from centrifuge import SubscriptionEventHandler

        tell = self._tell

        class Hear(SubscriptionEventHandler):  # type: ignore[misc]
            async def on_subscribed(self, ctx: Any) -> None:
                tell("subscribed", channel=channel)

            async def on_subscribing(self, ctx: Any) -> None:
                tell("subscribing", channel=channel, code=ctx.code)

            async def on_unsubscribed(self, ctx: Any) -> None:
                tell("unsubscribed", channel=channel, code=ctx.code)

            async def on_publication(self, ctx: Any) -> None:
                tell("publication", channel=channel, data=ctx.pub.data)

        async def get_token(channel: str) -> str:
            tell("subscription_token", channel=channel)
            return tokens.pop(0) if tokens else ""

        self._subscriptions[channel] = self.client.new_subscription(
            channel,
            Hear(),
            get_token=None if tokens is None else get_token,
            min_resubscribe_delay=0.05,
            max_resubscribe_delay=0.2,
        )
        self._task = asyncio.ensure_future(self._subscriptions[channel].subscribe())

    async def code(self, method: str, channel: str) -> int:
        """Do something on a channel that was subscribed to; give the error's code or 0."""
        from centrifuge import ReplyError

        args: dict[str, Any] = {"publish": {"data": "x"}, "history": {"limit": 1}}.get(method, {})
        try:
            await getattr(self._subscriptions[channel], method)(**args)
        except ReplyError as error:
            return int(error.code)
        return 0

    async def heard(self) -> list[list[Any]]:
        """Ask which acts the server has heard of this user."""
        return list((await self.client.rpc("heard", None)).data)


@asynccontextmanager
async def python_client(address: str, tokens: list[str], data: Any) -> AsyncIterator[Driven]:
    """Connect the client from PyPI, while the block runs."""
    found = PythonClient(address, tokens, data)
    await found.client.connect()
    try:
        yield found
    finally:
        await found.client.disconnect()


@asynccontextmanager
async def npm_client(address: str, tokens: list[str], data: Any) -> AsyncIterator[Driven]:
    """Connect the client from npm, while the block runs."""
    async with puppet(address, tokens=tokens, data=data) as found:
        yield NpmClient(found)


@pytest.fixture(
    params=[
        pytest.param(python_client, id="python", marks=needs_centrifuge),
        pytest.param(npm_client, id="npm", marks=needs_npm),
    ]
)
def come(request: pytest.FixtureRequest, running: RunningDaemon) -> Any:
    """Give what connects one of the clients."""

    def connect(*tokens: str, data: Any = "long") -> AbstractAsyncContextManager[Driven]:
        found: AbstractAsyncContextManager[Driven] = request.param(
            running.websocket, list(tokens), data
        )
        return found

    return connect


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """Name a user that no other test has."""
    return request.node.name.replace("[", "-").rstrip("]")  # type: ignore[no-any-return]


def test_connect_and_server_subscriptions(come: Any, user: str, running: RunningDaemon) -> None:
    """A token lets a client in as its user, and the server subscribes it to what it names."""

    async def scenario() -> None:
        channel = f"private:{user}"
        async with come(token(user, channels=[channel])) as client:
            await client.next("connected")
            running.publish(channel, {"for": user})
            told = await client.next("server_publication", channel=channel)
            assert told["data"] == {"for": user}
            assert await client.heard() == [["connect", user, 0]]

    run(scenario)


def test_wrong_token(come: Any, user: str) -> None:
    """A wrong token keeps a client away for good."""

    async def scenario() -> None:
        async with come(make_token(SECRET[::-1], user), token(user)) as client:
            assert (await client.next("disconnected"))["code"] == 101
            assert (len(client.all("token")), client.all("connected")) == (1, [])

    run(scenario)


def test_expired_at_connect(come: Any, user: str) -> None:
    """With an expired token a client gets another one, and comes back."""

    async def scenario() -> None:
        async with come(token(user, -60), token(user)) as client:
            await client.next("connected")
            assert len(client.all("token")) == 2
            assert client.all("disconnected") == []

    run(scenario)


def test_refresh(come: Any, user: str) -> None:
    """When its time is over, a client refreshes its token on the open connection."""

    async def scenario() -> None:
        async with come(token(user), token(user), data="short") as client:
            await client.next("token", 2)
            while len(await client.heard()) < 2:
                await asyncio.sleep(0.05)
            assert await client.heard() == [["connect", user, 0], ["refresh", user, 0]]
            assert (len(client.all("connected")), client.all("disconnected")) == (1, [])

    run(scenario)


def test_refresh_with_an_expired_token(come: Any, user: str) -> None:
    """A client that refreshes with an expired token is back at once, with another one."""

    async def scenario() -> None:
        async with come(token(user), token(user, -60), token(user), data="short") as client:
            await client.next("connected", 2)
            assert client.all("connecting")[-1]["code"] == 3005
            assert len(client.all("token")) == 3
            assert client.all("disconnected") == []

    run(scenario)


def test_subscription_token(come: Any, user: str, running: RunningDaemon) -> None:
    """A subscription token opens its channel; an expired one is replaced by another."""

    async def scenario() -> None:
        channel = f"private:{user}"
        async with come(token(user)) as client:
            await client.next("connected")
            tokens = [token(user, -60, channel=channel), token(user, channel=channel)]
            client.subscribe(channel, tokens)
            await client.next("subscribed", channel=channel)
            assert len(client.all("subscription_token")) == 2
            running.publish(channel, "hello")
            assert (await client.next("publication", channel=channel))["data"] == "hello"

    run(scenario)


def test_subscription_refresh(come: Any, user: str) -> None:
    """When its time is over, a client refreshes its subscription, which goes on."""

    async def scenario() -> None:
        channel = "private:short"
        async with come(token(user)) as client:
            await client.next("connected")
            client.subscribe(channel, [token(user, channel=channel) for _ in range(2)])
            await client.next("subscription_token", 2)
            while len(await client.heard()) < 3:
                await asyncio.sleep(0.05)
            assert (await client.heard())[1:] == [["subscribe", user, 0], ["sub_refresh", user, 0]]
            assert len(client.all("subscribed")) == 1
            assert client.all("unsubscribed") == []

    run(scenario)


def test_subscription_refresh_with_an_expired_token(come: Any, user: str) -> None:
    """A client that refreshes with an expired token subscribes again, with another one."""

    async def scenario() -> None:
        channel = "private:short"
        async with come(token(user)) as client:
            await client.next("connected")
            good, old = token(user, channel=channel), token(user, -60, channel=channel)
            client.subscribe(channel, [good, old, good, good])
            await client.next("subscribed", 2)
            assert [event["code"] for event in client.all("subscribing")][1:] == [2501]
            assert len(client.all("subscription_token")) == 3
            assert client.all("unsubscribed") == []

    run(scenario)


def test_permissions(come: Any, user: str) -> None:
    """What the settings do not allow is answered with error 103, and the client gives up."""

    async def scenario() -> None:
        async with come(token(user)) as client:
            await client.next("connected")
            other = f"private:{user}"
            for channel, tokens in (
                ("private:none", None),
                ("private:wrong", [token(user, channel=other)]),
                ("private:else", [token("alice", channel="private:else")]),
                ("chat:inbox#alice", None),
            ):
                client.subscribe(channel, tokens)
                assert (await client.next("unsubscribed", channel=channel))["code"] == 103
            mine = f"chat:inbox#alice,{user}"
            for channel, tokens, publish in (
                (mine, None, 0),
                (other, [token(user, channel=other)], 103),
            ):
                client.subscribe(channel, tokens)
                await client.next("subscribed", channel=channel)
                assert await client.code("publish", channel) == publish
            assert await client.code("history", mine) == 0
            assert await client.code("presence", mine) == 0
            assert await client.code("history", other) == 108

    run(scenario)


@needs_websockets
def test_cookie(running: RunningDaemon) -> None:
    """A cookie lets its user in from the daemon's own pages, and from nowhere else."""
    cookie = {"Cookie": "session=b0b"}
    with bare(running, connect=False, additional_headers=cookie, origin=running.address) as own:
        assert "connect" in own.ask(id=1, connect={})
        heard = own.ask(id=2, rpc={"method": "heard"})["rpc"]["data"]
        assert heard == [["connect", "bob", 0]]
    with bare(running, connect=False, additional_headers=cookie) as pageless:
        assert pageless.ask(id=1, connect={})["error"]["code"] == 101
        assert pageless.closed_with() == (3500, "invalid token")


def test_no_token_in_the_log(running: RunningDaemon) -> None:
    """Neither tokens nor the secret are written down, wherever they came."""
    good, other = token("carol"), token("carol", channel="private:carol")
    for path, status in (
        (f"/connection/sse/private:nobody?token={good}&subscription_token={other}", 403),
        (f"/connection/sse/chat:a?token={good[:-4]}", 401),
        (f"/nothing?token={good}", 404),
    ):
        assert running.request("GET", path)[0] == status
    log = running.log()
    for text in (SECRET, good[:-4], other[:-4], good.split(".")[2][:20], "token="):
        assert text not in log
