"""The page in a real browser: what a person sees when things go well, and when they do not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import browser_page, needs_browser
from tests.integration.daemon import OPEN, daemon

pytestmark = [needs_browser, pytest.mark.timeout(120)]

MORE = """
[channels.readonly]
publish = false
"""


async def text_of(page: Any, selector: str, holds: str) -> str:
    """Wait until an element says something that holds these words, and give it."""
    await page.page.wait_for_function(
        "([selector, holds]) => document.querySelector(selector).textContent.includes(holds)",
        arg=[selector, holds],
    )
    return str(await page.page.text_content(selector))


def test_troubles_in_words(tmp_path: Path) -> None:
    """What is refused is said beside the form, with the protocol's code; what worked, too."""

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            await page.publish("message", "{oops")
            await text_of(page, "#publish-trouble", "The data is not JSON")
            await page.publish("user_created", "[1, 2]")
            await text_of(page, "#publish-trouble", "only data that is an object")
            await page.publish("message", "1", channel="readonly:1")
            said = await text_of(page, "#publish-trouble", "permission denied")
            assert said == "Not published: permission denied (103)"
            await page.publish("message", '"fine"')
            await text_of(page, "#publish-done", "Published at")
            assert await page.page.text_content("#publish-trouble") == ""
            await page.page.fill("#channel", "unknown:1")
            await page.page.press("#channel", "Enter")
            said = await text_of(page, "#subscribe-trouble", "unknown channel")
            assert said == "Not subscribed to unknown:1: unknown channel (102)"
            assert await page.page.locator("#channels li").count() == 1
            assert page.troubles == []

    with daemon(tmp_path, OPEN, more=MORE) as running:
        asyncio.run(scenario())


def test_channels(tmp_path: Path) -> None:
    """Channels are subscribed and left with the keyboard; what is left is not heard any more."""

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            await page.page.fill("#channel", "sports")
            await page.page.press("#channel", "Enter")
            await page.page.wait_for_selector("#channels li[data-state=subscribed] >> nth=1")
            await asyncio.to_thread(running.publish, "sports", {"n": 1}, "goal")
            await page.next("goal", {"n": 1})
            await page.page.focus("[aria-label='Unsubscribe from news']")
            await page.page.keyboard.press("Enter")
            await page.page.wait_for_function(
                "document.querySelectorAll('#channels li').length === 1"
            )
            await asyncio.to_thread(running.publish, "news", {"n": 2}, "lost")
            await asyncio.to_thread(running.publish, "sports", {"n": 3}, "goal")
            await page.next("goal", {"n": 3})
            assert await page.page.locator("#log li").count() == 2
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def test_data_is_only_text(tmp_path: Path) -> None:
    """What arrives is shown as it is, and never becomes part of the page."""
    nasty = {"<b>": "<img src=x onerror=alert(1)>", "nested": [None, True, 1.5, ["</pre>"]]}

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            await asyncio.to_thread(running.publish, "news", nasty, "<script>")
            await page.next("<script>", nasty)
            assert await page.page.locator("#log img, #log script").count() == 0
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def test_reconnects(tmp_path: Path) -> None:
    """When the daemon goes, the page says so; when it comes back, the page is there again."""

    async def scenario() -> None:
        async with browser_page() as page:
            with daemon(tmp_path) as first:
                await page.open(first.address)
                await asyncio.to_thread(first.stop)
            await page.page.wait_for_selector("#state[data-state=waiting]")
            await text_of(page, "#state-words", "Not connected")
            with daemon(tmp_path, port=first.port) as second:
                await page.page.click("#connect")
                await page.page.wait_for_selector("#state[data-state=open]", timeout=30_000)
                await page.page.wait_for_selector("#channels li[data-state=subscribed]")
                await asyncio.to_thread(second.publish, "news", {"n": 1}, "back")
                await page.next("back", {"n": 1})

    asyncio.run(scenario())


