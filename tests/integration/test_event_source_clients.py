"""A real ``EventSource`` in a real browser against a real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.clients import browser_page, needs_browser
from tests.integration.daemon import OPEN, RunningDaemon, daemon
from tests.integration.proxy import Proxy, proxy
from tests.integration.test_python_clients import publish_many, run, until

SETTINGS = """\
history_size = 2000
history_ttl = 300
[channels.few]
history_size = 5
ring_entries = 2
[channels.closed]
subscribe = false
"""

LISTEN = """([channel, events]) => {
    window.told = [];
    window.source = new EventSource("/connection/sse/" + channel);
    for (const name of events) {
        source.addEventListener(name, (event) => told.push({
            name, id: event.lastEventId, data: event.data && JSON.parse(event.data)
        }));
    }
}"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Run one daemon for all tests; each has channels of its own."""
    with daemon(tmp_path_factory.mktemp("daemon"), OPEN + SETTINGS) as found:
        yield found


class Source:
    """An ``EventSource`` on a page, and what it has told."""

    def __init__(self, page: Any) -> None:
        self._page = page

    async def listen(self, wire: Proxy, channel: str, *events: str) -> None:
        """Open it from a page of the daemon's own."""
        await self._page.goto(f"http://127.0.0.1:{wire.port}/static/icon.svg")
        await self._page.evaluate(LISTEN, [channel, ["open", "message", "gap", *events]])

    async def told(self) -> list[dict[str, Any]]:
        """Give every event so far."""
        found: list[dict[str, Any]] = await self._page.evaluate("told")
        return found

    async def state(self) -> int:
        """Give the ``readyState``: 0 connecting, 1 open, 2 closed for good."""
        return int(await self._page.evaluate("source.readyState"))

    async def data(self, number: int) -> list[Any]:
        """Wait for so many messages; give their data."""
        await self._page.wait_for_function(
            "(number) => told.filter((event) => event.name === 'message').length >= number",
            arg=number,
        )
        return [event["data"] for event in await self.told() if event["name"] == "message"]

    async def opened(self, number: int) -> None:
        """Wait until it has been opened so many times."""
        await self._page.wait_for_function(
            "(number) => told.filter((event) => event.name === 'open').length >= number",
            arg=number,
        )


@needs_browser
@pytest.mark.timeout(120)
def test_event_source(running: RunningDaemon) -> None:
    """Events arrive with name and id, and after a cut each missed one arrives once."""

    async def scenario() -> None:
        async with browser_page() as page, proxy(running.port) as wire:
            source = Source(page.page)
            await source.listen(wire, "sse", "order_placed")
            await source.opened(1)
            wire.cut()  # before any event: it knows its position all the same
            await asyncio.to_thread(publish_many, running, "sse", range(3))
            assert await source.data(3) == [0, 1, 2]
            await asyncio.to_thread(running.publish, "sse", {"id": 7}, "order_placed")
            wire.budget = 0
            wire.cut()
            await asyncio.to_thread(publish_many, running, "sse", range(3, 1003))
            wire.budget = 30_000  # and again in the middle of what it missed
            await until(lambda: wire.budget is None, "a cut")
            assert await source.data(1003) == list(range(1003))
            told = await source.told()
            named = [event for event in told if event["name"] == "order_placed"]
            assert [event["data"] for event in named] == [{"id": 7}]
            assert named[0]["id"].endswith(":4")
            assert not [event for event in told if event["name"] == "gap"]

    run(scenario)


@needs_browser
@pytest.mark.timeout(120)
def test_gap_and_refusal(running: RunningDaemon) -> None:
    """What is lost is told; what is not allowed ends the source for good."""

    async def scenario() -> None:
        async with browser_page() as page, proxy(running.port) as wire:
            source = Source(page.page)
            await source.listen(wire, "few:a")
            await source.opened(1)
            wire.cut()
            await asyncio.to_thread(publish_many, running, "few:a", range(8))
            await source.opened(2)
            await asyncio.to_thread(publish_many, running, "few:a", range(8, 9))
            assert await source.data(1) == [8]
            (gap,) = [event for event in await source.told() if event["name"] == "gap"]
            assert gap["data"]["offset"] == 8
            assert gap["id"] == f"{gap['data']['epoch']}:8"

            await source.listen(wire, "closed:a")
            await page.page.wait_for_function("source.readyState === 2")
            assert await source.told() == []

    run(scenario)
