"""The unmodified ``centrifuge`` client from npm, on node, against a real daemon."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import RunningDaemon, daemon
from tests.integration.proxy import proxy
from tests.integration.test_python_clients import (
    APPLICATION,
    SETTINGS,
    api,
    publish_many,
    run,
    until,
)

NODE = Path(__file__).parent / "node"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules" / "centrifuge").is_dir(),
    reason="node (apt-get install nodejs npm) or its modules (tools/node_modules.sh) are missing",
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Run one daemon for all tests; each has channels of its own."""
    folder = tmp_path_factory.mktemp("daemon")
    with daemon(folder, SETTINGS, modules={"application.py": APPLICATION}) as found:
        yield found


class Puppet:
    """A client in a process of its own.

    Attributes:
        events: Everything that it has told, in order.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.events.append(json.loads(line))

    def do(self, name: str, **members: Any) -> None:
        """Give it a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **members}).encode() + b"\n")

    def all(self, kind: str, **members: Any) -> list[dict[str, Any]]:
        """Give the events of a kind that have these members."""
        return [
            event
            for event in self.events
            if event["kind"] == kind and members.items() <= event.items()
        ]

    async def next(self, kind: str, number: int = 1, **members: Any) -> dict[str, Any]:
        """Wait for so many events of a kind, and give the last of them."""
        await until(lambda: len(self.all(kind, **members)) >= number, f"{number} {kind}", 20)
        return self.all(kind, **members)[number - 1]

    async def call(self, method: str, *args: Any, channel: str | None = None) -> Any:
        """Call a method of the client, or of a subscription; give what it answers."""
        number = len(self.all("answer")) + 1
        where = {} if channel is None else {"channel": channel}
        self.do("call", method=method, args=args, **where)
        return await self.next("answer", number)

    async def hear(self, channel: str, **options: Any) -> dict[str, Any]:
        """Subscribe; give what it is told."""
        self.do("subscribe", channel=channel, options=options)
        return await self.next("subscribed", channel=channel)

    def heard(self, channel: str) -> list[Any]:
        """Give the data of every publication, in the order of their coming."""
        return [event["data"] for event in self.all("publication", channel=channel)]

    async def end(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await self._listening


@asynccontextmanager
async def puppet(address: str, **options: Any) -> AsyncIterator[Puppet]:
    """Connect a client, while the block runs."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(NODE / "puppet.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    found = Puppet(process)
    try:
        found.do("connect", url=address, options=options)
        await found.next("connecting")
        yield found
    finally:
        await found.end()


def test_publish_history_presence(running: RunningDaemon) -> None:
    """A client publishes, pages through the history, sees who is there, and asks."""

    async def scenario() -> None:
        async with puppet(running.websocket) as one, puppet(running.websocket) as two:
            names = [(await each.next("connected"))["id"] for each in (one, two)]
            assert one.all("connected")[0]["data"] == {"hello": "you"}
            told = await one.hear("npm", joinLeave=True)
            assert (told["recoverable"], told["positioned"]) == (True, True)
            await two.hear("npm")
            for number in range(4):
                assert "error" not in await two.call("publish", {"n": number}, channel="npm")
            await one.next("publication", 4)
            assert [event["offset"] for event in one.all("publication")] == [1, 2, 3, 4]
            assert one.all("publication")[0]["info"]["client"] == names[1]

            page = (await one.call("history", {"limit": 3}, channel="npm"))["answer"]
            assert [pub["data"]["n"] for pub in page["publications"]] == [0, 1, 2]
            since = {"offset": 3, "epoch": page["epoch"]}
            options = {"limit": 10, "since": since}
            page = (await one.call("history", options, channel="npm"))["answer"]
            assert [pub["data"]["n"] for pub in page["publications"]] == [3]

            there = (await one.call("presence", channel="npm"))["answer"]["clients"]
            assert set(there) == set(names)
            assert there[names[1]]["connInfo"] == {"name": "Bob"}
            stats = (await one.call("presenceStats", channel="npm"))["answer"]
            assert stats == {"numClients": 2, "numUsers": 1}
            await two.call("unsubscribe", channel="npm")
            await one.next("leave", id=names[1])
            assert [event["id"] for event in one.all("join")] == [names[1]]

            answer = await one.call("rpc", "add", {"a": 1, "b": 2})
            assert answer["answer"] == {"data": 3}
            assert (await one.call("rpc", "nothing", {}))["error"]["code"] == 104
            # publishing without a subscription, several commands in one frame
            await one.call("publish", "npm", {"n": 4})
            await one.next("publication", 5)

    run(scenario)


def test_recover_without_an_event(running: RunningDaemon) -> None:
    """A client that never heard anything gets what it missed while it was cut off."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, puppet(wire.websocket) as one:
            await one.hear("npm_early")
            wire.cut()
            await asyncio.to_thread(publish_many, running, "npm_early", range(10))
            await one.next("publication", 10)
            assert one.heard("npm_early") == list(range(10))
            again = one.all("subscribed")[-1]
            assert (again["wasRecovering"], again["recovered"]) == (True, True)

    run(scenario)


@pytest.mark.timeout(120)
def test_recover_a_thousand(running: RunningDaemon) -> None:
    """A thousand are missed, the replay itself is cut several times, and each arrives once."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, puppet(wire.websocket) as one:
            await one.hear("npm_thousand")
            await asyncio.to_thread(publish_many, running, "npm_thousand", range(3))
            await one.next("publication", 3)
            wire.budget = 0
            wire.cut()
            await asyncio.to_thread(publish_many, running, "npm_thousand", range(3, 1003))
            for size in (9_000, 20_000, 14_000):
                wire.budget = size
                await until(lambda: wire.budget is None, "a cut")
            await asyncio.to_thread(publish_many, running, "npm_thousand", range(1003, 1010))
            await one.next("publication", 1010)
            assert one.heard("npm_thousand") == list(range(1010))
            offsets = [event["offset"] for event in one.all("publication")]
            assert offsets == list(range(1, 1011))
            again = one.all("subscribed")[1:]
            assert all(event["recovered"] for event in again)
            positions = [event["streamPosition"]["offset"] for event in again]
            assert len({at for at in positions if 3 < at < 1003}) >= 2, positions

    run(scenario)


def test_gap(running: RunningDaemon) -> None:
    """Where not all that was missed is kept, the client learns it and gets none of it."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, puppet(wire.websocket) as one:
            await one.hear("few:npm")
            wire.cut()
            await asyncio.to_thread(publish_many, running, "few:npm", range(8))
            again = await one.next("subscribed", 2)
            assert (again["wasRecovering"], again["recovered"]) == (True, False)
            assert again["streamPosition"]["offset"] == 8
            await asyncio.to_thread(publish_many, running, "few:npm", range(8, 9))
            await one.next("publication")
            assert one.heard("few:npm") == [8]

    run(scenario)


def test_server_side(running: RunningDaemon) -> None:
    """The server subscribes a client at its connect and later; it recovers, and ends it again."""

    async def scenario() -> None:
        async with proxy(running.port) as wire, puppet(wire.websocket, data={"own": True}) as one:
            await one.next("server_subscribed", channel="server:own")
            await asyncio.to_thread(publish_many, running, "server:own", range(2))
            await one.next("server_publication", 2)
            wire.cut()
            await asyncio.to_thread(publish_many, running, "server:own", range(2, 700))
            await one.next("server_publication", 700)
            heard = [event["data"] for event in one.all("server_publication")]
            assert heard == list(range(700))
            client = one.all("connected")[-1]["id"]
            order = {"user": "", "client": client, "channel": "server:npm"}
            await asyncio.to_thread(api, running, "subscribe", **order, data={"why": "so"})
            told = await one.next("server_subscribed", channel="server:npm")
            assert told["data"] == {"why": "so"}
            await asyncio.to_thread(publish_many, running, "server:npm", range(1))
            await one.next("server_publication", channel="server:npm")
            await asyncio.to_thread(api, running, "unsubscribe", **order)
            await one.next("server_unsubscribed", channel="server:npm")

    run(scenario)


@pytest.mark.parametrize(("code", "comes_back"), [(3000, True), (3503, False), (4500, False)])
def test_close_codes(running: RunningDaemon, code: int, comes_back: bool) -> None:
    """A client comes back or stays away, as the close code says."""

    async def scenario() -> None:
        async with puppet(running.websocket) as one:
            client = (await one.next("connected"))["id"]
            farewell = {"code": code, "reason": "a test"}
            await asyncio.to_thread(
                api, running, "disconnect", user="", client=client, disconnect=farewell
            )
            left = await one.next("connecting" if comes_back else "disconnected", 1 + comes_back)
            assert (left["code"], left["reason"]) == (code, "a test")
            if comes_back:
                await one.next("connected", 2)
            else:
                await asyncio.sleep(0.4)
                assert len(one.all("connected")) == 1

    run(scenario)


def test_refused(running: RunningDaemon) -> None:
    """A subscription that is refused ends, and the server can end one for good."""

    async def scenario() -> None:
        async with puppet(running.websocket) as one:
            client = (await one.next("connected"))["id"]
            one.do("subscribe", channel="nowhere:x")
            assert (await one.next("unsubscribed", channel="nowhere:x"))["code"] == 102
            await one.hear("npm_ended")
            order = {"user": "", "client": client, "channel": "npm_ended"}
            await asyncio.to_thread(api, running, "unsubscribe", **order)
            ended = await one.next("unsubscribed", channel="npm_ended")
            assert (ended["code"], ended["reason"]) == (2000, "server unsubscribe")

    run(scenario)