def test_rules_of_reconnecting(tmp_path: Path) -> None:
    """The close code's range says whether to come back, and each attempt waits longer."""

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            comes_back, delays = await page.page.evaluate(
                """async () => {
                    const { reconnects, delayFor } = await import("/static/client.js");
                    const codes = [1000, 1006, 1009, 3000, 3499, 3500, 3999, 4000, 4500, 4999,
                                   5000];
                    const delays = [0, 1, 5, 50].map((n) => [delayFor(n, () => 0),
                                                             delayFor(n, () => 1)]);
                    return [codes.filter(reconnects), delays];
                }"""
            )
            assert comes_back == [1000, 1006, 3000, 3499, 4000, 5000]
            assert delays == [[0.25, 0.5], [0.5, 1.0], [8.0, 16.0], [10.0, 20.0]]

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def test_left_before_the_reply(tmp_path: Path) -> None:
    """A channel that is left before its subscription is confirmed is left on the server too.

    One that is wanted again by then is asked for once, and stays.
    """

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            heard, asked, states = await page.page.evaluate(
                """async () => {
                    const { Client } = await import("/static/client.js");
                    const asked = [], heard = [];
                    const send = WebSocket.prototype.send;
                    WebSocket.prototype.send = function (text) {
                        asked.push(...Object.entries(JSON.parse(text))
                            .filter(([, value]) => value.channel)
                            .map(([method, value]) => `${method} ${value.channel}`));
                        this.onmessage_ ??= this.addEventListener("message", ({ data }) =>
                            heard.push(...data.split("\\n").filter((line) => line)
                                .map(JSON.parse).filter((reply) => reply.push)
                                .map((reply) => reply.push.pub.data))) ?? true;
                        send.call(this, text);
                    };
                    const client = new Client(location.href.replace("http", "ws")
                        + "connection/websocket");
                    const open = new Promise((done) => client.addEventListener("state",
                        ({ detail }) => detail.state === "open" && done()));
                    client.connect();
                    await open;
                    const left = client.subscribe("left");
                    client.unsubscribe("left");
                    const back = client.subscribe("back");
                    client.unsubscribe("back");
                    const again = client.subscribe("back");
                    await Promise.all([left, back, again]);
                    await client.publish("left", "not to be heard");
                    await client.publish("back", "to be heard");
                    WebSocket.prototype.send = send;
                    await new Promise((done) => setTimeout(done, 200));
                    return [heard, asked, [...client.channels]];
                }"""
            )
            assert heard == ["to be heard"]
            assert asked == [
                "subscribe left",
                "subscribe back",
                "unsubscribe left",
                "publish left",
                "publish back",
            ]
            assert states == [["back", "subscribed"]]

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def test_closed_for_good(tmp_path: Path) -> None:
    """A close code that says so ends the attempts, until the person asks for another."""

    async def scenario() -> None:
        async with browser_page() as page:
            await page.page.goto(f"{running.address}/")
            await page.page.wait_for_selector("#state[data-state=closed]")
            assert (await page.page.text_content("#state")).strip() == "Closed: unauthorized"
            await asyncio.sleep(1.5)
            assert await page.page.get_attribute("#state", "data-state") == "closed"
            assert await page.page.is_visible("#connect")

    with daemon(tmp_path, '[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\n') as running:
        asyncio.run(scenario())


def test_stays_connected(tmp_path: Path) -> None:
    """The page answers pings, so it is not taken for gone."""
    settings = OPEN.replace("[auth]", "ping_interval = 1\npong_timeout = 0.5\n[auth]")

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            states = await page.page.evaluate(
                """() => new Promise((done) => {
                    const seen = [];
                    new MutationObserver(() => seen.push(state.dataset.state))
                        .observe(state, { attributes: true });
                    setTimeout(() => done(seen), 4000);
                })"""
            )
            assert states == []
            assert page.troubles == []

    with daemon(tmp_path, settings) as running:
        asyncio.run(scenario())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_fits(tmp_path: Path, scheme: Any, width: int) -> None:
    """Nothing sticks out, in no width and colour scheme, and text stays readable."""
    long = {"a-very-long-word": "x" * 300}

    async def scenario() -> None:
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        async with browser_page(**options) as page:
            await page.open(running.address)
            await asyncio.to_thread(running.publish, "news", long, "e" * 100)
            await page.next("e" * 100, long)
            sticks_out = (
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
            assert not await page.page.evaluate(sticks_out)
            for selector in ("body", "label", "#state", "#log time", "#publish button"):
                assert await _contrast(page.page, selector) >= 4.5, selector
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


async def _contrast(page: Any, selector: str) -> float:
    """Give the contrast of an element's text with what is behind it, as WCAG computes it."""
    ratio = await page.evaluate(
        """(selector) => {
            const element = document.querySelector(selector);
            const channels = (text) => text.match(/[\\d.]+/g).map(Number);
            let behind = element;
            while (channels(getComputedStyle(behind).backgroundColor)[3] === 0) {
                behind = behind.parentElement;
            }
            const light = (text) => {
                const [r, g, b] = channels(text).map((value) => {
                    const part = value / 255;
                    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
                });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const pair = [
                light(getComputedStyle(element).color),
                light(getComputedStyle(behind).backgroundColor),
            ].sort((a, b) => b - a);
            return (pair[0] + 0.05) / (pair[1] + 0.05);
        }""",
        selector,
    )
    return float(ratio)
