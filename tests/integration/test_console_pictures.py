"""The pictures of the console in the documentation, taken of a real daemon in a real browser.

``ONI_PICTURES=docs/images pytest tests/integration/test_console_pictures.py`` takes them anew:
then it waits until there is something to see. They are looked at before they are committed.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import browser_page, needs_browser
from tests.integration.daemon import CHECKOUT, OPEN, daemon

pytestmark = [needs_browser, pytest.mark.timeout(180)]

IMAGES = CHECKOUT / "docs" / "images"
WANTED = os.environ.get("ONI_PICTURES")
MAX_SIZE = 300_000  # bytes
AT = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)

SHOP = '''
from twisted.internet import reactor, task


class Reader:
    """Takes everything, or nothing."""

    peer = "tcp4:203.0.113.9:51324"

    def __init__(self, takes=True):
        self.takes = takes

    def encode(self, entry):
        return bytes(entry.data)

    def wake(self, subscription):
        if self.takes:
            reactor.callLater(0, self.take, subscription)

    def take(self, subscription):
        while subscription.take(65536):
            pass

    def lost(self, subscription, position):
        return b""

    def overdue(self, subscription):
        pass


def mind_the_language(act): pass
def check_the_price(act): pass
def welcome(act): pass
def keep_the_books(act): pass


CHANNELS = {
    "shop:orders": (24, 2), "chat:lobby": (61, 3), "sensors:hall": (7, 1), "shop:stock": (12, 5),
    "chat:garden": (18, 8), "sensors:cellar": (2, 10), "news": (140, 0), "chat:kitchen": (5, 0),
    "shop:returns": (3, 0), "sensors:roof": (1, 0),
}
DATA = {
    "shop": lambda n: ("order_placed", {
        "order": 7000 + n, "customer": "bob", "total": 12.5 + n % 9,
        "lines": [{"sku": "tea-green", "count": 2}, {"sku": "cup-blue", "count": 1}],
    }),
    "chat": lambda n: ("message", {"from": "eve", "text": "Is anybody there?"}),
    "sensors": lambda n: ("measured", {"celsius": 18 + n % 5 / 10}),
    "news": lambda n: ("message", {}),
}
readers = []


def configure(oni):
    add = oni.dispatcher.add_event_handler
    add(mind_the_language, "before", False, action="publish", namespace="chat")
    add(check_the_price, "before", False, action="publish", channel="shop:orders",
        event="order_placed", timeout=2.0)
    add(welcome, "after", False, action="publish", event="user_created")
    add(keep_the_books, "after", False, action="publish", namespace="shop")
    for name, (number, _) in CHANNELS.items():
        for place in range(number):
            readers.append(Reader(takes=name != "shop:orders" or place > 1))
            oni.channels.get(name).subscribe(None, readers[-1])
    turn = [0]

    def publish():
        turn[0] += 1
        for name, (_, every) in CHANNELS.items():
            if every and turn[0] % every == 0:
                event, data = DATA[name.partition(":")[0]](turn[0])
                tags = {"region": "eu", "till": str(turn[0] % 4 + 1)} if "shop" in name else {}
                oni.act("publish", channel=name, event=event, data=data, tags=tags)

    task.LoopingCall(publish).start(0.4, now=False)
'''
MORE = """
[channels.shop]
history_size = 1000
history_ttl = 300
[channels.chat]
[channels.sensors]
behind = "latest"
[app]
configure = "shop:configure"
"""
WIDE, NARROW = (1200, 900), (360, 780)  # the wide one is taken down to the page's end
VARIANTS = [("light", *WIDE), ("dark", *NARROW)]


async def _take(address: str, folder: Path, variant: tuple[str, int, int], seconds: float) -> Path:
    """Take one picture."""
    scheme, width, height = variant
    size = {"width": width, "height": height}
    options: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
    async with browser_page(**options, reduced_motion="reduce") as page:
        await page.page.clock.set_fixed_time(AT)
        await page.page.goto(f"{address}/#channel=shop:orders&channel=chat:lobby")
        await page.page.wait_for_selector("#log > li:nth-child(2)")
        await page.page.wait_for_selector("#slow-table tbody tr", state="attached")
        await asyncio.sleep(seconds)
        path = folder / f"console-{scheme}-{width}.png"
        await page.page.screenshot(path=path, full_page=width == WIDE[0])
        assert page.troubles == []
        return path


def test_pictures(tmp_path: Path) -> None:
    """Each picture shows a console at work, and is small enough to be kept."""
    folder = Path(WANTED) if WANTED else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    async def scenario() -> list[Path]:
        seconds = 40.0 if WANTED else 0.0
        return [await _take(running.address, folder, each, seconds) for each in VARIANTS]

    with daemon(tmp_path, OPEN, more=MORE, modules={"shop.py": SHOP}) as running:
        taken = asyncio.run(scenario())
    for path in taken:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < MAX_SIZE


def test_documentation_has_them() -> None:
    """The documentation shows exactly the pictures that are taken here."""
    names = {f"console-{scheme}-{width}.png" for scheme, width, _ in VARIANTS}
    assert {path.name for path in IMAGES.glob("console-*.png")} == names
    page = (CHECKOUT / "docs" / "how-to" / "console.rst").read_text(encoding="utf-8")
    assert all(name in page for name in names)
