"""The tutorial's chat, file by file, with two people in a real browser."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.integration.clients import needs_browser, shows, two_pages
from tests.integration.daemon import CHECKOUT, RunningDaemon, daemon, free_port, wait_until

EXAMPLE = CHECKOUT / "examples" / "chat"
BUNDLE = CHECKOUT / "tests/integration/node/node_modules/centrifuge/dist/centrifuge.js"

pytestmark = [
    needs_browser,
    pytest.mark.skipif(not BUNDLE.exists(), reason="npm's centrifuge is not installed"),
    pytest.mark.timeout(120),
]


@contextmanager
def chat(folder: Path) -> Iterator[tuple[str, RunningDaemon]]:
    """Run both servers as the tutorial says, on free ports; give the page's address."""
    page_port, port = free_port(), free_port()
    shutil.copytree(EXAMPLE / "page", folder / "page")
    shutil.copy(BUNDLE, folder / "page")
    script = folder / "page" / "chat.js"
    script.write_text(script.read_text().replace(":8000", f":{port}"))
    settings = (EXAMPLE / "oni.toml").read_text()
    settings = settings.replace(":9000", f":{page_port}").replace("tcp:8000", "tcp:{port}")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "http.server", str(page_port)),
            *("--bind", "127.0.0.1", "--directory", str(folder / "page")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{page_port}/"

    def answers() -> bool:
        try:
            with urlopen(address, timeout=5) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    try:
        wait_until(answers, "the page's server")
        rules = {"chat.py": (EXAMPLE / "chat.py").read_text()}
        with daemon(folder, settings, modules=rules, port=port) as running:
            yield address, running
    finally:
        server.terminate()
        server.wait(30)


async def enter(page: Any, address: str, name: str) -> None:
    """Load the page, and enter the room."""
    await page.goto(address)
    await page.fill("#name", name)
    await page.press("#name", "Enter")


async def say(page: Any, text: str) -> None:
    """Send a message with the keyboard."""
    await page.fill("#text", text)
    await page.press("#text", "Enter")


def test_chat(tmp_path: Path) -> None:
    """Two people see each other and what both say; who comes later sees what was said."""

    async def scenario() -> None:
        async with two_pages() as (ann, bob):
            await enter(ann, address, "Ann")
            await shows(ann, "#present", "Ann")
            await say(ann, "  Is anybody here?  ")
            await shows(ann, "#messages", "Ann: Is anybody here?")

            await enter(bob, address, "Bob")
            await shows(bob, "#messages", "Ann: Is anybody here?")
            for page in (ann, bob):
                await shows(page, "#present", "Ann, Bob")
            await say(bob, "<b>I am</b>")
            for page in (ann, bob):
                await shows(page, "#messages", "Ann: Is anybody here?", "Bob: <b>I am</b>")

            await say(bob, "   ")
            await shows(bob, "#trouble", "text: a text of 1 to 500 characters, please")

            # Bob's connection is cut, Ann goes on, and Bob comes back to all of it.
            await bob.evaluate("client.disconnect()")
            await shows(ann, "#present", "Ann")
            await say(ann, "Bob?")
            await shows(ann, "#messages", "Ann: Is anybody here?", "Bob: <b>I am</b>", "Ann: Bob?")
            await bob.evaluate("client.connect()")
            await shows(bob, "#messages", "Ann: Is anybody here?", "Bob: <b>I am</b>", "Ann: Bob?")
            await shows(ann, "#present", "Ann, Bob")

            await bob.close()
            await shows(ann, "#present", "Ann")

    with chat(tmp_path) as (address, _):
        asyncio.run(scenario())


def test_without_a_name(tmp_path: Path) -> None:
    """Who brings no name is not let in, and reads why."""

    async def scenario() -> None:
        async with two_pages() as (page, _):
            await enter(page, address, "   ")
            await shows(page, "#trouble", "name: a text of 1 to 20 characters, please")
            await page.fill("#name", "Eve")
            await page.press("#name", "Enter")
            await shows(page, "#present", "Eve")

    with chat(tmp_path) as (address, _):
        asyncio.run(scenario())
