"""What connects to a daemon in these tests: a Centrifugo client, a browser, a bare websocket."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import RunningDaemon

# The same names as in tools/debian_packages.sh, which installs what is missing.
CHROMIUMS = ("chromium", "chromium-browser")


def find_working(*programs: str) -> str | None:
    """Find the first of these programs that says its version.

    Ubuntu's chromium-browser is a stub that only points at a snap.
    """
    for program in programs:
        path = shutil.which(program)
        if path is None:
            continue
        for option in ("--version", "-v"):
            with suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    [path, option], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
                )
                if done.returncode == 0:
                    return path
    return None


CHROMIUM = find_working(*CHROMIUMS)
CURL = find_working("curl")
NGINX = find_working("nginx", "/usr/sbin/nginx")

needs_centrifuge = pytest.mark.skipif(
    importlib.util.find_spec("centrifuge") is None, reason="centrifuge-python is not installed"
)
needs_websockets = pytest.mark.skipif(
    importlib.util.find_spec("websockets") is None, reason="websockets is not installed"
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="chromium (apt-get install chromium) or playwright is not installed",
)
needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="nginx (apt-get install nginx) is not installed"
)
AXE = Path(__file__).parent / "node/node_modules/axe-core/axe.min.js"
needs_axe = pytest.mark.skipif(
    not AXE.is_file(), reason="axe-core (npm, tools/node_modules.sh) is not installed"
)
needs_curl = pytest.mark.skipif(
    CURL is None, reason="curl (apt-get install curl) is not installed"
)


class Subscriber:
    """An unmodified ``centrifuge-python`` client, subscribed to one channel.

    Attributes:
        client: The client itself.
        subscription: Its subscription.
        heard: What arrived, as (event, data).
    """

    def __init__(self, client: Any, subscription: Any) -> None:
        self.client = client
        self.subscription = subscription
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def next(self, within: float = 10.0) -> tuple[str, Any]:
        """Wait for the next publication."""
        return await asyncio.wait_for(self.heard.get(), within)

    async def publish(self, data: Any) -> None:
        """Publish on the channel; raises what the server answers."""
        await self.subscription.publish(data)


@asynccontextmanager
async def subscriber(daemon: RunningDaemon, channel: str = "news") -> AsyncIterator[Subscriber]:
    """Connect and subscribe, while the block runs."""
    from centrifuge import Client, SubscriptionEventHandler

    class Hear(SubscriptionEventHandler):  # type: ignore[misc]
        async def on_publication(self, ctx: Any) -> None:
            tags = ctx.pub.tags or {}
            found.heard.put_nowait((tags.get("event", "message"), ctx.pub.data))

    client = Client(daemon.websocket, proxy=None)
    subscription = client.new_subscription(channel, Hear())
    found = Subscriber(client, subscription)
    try:
        await client.connect()
        await subscription.subscribe()
        await asyncio.wait_for(subscription.ready(), 10)
        yield found
    finally:
        await client.disconnect()


class Page:
    """The daemon's page in a real browser.

    Attributes:
        page: Playwright's page.
        troubles: What the browser complained about.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on(
            "console",
            lambda message: (
                self.troubles.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )

    async def open(self, address: str) -> None:
        """Load it, and wait until it has subscribed."""
        await self.page.goto(f"{address}/")
        await self.page.wait_for_selector("#state[data-state=open]")
        await self.page.wait_for_selector("#channels li[data-state=subscribed]")

    async def next(self, event: str, data: Any) -> None:
        """Wait until the newest line shows this."""
        await self.page.wait_for_function(
            """([event, data]) => {
                const line = document.querySelector("#log li");
                if (!line || line.querySelector(".event")?.textContent !== event) {
                    return false;
                }
                const shown = JSON.parse(line.querySelector(".data").textContent);
                const sorted = (value) => JSON.stringify(Object.entries(value).sort());
                return sorted(shown) === sorted(data);
            }""",
            arg=[event, data],
        )

    async def next_text(self, text: str) -> None:
        """Wait until the newest line shows this and nothing else."""
        await self.page.wait_for_function(
            "(text) => document.querySelector('#log .data')?.textContent === text", arg=text
        )

    async def axe(self) -> list[str]:
        """Look for what keeps people out of the page; give what is wrong, and where."""
        await self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = await self.page.evaluate("axe.run().then((result) => result.violations)")
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    async def publish(self, event: str, data: str, channel: str = "news") -> None:
        """Fill in the form and send it, with the keyboard only."""
        await self.page.fill("#publish-channel", channel)
        await self.page.fill("#event", event)
        await self.page.fill("#data", data)
        await self.page.focus("#publish button")
        await self.page.keyboard.press("Enter")


@asynccontextmanager
async def browser_page(**options: Any) -> AsyncIterator[Page]:
    """Open a browser with one empty page, while the block runs."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        try:
            context = await browser.new_context(**options)
            context.set_default_timeout(15_000)
            yield Page(await context.new_page())
        finally:
            await browser.close()


@asynccontextmanager
async def two_pages() -> AsyncIterator[tuple[Any, Any]]:
    """Open a browser with two pages, and see that nothing went wrong in them."""
    from playwright.async_api import async_playwright

    troubles: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        try:
            context = await browser.new_context()
            context.set_default_timeout(45_000)
            pages = await context.new_page(), await context.new_page()
            for page in pages:
                page.on("pageerror", lambda error: troubles.append(str(error)))
            yield pages
        finally:
            await browser.close()
    assert troubles == []


async def shows(page: Any, selector: str, *texts: str) -> None:
    """Wait until an element's lines are these."""
    await page.wait_for_function(
        """([selector, texts]) => {
            const found = document.querySelector(selector);
            const lines = found.children.length
                ? [...found.children].map((line) => line.textContent) : [found.textContent];
            return JSON.stringify(lines) === JSON.stringify(texts);
        }""",
        arg=[selector, list(texts)],
    )


class Bare:
    """A websocket on which a test says what it likes."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and give its reply; pushes and pings before it are passed over."""
        self.socket.send(json.dumps(command))
        while True:
            reply = self.next()
            if reply.get("id") == command["id"]:
                return reply

    def next(self) -> dict[str, Any]:
        """Give the next message of the server; more than one in a frame is a mistake here."""
        found = json.loads(self.socket.recv(timeout=30))
        assert isinstance(found, dict)
        return found

    def closed_with(self) -> tuple[int, str]:
        """Wait until the server closes; give its code and reason."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                self.socket.recv(timeout=30)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection was dropped without a word"
            return closed.rcvd.code, closed.rcvd.reason


@contextmanager
def bare(daemon: RunningDaemon, connect: bool = True, **options: Any) -> Iterator[Bare]:
    """Open a websocket, and send the connect command if wished."""
    from websockets.sync.client import connect as open_websocket

    options.setdefault("compression", None)
    with open_websocket(daemon.websocket, proxy=None, **options) as socket:
        found = Bare(socket)
        if connect:
            assert "connect" in found.ask(id=1, connect={})
        yield found
