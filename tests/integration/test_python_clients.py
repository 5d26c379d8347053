"""The unmodified ``centrifuge-python`` client against a real daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.clients import needs_centrifuge
from tests.integration.daemon import KEY, OPEN, RunningDaemon, daemon
from tests.integration.proxy import Proxy, proxy

pytestmark = needs_centrifuge

KEPT = (
    OPEN
    + """
history_size = 2000
history_ttl = 300
presence = true
join_leave = true
[channels.few]
history_size = 5
ring_entries = 2
[app]
configure = "application:configure"
"""
)

APPLICATION = """
from oni.errors import Refused
from oni.server import Grant


def configure(oni):
    def greet(act):
        if act.data and act.data.get("refuse"):
            raise Refused(4000, "not you")
        act.grant = Grant(
            info={"name": "Bob"},
            data={"hello": "you"},
            channels=["server:own"] if act.data and act.data.get("own") else [],
        )

    def add(act):
        return act.data["a"] + act.data["b"]

    oni.dispatcher.add_event_handler(greet, "before", False, action="connect")
    oni.answer("rpc", add, method="add")
"""

SETTINGS = KEPT + "[channels.server]\nhistory_size = 2000\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Run one daemon for all tests; each has channels of its own."""
    folder = tmp_path_factory.mktemp("daemon")
    with daemon(
        folder, SETTINGS, modules={"application.py": APPLICATION}, tracebacks=True
    ) as found:
        yield found


class Heard:
    """A subscription, and everything that it has told.

    Attributes:
        subscription: The client's own.
        offsets: Of the publications, in the order of their coming.
        data: Their data.
        subscribed: The contexts of each time that it was subscribed.
        left: The contexts of each time that it was unsubscribed, or had to subscribe again.
        joins, leaves: Who came and went.
    """

    def __init__(self, client: Any, channel: str, **options: Any) -> None:
        from centrifuge import SubscriptionEventHandler

        found = self

        class Hear(SubscriptionEventHandler):  # type: ignore[misc]
            async def on_publication(self, ctx: Any) -> None:
                found.offsets.append(ctx.pub.offset)
                found.data.append(ctx.pub.data)
                found.publications.append(ctx.pub)

            async def on_subscribed(self, ctx: Any) -> None:
                found.subscribed.append(ctx)

            async def on_subscribing(self, ctx: Any) -> None:
                found.left.append(ctx)

            async def on_unsubscribed(self, ctx: Any) -> None:
                found.left.append(ctx)

            async def on_join(self, ctx: Any) -> None:
                found.joins.append(ctx.info.client)

            async def on_leave(self, ctx: Any) -> None:
                found.leaves.append(ctx.info.client)

        self.offsets: list[int] = []
        self.data: list[Any] = []
        self.publications: list[Any] = []
        self.subscribed: list[Any] = []
        self.left: list[Any] = []
        self.joins: list[str] = []
        self.leaves: list[str] = []
        self.subscription = client.new_subscription(
            channel, Hear(), min_resubscribe_delay=0.05, max_resubscribe_delay=0.2, **options
        )

    async def begin(self) -> Heard:
        """Subscribe, and wait for it."""
        await self.subscription.subscribe()
        await asyncio.wait_for(self.subscription.ready(), 10)
        return self


class Connected:
    """A client, and what it has told."""

    def __init__(self, address: str, **options: Any) -> None:
        from centrifuge import Client, ClientEventHandler

        found = self

        class Hear(ClientEventHandler):  # type: ignore[misc]
            async def on_connected(self, ctx: Any) -> None:
                found.connected.append(ctx)

            async def on_connecting(self, ctx: Any) -> None:
                found.left.append(ctx)

            async def on_disconnected(self, ctx: Any) -> None:
                found.left.append(ctx)

            async def on_publication(self, ctx: Any) -> None:
                found.publications.append((ctx.channel, ctx.pub.data))

            async def on_subscribed(self, ctx: Any) -> None:
                found.subscribed.append(ctx)

            async def on_unsubscribed(self, ctx: Any) -> None:
                found.unsubscribed.append(ctx.channel)

        self.connected: list[Any] = []
        self.left: list[Any] = []
        self.publications: list[tuple[str, Any]] = []
        self.subscribed: list[Any] = []
        self.unsubscribed: list[str] = []
        self.client = Client(
            address,
            Hear(),
            proxy=None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
            **options,
        )

    async def hear(self, channel: str, **options: Any) -> Heard:
        """Subscribe to a channel."""
        return await Heard(self.client, channel, **options).begin()


