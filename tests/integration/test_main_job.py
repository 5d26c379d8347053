"""The main job: one daemon, a page in a browser, a client, and events from everywhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.clients import (
    browser_page,
    needs_browser,
    needs_centrifuge,
    needs_curl,
    subscriber,
)
from tests.integration.daemon import CHECKOUT, OPEN, daemon, environment, free_port

WELCOME = """
def configure(oni):
    def welcome(act):
        return oni.channels.get("news").publish("welcome", {"to": act.data["user"]})

    oni.dispatcher.add_event_handler(
        welcome, "after", False, action="publish", event="user_created"
    )
"""


@needs_centrifuge
@needs_browser
@pytest.mark.timeout(120)
def test_main_job(tmp_path: Path) -> None:
    """What curl, a handler, the page and a client publish reaches the page and the client."""

    async def scenario() -> None:
        async with browser_page() as page, subscriber(running) as client:
            await page.open(running.address)

            # over HTTP, and the handler's answer to it
            created = {"user": "bob", "role": "admin"}
            await asyncio.to_thread(running.publish, "news", created, "user_created")
            assert await client.next() == ("user_created", created)
            assert await client.next() == ("welcome", {"to": "bob"})
            await page.next("welcome", {"to": "bob"})
            assert await page.page.locator("#log li .event").all_text_contents() == [
                "welcome",
                "user_created",
            ]

            # from the page
            await page.publish("message", '{"hello": "world"}')
            assert await client.next() == ("message", {"hello": "world"})
            await page.next("message", {"hello": "world"})
            await page.publish("order_placed", '{"order": 7}')
            assert await client.next() == ("order_placed", {"order": 7})

            # from the client
            await client.publish({"type": "user_created", "user": "eve"})
            assert await client.next() == (
                "user_created",
                {"type": "user_created", "user": "eve"},
            )
            assert await client.next() == ("welcome", {"to": "eve"})
            await page.next("welcome", {"to": "eve"})
            assert page.troubles == []

    app = '[app]\nconfigure = "welcome:configure"\n'
    with daemon(tmp_path, modules={"welcome.py": WELCOME}, more=app) as running:
        asyncio.run(scenario())


@needs_centrifuge
@pytest.mark.parametrize("reactor", ["epoll", "select", "asyncio"])
def test_reactors(tmp_path: Path, reactor: str) -> None:
    """The same under each reactor."""

    async def scenario() -> None:
        async with subscriber(running) as client:
            await asyncio.to_thread(running.publish, "news", {"n": 1}, "counted")
            assert await client.next() == ("counted", {"n": 1})
            await client.publish({"n": 2})
            assert await client.next() == ("message", {"n": 2})

    with daemon(tmp_path, options=(f"--reactor={reactor}",)) as running:
        asyncio.run(scenario())


@needs_centrifuge
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            "curl",
            marks=needs_curl,
        ),
        "python",
    ],
)
def test_quickstart(tmp_path: Path, program: str) -> None:
    """A line that the quick start prints works as it is, in a shell."""
    port = free_port()
    quickstart = subprocess.run(
        [sys.executable, "-m", "oni.server.quickstart", "oni.toml", "--port", str(port)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    wanted = {"curl": "curl ", "python": sys.executable}[program]
    printed = [line.strip() for line in quickstart.stdout.splitlines()]
    (line,) = [line for line in printed if line.startswith(wanted)]
    settings = (tmp_path / "oni.toml").read_text(encoding="utf-8")

    async def scenario() -> None:
        async with subscriber(running) as client:
            done = await asyncio.to_thread(
                subprocess.run,
                line,
                shell=True,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert done.returncode == 0, done.stderr
            assert '"result"' in done.stdout, done.stdout
            assert await client.next() == ("user_created", {"user": "bob"})

    with daemon(tmp_path, settings, port=port) as running:
        asyncio.run(scenario())


@needs_centrifuge
def test_example(tmp_path: Path) -> None:
    """The example in ``examples/quickstart`` does what it says."""
    example = (CHECKOUT / "examples" / "quickstart" / "shop.py").read_text(encoding="utf-8")
    modules = {"shop.py": example}
    chat = "[channels.chat]\n"

    async def scenario() -> None:
        async with subscriber(running) as news, subscriber(running, "chat:lobby") as chatter:
            await asyncio.to_thread(running.publish, "news", {"user": "bob"}, "user_created")
            assert await news.next() == ("user_created", {"user": "bob"})
            assert await news.next() == ("welcome", {"text": "Welcome, bob!"})
            await chatter.publish({"text": "  hello  "})
            assert await chatter.next() == ("message", {"text": "hello"})
            with pytest.raises(Exception, match="mind your language"):
                await chatter.publish({"text": "darn it"})

    app = f'{chat}[app]\nconfigure = "shop:configure"\n'
    with daemon(tmp_path, OPEN, modules=modules, more=app) as running:
        asyncio.run(scenario())
