"""Clients that do not read, and networks that carry nothing: it is noticed, and repaired."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.test.iosim import FakeTransport, IOPump

from oni.channels import Channels
from oni.server import Oni, make_factory
from oni.server._settings import ApiSettings, AuthSettings, ChannelsSettings, Settings
from tests.carriers import wire
from tests.integration.clients import needs_centrifuge
from tests.integration.daemon import CROWDED, KEY, OPEN, RunningDaemon, daemon
from tests.integration.listeners import Listener
from tests.integration.proxy import proxy
from tests.integration.raw import Frames, Publisher, replies
from tests.server.house import KEPT as KEPT_RULES
from tests.server.house import OPEN as OPEN_RULES
from tests.server.house import HouseTestCase, WebSocketClient

# --- A client that reads slowly or not at all: a manual transport, and a clock -------------------

RULES = ChannelsSettings(
    defaults=OPEN_RULES,
    namespaces={
        "kept": KEPT_RULES,
        "latest": msgspec.structs.replace(OPEN_RULES, behind="latest"),
        "strict": msgspec.structs.replace(OPEN_RULES, behind="disconnect", max_lag=10.0),
    },
)


def publications(messages: Sequence[dict[str, Any]]) -> list[int]:
    """Give the offsets of the publications among these."""
    pushes = (message.get("push", {}) for message in messages)
    return [push["pub"]["offset"] for push in pushes if "pub" in push]


def pushes_of(messages: Sequence[dict[str, Any]], kind: str) -> list[Any]:
    """Give the pushes of a kind."""
    return [message["push"][kind] for message in messages if kind in message.get("push", {})]


class RulesTestCase(HouseTestCase):
    """An Oni with a namespace for each policy."""

    def setUp(self) -> None:
        """Build and start it."""
        self.reactor = MemoryReactorClock()
        self.settings = Settings(
            auth=AuthSettings(anonymous=True), api=ApiSettings(key=KEY), channels=RULES
        )
        self.channels = Channels(options=self.settings.stream_of, reactor=self.reactor)
        self.oni = Oni(self.settings, self.reactor, channels=self.channels)
        self.successResultOf(self.oni.start())
        self.factory = make_factory(self.oni, self.reactor)

    def publish(self, channel: str, first: int, last: int) -> None:
        """Publish, with a turn of the reactor after each hundred."""
        for number in range(first, last + 1):
            self.channels.get(channel).publish("message", "x" * 100)
            if number % 100 == 0:
                self.reactor.advance(0)
        self.reactor.advance(0)


class SlowClientTests(RulesTestCase):
    """F7: a client whose transport asks to pause, beside one that reads."""

    def listen(self, channel: str) -> WebSocketClient:
        """Connect a client and subscribe it."""
        client = self.connected()
        client.ask("subscribe", channel=channel)
        return client

    def drained(self, client: WebSocketClient) -> list[Any]:
        """Let a client read until nothing more comes; give everything."""
        found: list[Any] = []
        while messages := client.messages():
            found += messages
        return found

    def pause(self, client: WebSocketClient) -> None:
        """Let its transport be full."""
        assert client.transport.producer is not None
        client.transport.producer.pauseProducing()

    def resume(self, client: WebSocketClient) -> None:
        """Let its transport be empty again."""
        client.transport.producer.resumeProducing()

    def test_history_has_it(self) -> None:
        """Nothing is written for it meanwhile; then it gets all, in order, from the history."""
        slow, quick = self.listen("kept:1"), self.listen("kept:1")
        self.pause(slow)
        self.publish("kept:1", 1, 1500)
        self.assertEqual(publications(self.drained(quick)), list(range(1, 1501)))
        self.assertEqual(slow.take(), b"")
        self.resume(slow)
        self.publish("kept:1", 1501, 1510)
        self.assertEqual(publications(self.drained(slow)), list(range(1, 1511)))

    def test_pauses_anywhere(self) -> None:
        """However often it pauses, it gets each publication once, in order."""
        slow, choose, found = self.listen("kept:1"), random.Random(SEED), []
        for first in range(1, 1500, 50):
            self.publish("kept:1", first, first + 49)
            choose.choice((self.pause, self.resume))(slow)
            found += slow.messages()
        self.resume(slow)
        found += self.drained(slow)
        self.assertEqual(publications(found), list(range(1, 1501)))

    def test_told_of_the_gap(self) -> None:
        """Without history it is told of the gap, hears nothing behind it, and begins anew."""
        slow, quick = self.listen("plain"), self.listen("plain")
        epoch = self.top("plain").epoch
        self.publish("plain", 1, 5)
        self.assertEqual(publications(self.drained(slow)), [1, 2, 3, 4, 5])
        self.pause(slow)
        self.publish("plain", 6, 1500)
        self.assertEqual(publications(self.drained(quick)), list(range(1, 1501)))
        self.resume(slow)
        messages = self.drained(slow)
        self.assertEqual(publications(messages), [])
        self.assertEqual([left["code"] for left in pushes_of(messages, "unsubscribe")], [2500])
        answer = slow.ask("subscribe", channel="plain", recover=True, epoch=epoch, offset=5)
        self.assertEqual((answer.get("recovered", False), answer["offset"]), (False, 1500))
        self.assertNotIn("publications", answer)
        self.publish("plain", 1501, 1501)
        self.assertEqual(publications(self.drained(slow)), [1501])

    def test_latest(self) -> None:
        """Where only the newest counts, it gets that, and no word of the others."""
        slow = self.listen("latest:1")
        self.pause(slow)
        self.publish("latest:1", 1, 1500)
        self.resume(slow)
        messages = self.drained(slow)
        self.assertEqual(publications(messages), [1500])
        self.assertEqual(pushes_of(messages, "unsubscribe"), [])

    def test_disconnected(self) -> None:
        """Where nobody may lag, it is disconnected as slow, and the others are not."""
        slow, quick = self.listen("strict:1"), self.listen("strict:1")
        self.pause(slow)
        heard = 0
        for second in range(16):
            self.publish("strict:1", second * 10 + 1, second * 10 + 10)
            heard += len(publications(self.drained(quick)))
            self.reactor.advance(1)
        self.assertEqual(heard, 160)
        self.assertEqual(wire.close_of(slow.take()), (3008, "slow"))
        self.reactor.advance(5)
        self.assertTrue(slow.transport.aborted)
        self.assertFalse(quick.transport.aborted)

    def test_stuck(self) -> None:
        """Who reads nothing any more is found out within 35 s, and then cut off."""
        slow = self.listen("kept:1")
        self.pause(slow)
        for _ in range(35):
            self.publish("kept:1", 1, 10)
            self.reactor.advance(1)
        self.assertEqual(self.oni.statistics()["sessions"], 0)
        self.assertEqual(wire.close_of(slow.take()), (3008, "slow"))
        self.reactor.advance(5)
        self.assertTrue(slow.transport.aborted)

    def test_slow_is_not_dead(self) -> None:
        """Who reads a little now and then stays, for as long as it does."""
        slow = self.listen("kept:1")
        for _ in range(30):
            self.pause(slow)
            self.publish("kept:1", 1, 50)
            self.reactor.advance(8)
            self.resume(slow)
            slow.take()
        self.assertFalse(slow.transport.disconnecting)
        self.assertEqual(self.oni.statistics()["sessions"], 1)


# --- A network that carries nothing --------------------------------------------------------------


class ModelClient(Protocol):
    """A client as the protocol's page describes it, on a clock.

    It answers pings, and gives a connection up when the next ping is ten seconds late.
    """

    def __init__(self, clock: Any, channel: str, since: Any = None) -> None:
        self.heard: list[int] = []
        self.answer: dict[str, Any] = {}
        self.given_up_at: float | None = None
        self._clock = clock
        self._subscribe = {"channel": channel, **(since or {})}
        self._is_upgraded = False
        self._head = b""
        self._frames = Frames()
        self._seconds = 0.0
        self._timer: IDelayedCall | None = None

    @property
    def position(self) -> dict[str, Any]:
        """Where it stands, as it would ask for the rest."""
        offset = self.heard[-1] if self.heard else self.answer.get("offset", 0)
        return {"recover": True, "epoch": self.answer["epoch"], "offset": offset}

    def connectionMade(self) -> None:
        """Ask for everything."""
        self.transport.write(wire.upgrade())
        self.transport.write(wire.command(id=1, connect={}))
        self.transport.write(wire.command(id=2, subscribe=self._subscribe))

    def dataReceived(self, data: bytes) -> None:
        """Take what comes."""
        if not self._is_upgraded:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            self._is_upgraded = True
            data = wire.split_response(self._head)[1]
        for message in replies(self._frames.feed(data)):
            self._take(message)
        if self._timer is not None:
            self._timer.reset(self._seconds)

    def _take(self, message: dict[str, Any]) -> None:
        if not message:
            self.transport.write(wire.frame("{}"))
        elif "connect" in message:
            assert message["connect"]["pong"]
            self._seconds = message["connect"]["ping"] + 10
            self._timer = self._clock.callLater(self._seconds, self._give_up)
        elif "subscribe" in message:
            self.answer = message["subscribe"]
            for publication in self.answer.get("publications", ()):
                self.heard.append(publication["offset"])
        else:
            self.heard += publications([message])

    def _give_up(self) -> None:
        self.given_up_at = self._clock.seconds()
        self.transport.abortConnection()


class PartitionTests(RulesTestCase):
    """F8: neither side hears anything, and neither is told."""

    def link(self, channel: str, since: Any = None) -> tuple[ModelClient, IOPump]:
        """Connect a client; nothing passes but by the pump."""
        client = ModelClient(self.reactor, channel, since)
        server = self.factory.buildProtocol(None)
        ours, theirs = FakeTransport(server, True), FakeTransport(client, False)
        server.makeConnection(ours)
        client.makeConnection(theirs)
        return client, IOPump(client, server, theirs, ours, False, clock=self.reactor)

    def pass_time(self, seconds: float, pump: IOPump | None) -> None:
        """Let time pass, and with a pump everything that is sent."""
        for _ in range(int(seconds * 10)):
            self.reactor.advance(0.1)
            if pump is not None:
                pump.pump()

    def cut_at(self, seconds: float) -> None:
        """Cut the link so many seconds after the connect; heal it when both have noticed."""
        channel = f"kept:{seconds}"
        client, pump = self.link(channel)
        self.pass_time(0.2, pump)
        self.publish(channel, 1, 3)
        self.pass_time(seconds, pump)
        self.assertEqual(client.heard, [1, 2, 3])
        self.assertEqual(self.oni.statistics()["sessions"], 1)
        cut = self.reactor.seconds()
        noticed = None
        for _ in range(360):
            self.publish(channel, 1, 1)
            self.pass_time(0.1, None)
            if noticed is None and not self.oni.statistics()["sessions"]:
                noticed = self.reactor.seconds()
        self.assertIsNotNone(noticed, "the server did not notice")
        self.assertIsNotNone(client.given_up_at, "the client did not notice")
        assert noticed is not None and client.given_up_at is not None
        self.assertLessEqual(noticed - cut, 35.1)
        self.assertLessEqual(client.given_up_at - cut, 35.1)
        again, pump = self.link(channel, client.position)
        self.pass_time(0.5, pump)
        self.assertTrue(again.answer["recovered"])
        self.publish(channel, 1, 1)
        self.pass_time(0.5, pump)
        self.assertEqual(client.heard + again.heard, list(range(1, 365)))
        pump.server.transport.loseConnection()
        self.pass_time(0.5, pump)

    def test_noticed_and_recovered(self) -> None:
        """Within 35 s both know, wherever between two pings it began; and nothing is missing."""
        for seconds in (0.1, 12.0, 24.5, 25.1, 26.0):
            self.cut_at(seconds)

    def test_healed_in_time(self) -> None:
        """A short one is not noticed by anybody: what was sent meanwhile arrives."""
        client, pump = self.link("kept:1")
        self.pass_time(20, pump)
        self.pass_time(9, None)
        self.publish("kept:1", 1, 20)
        self.pass_time(60, pump)
        self.assertIsNone(client.given_up_at)
        self.assertEqual(client.heard, list(range(1, 21)))
        self.assertEqual(self.oni.statistics()["sessions"], 1)


QUICK = "[server]\nping_interval = 1\npong_timeout = 0.8\n" + OPEN.partition("[server]\n")[2]


@needs_centrifuge
def test_partition_on_real_sockets(tmp_path: Path) -> None:
    """The same with the unmodified Python client, a real daemon and a wire that carries nothing.

    With a ping each second and 0.8 s for the answer, both sides know after 1.8 s.
    """
    kept = "history_size = 100\nhistory_ttl = 300\npresence = true\n"
    with daemon(tmp_path, QUICK + kept) as running:
        asyncio.run(_partition(running))


async def _partition(running: RunningDaemon) -> None:
    from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

    heard: list[int] = []
    recovered: list[bool] = []
    lost = asyncio.Event()

    class Watch(ClientEventHandler):  # type: ignore[misc]
        async def on_connecting(self, ctx: Any) -> None:
            if recovered:
                lost.set()

    class Hear(SubscriptionEventHandler):  # type: ignore[misc]
        async def on_publication(self, ctx: Any) -> None:
            heard.append(ctx.pub.offset)

        async def on_subscribed(self, ctx: Any) -> None:
            recovered.append(ctx.recovered)

    async def until(true: Callable[[], Any], within: float) -> None:
        end = asyncio.get_running_loop().time() + within
        while not true():
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.02)

    publisher = Publisher(running)

    def present() -> Any:
        return publisher.call("presence_stats", b'{"channel": "cut"}')["result"]["num_clients"]

    async with proxy(running.port) as link:
        client = Client(
            link.websocket,
            Watch(),
            proxy=None,
            max_server_ping_delay=0.8,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
            timeout=0.5,
        )
        subscription = client.new_subscription("cut", Hear())
        await client.connect()
        await subscription.subscribe()
        await asyncio.wait_for(subscription.ready(), 10)
        publisher.publish([{"channel": "cut", "data": 1}])
        await until(lambda: heard == [1], 5)
        link.hold()
        publisher.publish({"channel": "cut", "data": number} for number in range(2, 12))
        await until(lambda: not present() and lost.is_set(), 4)
        assert heard == [1]
        link.release()
        await until(lambda: len(heard) == 11, 10)
        assert heard == list(range(1, 12))
        assert recovered == [False, True]
        await client.disconnect()
    publisher.close()


# --- Random disconnects --------------------------------------------------------------------------

LISTENERS = 50
PUBLICATIONS = 20_000
BATCH = 40
PUBLISHING = 12.0  # seconds, about
SEED = 4003
KEPT = ("kept:1", "kept:2")
SHORT = ("short:1", "short:2")

SETTINGS = (
    CROWDED
    + """