@asynccontextmanager
async def connected(address: str, **options: Any) -> AsyncIterator[Connected]:
    """Connect, while the block runs."""
    found = Connected(address, **options)
    await found.client.connect()
    try:
        await until(lambda: found.connected or found.left[1:], "the connect")
        yield found
    finally:
        await found.client.disconnect()


async def until(true: Callable[[], Any], what: str, within: float = 15.0) -> None:
    """Wait until something is true."""
    for _ in range(int(within / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what}: not within {within:g} s")


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario to its end."""
    asyncio.run(scenario())


def api(running: RunningDaemon, method: str, **body: Any) -> Any:
    """Call the HTTP API."""
    status, answer, _ = running.request(
        "POST", f"/api/{method}", json.dumps(body).encode(), {"X-API-Key": KEY}
    )
    assert status == 200, answer
    return json.loads(answer)


def publish_many(running: RunningDaemon, channel: str, numbers: range) -> None:
    """Publish numbers, many in one request."""
    commands = [{"publish": {"channel": channel, "data": number}} for number in numbers]
    for start in range(0, len(commands), 500):
        answer = api(running, "batch", commands=commands[start : start + 500])
        assert all("publish" in reply for reply in answer["replies"])


def test_publish_history_presence(running: RunningDaemon) -> None:
    """A client publishes, pages through the history, and sees who is there."""

    async def scenario() -> None:
        async with connected(running.websocket) as one, connected(running.websocket) as two:
            assert one.connected[0].data == {"hello": "you"}
            heard = await one.hear("basics", join_leave=True)
            other = await two.hear("basics")
            for number in range(5):
                await other.subscription.publish({"n": number})
            await until(lambda: len(heard.data) == 5, "the publications")
            assert heard.offsets == [1, 2, 3, 4, 5]
            info = heard.publications[0].info
            assert (info.client, info.conn_info) == (two.connected[0].client, {"name": "Bob"})

            page = await heard.subscription.history(limit=2)
            assert [pub.data["n"] for pub in page.publications] == [0, 1]
            since = _position(page.publications[-1].offset, page.epoch)
            page = await heard.subscription.history(limit=10, since=since)
            assert [pub.data["n"] for pub in page.publications] == [2, 3, 4]
            page = await heard.subscription.history(limit=2, reverse=True)
            assert [pub.data["n"] for pub in page.publications] == [4, 3]
            page = await heard.subscription.history()
            assert (page.offset, page.publications) == (5, [])
            page = await heard.subscription.history(limit=-1)
            assert len(page.publications) == 5

            presence = await heard.subscription.presence()
            ids = {one.connected[0].client, two.connected[0].client}
            assert set(presence.clients) == ids
            stats = await heard.subscription.presence_stats()
            assert (stats.num_clients, stats.num_users) == (2, 1)
            assert heard.joins == [two.connected[0].client]
            await other.subscription.unsubscribe()
            await until(lambda: heard.leaves, "the leave")
            assert heard.leaves == heard.joins
            assert other.joins == []

    run(scenario)


def test_rpc(running: RunningDaemon) -> None:
    """The application answers an rpc; the server's own publishes with an event's name."""

    async def scenario() -> None:
        from centrifuge import ReplyError

        async with connected(running.websocket) as one:
            heard = await one.hear("rpcs")
            assert (await one.client.rpc("add", {"a": 2, "b": 3})).data == 5
            with pytest.raises(ReplyError) as refused:
                await one.client.rpc("nothing", {})
            assert refused.value.code == 104
            with pytest.raises(ReplyError) as failed:
                await one.client.rpc("add", {"a": 2})
            assert (failed.value.code, failed.value.temporary) == (100, True)
            at = await one.client.rpc(
                "oni.publish", {"channel": "rpcs", "event": "order_placed", "data": {"id": 7}}
            )
            assert at.data["offset"] == 1
            await until(lambda: heard.data, "the publication")
            assert heard.publications[0].tags == {"event": "order_placed"}

    run(scenario)
    assert "KeyError" in running.log()


def test_recover_without_an_event(running: RunningDaemon) -> None:
    """A client that never heard anything gets what it missed while it was cut off."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, connected(wire.websocket) as one:
            heard = await one.hear("early")
            assert heard.subscribed[0].recoverable
            assert heard.subscribed[0].positioned
            assert heard.subscribed[0].stream_position.offset == 0
            wire.cut()
            await asyncio.to_thread(publish_many, running, "early", range(10))
            await until(lambda: len(heard.data) == 10, "the missed ones")
            assert heard.offsets == list(range(1, 11))
            assert (heard.subscribed[-1].was_recovering, heard.subscribed[-1].recovered) == (
                True,
                True,
            )

    run(scenario)


def test_recover_a_thousand(running: RunningDaemon) -> None:
    """A thousand are missed, the replay itself is cut several times, and each arrives once."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, connected(wire.websocket) as one:
            heard = await one.hear("thousand")
            await asyncio.to_thread(publish_many, running, "thousand", range(3))
            await until(lambda: len(heard.data) == 3, "the first")
            await _miss(wire, lambda: publish_many(running, "thousand", range(3, 1003)))
            await asyncio.to_thread(publish_many, running, "thousand", range(1003, 1010))
            await until(lambda: len(heard.data) >= 1010, "all of them", 30)
            assert heard.data == list(range(1010))
            assert heard.offsets == list(range(1, 1011))
            assert wire.connections >= 4
            again = heard.subscribed[1:]
            assert all(ctx.recovered for ctx in again)
            positions = [ctx.stream_position.offset for ctx in again]
            assert positions == sorted(positions)
            assert len({at for at in positions if 3 < at < 1003}) >= 2, positions

    run(scenario)


async def _miss(wire: Proxy, publish: Callable[[], None]) -> None:
    """Cut the wire while something is published, and then a few times in the replay."""
    wire.budget = 0
    wire.cut()
    await asyncio.to_thread(publish)
    for size in (9_000, 20_000, 14_000):
        wire.budget = size
        await until(lambda: wire.budget is None, "a cut")


def test_gap(running: RunningDaemon) -> None:
    """Where not all that was missed is kept, the client learns it and gets none of it."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, connected(wire.websocket) as one:
            heard = await one.hear("few:a")
            wire.cut()
            await asyncio.to_thread(publish_many, running, "few:a", range(8))
            await until(lambda: len(heard.subscribed) == 2, "the subscribe")
            again = heard.subscribed[-1]
            assert (again.was_recovering, again.recovered) == (True, False)
            assert again.stream_position.offset == 8
            await asyncio.to_thread(publish_many, running, "few:a", range(8, 9))
            await until(lambda: heard.data, "the next")
            assert heard.data == [8]

    run(scenario)


def test_filter(running: RunningDaemon) -> None:
    """A subscription with a filter hears only what fits, and recovers only that."""

    async def scenario() -> None:
        from centrifuge import Filter

        async with proxy(running.port) as wire, connected(wire.websocket) as one:
            heard = await one.hear("filtered", tags_filter=Filter.eq("event", "wanted"))

            def publish(number: int, event: str) -> None:
                running.publish("filtered", number, event)

            for number in range(4):
                await asyncio.to_thread(publish, number, ("wanted", "other")[number % 2])
            await until(lambda: len(heard.data) == 2, "the wanted")
            wire.cut()
            for number in range(4, 8):
                await asyncio.to_thread(publish, number, ("wanted", "other")[number % 2])
            await until(lambda: len(heard.data) >= 4, "the missed")
            assert heard.data == [0, 2, 4, 6]
            assert heard.subscribed[-1].recovered

    run(scenario)


def test_server_side(running: RunningDaemon) -> None:
    """The server subscribes a client at its connect and later; it recovers, and ends it again."""

    async def scenario() -> None:
        async with (
            proxy(running.port) as wire,
            connected(wire.websocket, data={"own": True}) as one,
        ):
            assert [ctx.channel for ctx in one.subscribed] == ["server:own"]
            await asyncio.to_thread(publish_many, running, "server:own", range(2))
            await until(lambda: len(one.publications) == 2, "the first")
            wire.cut()
            await asyncio.to_thread(publish_many, running, "server:own", range(2, 700))
            await until(lambda: len(one.publications) >= 700, "the missed")
            assert one.publications == [("server:own", number) for number in range(700)]
            assert one.subscribed[-1].recovered

            client = one.connected[-1].client
            order = {"user": "", "client": client, "channel": "server:more"}
            await asyncio.to_thread(api, running, "subscribe", **order, data={"why": "so"})
            await until(lambda: one.subscribed[-1].channel == "server:more", "the subscribe")
            assert one.subscribed[-1].data == {"why": "so"}
            await asyncio.to_thread(publish_many, running, "server:more", range(1))
            await until(lambda: one.publications[-1] == ("server:more", 0), "the publication")
            await asyncio.to_thread(api, running, "unsubscribe", **order)
            await until(lambda: one.unsubscribed == ["server:more"], "the unsubscribe")

    run(scenario)


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [(3000, True), (3499, True), (3500, False), (4000, True), (4999, False)],
)
def test_close_codes(running: RunningDaemon, code: int, comes_back: bool) -> None:
    """A client comes back or stays away, as the close code says."""

    async def scenario() -> None:
        async with connected(running.websocket) as one:
            client = one.connected[0].client
            farewell = {"code": code, "reason": "a test"}
            await asyncio.to_thread(
                api, running, "disconnect", user="", client=client, disconnect=farewell
            )
            await until(lambda: len(one.left) >= 2, "the close")
            assert (one.left[1].code, one.left[1].reason) == (code, "a test")
            if comes_back:
                await until(lambda: len(one.connected) == 2, "the connect")
            else:
                await asyncio.sleep(0.4)
                assert len(one.connected) == 1

    run(scenario)


def test_unsubscribe_codes(running: RunningDaemon) -> None:
    """Unsubscribed by the server, a client does not subscribe again."""

    async def scenario() -> None:
        async with connected(running.websocket) as one:
            heard = await one.hear("ended")
            client = one.connected[0].client
            await asyncio.to_thread(
                api, running, "unsubscribe", user="", client=client, channel="ended"
            )
            await until(lambda: len(heard.left) >= 2, "the unsubscribe")
            assert (heard.left[1].code, heard.left[1].reason) == (2000, "server unsubscribe")
            await asyncio.sleep(0.3)
            assert len(heard.subscribed) == 1

    run(scenario)


def test_refused(running: RunningDaemon) -> None:
    """A refused connect ends the client, a refused subscribe the subscription."""

    async def scenario() -> None:
        found = Connected(running.websocket, data={"refuse": True})
        await found.client.connect()
        await until(lambda: len(found.left) >= 2, "the refusal")
        assert (found.left[1].code, found.left[1].reason) == (4000, "not you")
        assert not found.connected

        async with connected(running.websocket) as one:
            heard = Heard(one.client, "nowhere:x")
            await heard.subscription.subscribe()
            await until(lambda: len(heard.left) >= 2, "the refusal")
            assert heard.left[1].code == 102

    run(scenario)


def _position(offset: int, epoch: str) -> Any:
    from centrifuge import StreamPosition

    return StreamPosition(offset=offset, epoch=epoch)