[channels.kept]
history_size = 10000
history_ttl = 300
ring_entries = 64
[channels.short]
history_size = 100
history_ttl = 300
ring_entries = 32
"""
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningDaemon]:
    """Run a daemon."""
    with daemon(tmp_path, SETTINGS) as found:
        yield found


async def publish_all(running: RunningDaemon, channels: tuple[str, ...]) -> int:
    """Publish on all channels in turns; give how many there are on each."""
    publisher = Publisher(running)
    loop = asyncio.get_running_loop()
    start, each = loop.time(), PUBLICATIONS // len(channels)
    numbers = [(channel, n) for n in range(1, each + 1) for channel in channels]
    for first in range(0, len(numbers), BATCH):
        commands = [
            {"channel": channel, "data": {"n": n, "text": "x" * 1000}}
            for channel, n in numbers[first : first + BATCH]
        ]
        await asyncio.to_thread(publisher.publish, commands)
        await asyncio.sleep(start + PUBLISHING * first / PUBLICATIONS - loop.time())
    publisher.close()
    return each


async def disturb(running: RunningDaemon) -> tuple[list[Listener], Counter[str], int]:
    """Let listeners hear everything, and suffer meanwhile."""
    tally: Counter[str] = Counter()
    choose = random.Random(SEED)
    listeners = [
        Listener(running.port, (choose.choice(KEPT), choose.choice(SHORT)), SEED + number, tally)
        for number in range(LISTENERS)
    ]
    lives = [asyncio.ensure_future(one.run()) for one in listeners]
    try:
        await asyncio.wait_for(asyncio.gather(*(one.subscribed.wait() for one in listeners)), 20)
        last = await publish_all(running, KEPT + SHORT)
        for one in listeners:
            one.is_disturbed = False
        end = asyncio.get_running_loop().time() + 20
        while any(at.offset < last for one in listeners for at in one.accounts.values()):
            assert asyncio.get_running_loop().time() < end, "some did not get to the end"
            for life in lives:
                if life.done():
                    life.result()  # what it found wrong
            await asyncio.sleep(0.05)
    finally:
        for life in lives:
            life.cancel()
        outcomes = await asyncio.gather(*lives, return_exceptions=True)
    for outcome in outcomes:
        if not isinstance(outcome, asyncio.CancelledError):
            raise AssertionError("a listener found something wrong") from outcome
    return listeners, tally, last


def test_no_silent_gap(running: RunningDaemon) -> None:
    """50 clients are cut off, half-closed and paused at random during 20,000 publications.

    What each hears of a channel is 1, 2, ... N without gap or duplicate, or it was told of the
    gap: with ``recovered: false``, and the position after which it goes on.
    """
    listeners, tally, last = asyncio.run(disturb(running))
    assert last * 4 == PUBLICATIONS
    for one in listeners:
        for channel, account in one.accounts.items():
            assert account.offset == last
            if channel in KEPT:
                assert account.gaps == 0, "it was all in the history"
    assert min(tally[kind] for kind in ("kill", "half-close", "pause", "pause and kill")) >= 10
    assert tally["recovered"] >= 50
    assert tally["not recovered"] >= 5
