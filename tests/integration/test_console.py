"""The console in a real browser: what a person sees when things go well, and when they do not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import Page, browser_page, needs_axe, needs_browser
from tests.integration.daemon import KEY, OPEN, RunningDaemon, daemon
from tests.integration.proxy import proxy

pytestmark = [needs_browser, needs_axe, pytest.mark.timeout(120)]

SWEARING = """
from oni.errors import Refused

def configure(oni):
    def refuse(act):
        raise Refused(1000, "mind your language")
    oni.dispatcher.add_event_handler(refuse, "before", False, action="publish", namespace="chat")
"""
ADMIN_KEY = "only-the-admin-knows-it"
MORE = """
[channels.readonly]
publish = false
[channels.kept]
history_size = 1000
history_ttl = 300
"""
LOCKED = OPEN.replace("open_on_loopback = true", f'key = "{ADMIN_KEY}"')
OFF = OPEN.replace("open_on_loopback = true", "")


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
            await text_of(page, "#data-trouble", "This is not JSON")
            assert await page.page.evaluate("document.activeElement.id") == "data"
            assert await page.page.get_attribute("#data", "aria-invalid") == "true"
            await page.publish("message", "1", channel="unknown:1")
            said = await text_of(page, "#channel-trouble", "nknown")
            assert said == "Unknown channel (102)"
            assert await page.page.text_content("#data-trouble") == ""
            await page.publish("message", "1", channel="chat:1")
            said = await text_of(page, "#publish-trouble", "language")
            assert said == "Not published: mind your language (1000)"
            await page.publish("message", "12345678901234567890", channel="readonly:1")
            await text_of(page, "#publish-done", "Published as 1, at")
            assert await page.page.text_content("#publish-trouble") == ""
            await page.page.fill("#channel", "unknown:1")
            await page.page.press("#channel", "Enter")
            said = await text_of(page, "#subscribe-trouble", "unknown channel")
            assert said == "Not listening to unknown:1: unknown channel (102)"
            assert await page.page.locator("#channels li").count() == 1
            assert page.troubles == []

    app = {"swearing.py": SWEARING}
    more = f'{MORE}[channels.chat]\n[app]\nconfigure = "swearing:configure"\n'
    with daemon(tmp_path, OPEN, more=more, modules=app) as running:
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
            assert page.page.url.endswith("#channel=news&channel=sports")
            await page.page.focus("[aria-label='Listen to news no more']")
            await page.page.keyboard.press("Enter")
            await page.page.wait_for_function(
                "document.querySelectorAll('#channels li').length === 1"
            )
            await asyncio.to_thread(running.publish, "news", {"n": 2}, "lost")
            await asyncio.to_thread(running.publish, "sports", {"n": 3}, "goal")
            await page.next("goal", {"n": 3})
            assert await page.page.locator("#log li").count() == 2
            assert page.page.url.endswith("#channel=sports")
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def test_data_is_only_text(tmp_path: Path) -> None:
    """What arrives is shown as it is, and never becomes part of the page."""
    nasty = {
        "<b>": "<img src=x onerror=alert(1)>",
        "nested": [None, True, 1.5, ["</pre>"]],
        "turned": "\u202edef\u2028 \N{SMILE} \u0639",
    }

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            await asyncio.to_thread(running.publish, "news", nasty, "<script>")
            await page.next("<script>", nasty)
            shown = await page.page.locator("#log .data").first.text_content()
            # What turns writing around is written out, so that data cannot look like other data.
            assert '"\\u202edef\\u2028 \N{SMILE} \u0639"' in (shown or "")
            assert await page.page.locator("#log img, #log script").count() == 0
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


CALLS = "() => Number(document.querySelector('#phases .total').textContent)"


def test_the_daemon_goes(tmp_path: Path) -> None:
    """When the daemon goes, the page says that its figures are old; then it is there again."""

    async def scenario() -> None:
        async with browser_page() as page:
            with daemon(tmp_path) as first:
                await page.open(first.address)
                await page.page.wait_for_selector("#channel-table tbody tr")
                commands = [{"publish": {"channel": "news", "data": n}} for n in range(50)]
                await asyncio.to_thread(_batch, first, commands)
                await page.page.wait_for_function(f"{CALLS} >= 50")
                await asyncio.to_thread(first.stop)
            await page.page.wait_for_selector("#state[data-state=waiting]")
            await text_of(page, "#state-words", "Not connected")
            await text_of(page, "#warning", "The figures are old: they are from ")
            assert await page.page.evaluate("'stale' in document.body.dataset")
            assert await page.axe() == []
            with daemon(tmp_path, port=first.port) as second:
                await page.page.click("#connect")
                await page.page.wait_for_selector("#state[data-state=open]", timeout=30_000)
                await page.page.wait_for_selector("#channels li[data-state=subscribed]")
                await asyncio.to_thread(second.publish, "news", {"n": 1}, "back")
                await page.next("back", {"n": 1})
                await page.page.wait_for_selector("body:not([data-stale])")
                assert await page.page.text_content("#warning") == ""
                await page.page.wait_for_function(f"{CALLS} < 50")

    asyncio.run(scenario())


async def _published_while_cut(page: Page, running: RunningDaemon, channel: str, n: int) -> None:
    """Cut the page's wire, publish past it, and let it come back."""
    async with proxy(running.port) as wire:
        await page.page.goto(f"http://127.0.0.1:{wire.port}/#channel={channel}")
        await page.page.wait_for_selector("#channels li[data-state=subscribed]")
        await asyncio.to_thread(running.publish, channel, 0)
        await page.page.wait_for_selector("#log li")
        wire.hold()
        wire.cut()
        await page.page.wait_for_selector("#channels li[data-state=waiting]")
        for number in range(n):
            await asyncio.to_thread(running.publish, channel, number + 1)
        wire.release()
        await page.page.wait_for_selector("#channels li[data-state=subscribed]")
        await asyncio.to_thread(running.publish, channel, "live")
        await page.page.wait_for_selector("#log li:has-text('\"live\"')")


SHOWN = """[...document.querySelectorAll("#log > li")].reverse().map(
    (line) => (line.querySelector(".data") ?? line.querySelector(".what")).textContent)"""


@pytest.mark.parametrize("missed", [3, 320])
def test_tail_over_a_cut(tmp_path: Path, missed: int) -> None:
    """What came while the wire was cut is there afterwards: all of it, once and in order.

    More than 300 follow as pushes, for the answer to a subscribe does not hold them.
    """

    async def scenario() -> None:
        async with browser_page() as page:
            await _published_while_cut(page, running, "kept:1", missed)
            shown = await page.page.evaluate(SHOWN)
            assert shown == [*map(str, range(missed + 1)), '"live"']

    with daemon(tmp_path, OPEN, more=MORE) as running:
        asyncio.run(scenario())


def test_tail_without_history(tmp_path: Path) -> None:
    """Where nothing is kept the tail says that something was missed, in its place."""

    async def scenario() -> None:
        async with browser_page() as page:
            await _published_while_cut(page, running, "news", 2)
            shown = await page.page.evaluate(SHOWN)
            assert shown == ["0", "Something was missed: it is not kept on news", '"live"']

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def test_paused_and_bounded(tmp_path: Path) -> None:
    """A paused tail stays as it is and counts; however much comes, the newest lines are kept."""

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            await asyncio.to_thread(running.publish, "news", 0)
            await page.page.wait_for_selector("#log li")
            await page.page.click("#pause")
            for first in range(0, 600, 200):
                commands = [
                    {"publish": {"channel": "news", "data": number + 1}}
                    for number in range(first, first + 200)
                ]
                await asyncio.to_thread(_batch, running, commands)
            await text_of(page, "#count", "paused, 600 since")
            assert await page.page.locator("#log > li").count() == 1
            await page.page.click("#pause")
            await page.next_text("600")
            assert await page.page.locator("#log > li").count() == 500
            assert await page.page.evaluate("document.getElementById('news').textContent")
            await page.page.click("#clear")
            assert await page.page.locator("#log > li").count() == 0
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())


def _batch(running: RunningDaemon, commands: list[Any]) -> None:
    """Do many API calls at once."""
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}
    body = json.dumps({"commands": commands}).encode()
    assert running.request("POST", "/api/batch", body, headers)[0] == 200


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
                    const client = new Client(location.origin.replace("http", "ws")
                        + "/connection/websocket");
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


def test_off(tmp_path: Path) -> None:
    """Where the settings let nobody in, the page says what to write into them."""

    async def scenario() -> None:
        async with browser_page() as page:
            await page.page.goto(f"{running.address}/")
            await text_of(page, "#lock", "open_on_loopback = true")
            assert not await page.page.is_visible("#desk")
            assert await page.axe() == []
            assert page.troubles == []

    with daemon(tmp_path, OFF) as running:
        asyncio.run(scenario())


def test_locked(tmp_path: Path) -> None:
    """With an admin key nothing is shown without it; it is never in an address, nor kept unasked.

    With it the console hears channels that clients may not, on a daemon that lets no client in.
    """
    kept = "Object.values(sessionStorage).concat(Object.values(localStorage), document.cookie)"

    async def scenario() -> None:
        async with browser_page() as page:
            asked: list[str] = []
            page.page.on("request", lambda request: asked.append(request.url))
            await page.page.goto(f"{running.address}/#channel=secret:1")
            await page.page.wait_for_selector("#unlock")
            assert await page.page.evaluate("document.activeElement.id") == "key"
            assert await page.axe() == []
            assert page.troubles == []
            await page.page.keyboard.type("w" * 20)
            await page.page.keyboard.press("Enter")
            assert await text_of(page, "#key-trouble", "not") == "This is not the admin key."
            page.troubles.clear()  # the browser tells of the 401
            await page.page.fill("#key", ADMIN_KEY)
            await page.page.keyboard.press("Enter")
            await page.page.wait_for_selector("#channels li[data-state=subscribed]")
            await asyncio.to_thread(running.publish, "secret:1", {"n": 1})
            await page.next("message", {"n": 1})
            assert ADMIN_KEY not in "".join(await page.page.evaluate(kept))

            # not kept unless wished
            await page.page.reload()
            await page.page.wait_for_selector("#unlock")
            await page.page.fill("#key", ADMIN_KEY)
            await page.page.check("#keep")
            await page.page.press("#key", "Enter")
            await page.page.wait_for_selector("#state[data-state=open]")
            await page.page.reload()
            await page.page.wait_for_selector("#state[data-state=open]")

            # and forgotten
            await page.page.click("#forget")
            await page.page.wait_for_selector("#unlock")
            assert ADMIN_KEY not in "".join(await page.page.evaluate(kept))
            assert [url for url in asked if ADMIN_KEY in url] == []
            assert page.troubles == []

    settings = LOCKED.replace("anonymous = true", "anonymous = false")
    more = "[channels.secret]\nsubscribe = false\n"
    with daemon(tmp_path, settings, more=more) as running:
        asyncio.run(scenario())
        assert ADMIN_KEY not in running.log()


def test_stays_connected(tmp_path: Path) -> None:
    """The page answers pings, so it is not taken for gone."""
    settings = OPEN.replace("[auth]", "ping_interval = 1\npong_timeout = 0.9\n[auth]")

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


CROWD = """
from twisted.internet import task

class Reader:
    peer = "tcp4:203.0.113.9:51324"
    def encode(self, entry): return bytes(entry.data)
    def wake(self, subscription): pass
    def overdue(self, subscription): pass

HOSTILE = "<img/src=x/onerror=alert(1)>"
readers = []

def configure(oni):
    class Odd:
        def __repr__(self):
            return "</code><script>alert(1)</script>"
    def handler(act): pass
    handler.__qualname__ = HOSTILE + "x" * 80
    for phase in ("before", "during", "after"):
        oni.dispatcher.add_event_handler(handler, phase, False, action=HOSTILE, event=Odd())
    for name in [HOSTILE, "x" * 255, *(f"room-{n}" for n in range(998))]:
        readers.append(Reader())
        oni.channels.get(name).subscribe(None, readers[-1])
    def publish():
        for name in (HOSTILE, "x" * 255, "room-7"):
            oni.channels.get(name).publish("tick", {}).addErrback(lambda failure: None)
    task.LoopingCall(publish).start(0.1, now=False)
"""
NASTY = {
    "<b>": "<img src=x onerror=alert(1)>",
    "nested": [None, True, 1.5, ["</pre>"]],
    "long": "x" * 300,
}
STICKS_OUT = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
SLOW = "#slow-table tbody tr:nth-child(3)"
INJECTED = "#desk img, #desk script, #desk b b"


def test_fits(tmp_path: Path) -> None:
    """With 1,000 channels and hostile names and data: nothing sticks out, nothing gets in.

    In each width and colour scheme axe finds nothing, and the browser has nothing to complain of.
    """

    async def is_well(page: Page) -> None:
        for scheme in ("light", "dark"):
            for width in (360, 1440):
                await page.page.emulate_media(color_scheme=scheme)
                await page.page.set_viewport_size({"width": width, "height": 800})
                assert not await page.page.evaluate(STICKS_OUT), (scheme, width)
                assert await page.axe() == [], (scheme, width)
        assert await page.page.locator(INJECTED).count() == 0

    async def scenario() -> None:
        async with browser_page() as page:
            await page.open(running.address)
            await asyncio.to_thread(running.publish, "news", NASTY, "<script>" + "e" * 90)
            await page.next("<script>" + "e" * 90, NASTY)
            await page.page.wait_for_selector(SLOW, timeout=20_000)
            await text_of(page, "#channels-count", "the first 100 of 1,001")
            assert await page.page.locator("#channel-table tbody tr").count() == 100
            await is_well(page)
            await page.page.fill("#find", "ROOM-99")
            await text_of(page, "#channels-count", "9 of 1,001")
            await page.page.fill("#find", "no such channel")
            await text_of(page, "#channels-none", "No channel has this in its name.")
            await page.page.fill("#find", "<img")
            await page.page.click("#channel-table tbody a")
            await page.page.wait_for_selector("#log li:has-text('tick')")
            assert await page.page.locator("#channels li").count() == 1
            assert not await page.page.evaluate(STICKS_OUT)
            assert await page.page.locator(INJECTED).count() == 0
            assert page.troubles == []

    more = '[app]\nconfigure = "crowd:configure"\n'
    with daemon(tmp_path, OPEN, more=more, modules={"crowd.py": CROWD}) as running:
        asyncio.run(scenario())


FOCUS = """() => {
    const one = document.activeElement;
    const style = getComputedStyle(one);
    const { top, bottom, left, right } = one.getBoundingClientRect();
    return {
        name: one.id || one.ariaLabel || one.textContent.trim(),
        outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        seen: bottom > 0 && top < innerHeight && right > 0 && left < innerWidth,
    };
}"""


def test_keyboard(tmp_path: Path) -> None:
    """Everything is reached with the tabulator, in the order that is read, and shows its focus.

    Figures that change meanwhile take no focus away.
    """

    async def scenario() -> None:
        async with browser_page(reduced_motion="reduce") as page:
            await page.open(running.address)
            await asyncio.to_thread(running.publish, "news", 1)
            await page.page.wait_for_selector("#log li")
            await page.page.wait_for_selector("#channel-table tbody tr")
            walked = []
            for _ in range(15):
                await page.page.keyboard.press("Tab")
                found = await page.page.evaluate(FOCUS)
                assert found["outlined"], found
                assert found["seen"], found
                walked.append(found["name"])
            assert walked == [
                "Go to the console",
                "find",
                "sort",
                "channel-box",
                "news",
                "pause",
                "clear",
                "channel",
                "Listen",
                "Listen to news no more",
                "log-box",
                "publish-channel",
                "event",
                "data",
                "Publish",
            ]
            # the row that has the focus would come first now
            await page.page.fill("#channel", "other")
            await page.page.press("#channel", "Enter")
            row = "#channel-table tr[data-key=other]"
            await page.page.focus(f"{row} a")
            commands = [{"publish": {"channel": "other", "data": n}} for n in range(50)]
            await asyncio.to_thread(_batch, running, commands)
            await page.page.wait_for_selector(f"{row}:not(.still)")
            assert (await page.page.evaluate(FOCUS))["name"] == "other"
            await page.page.focus("#data")
            await page.page.fill("#data", '{"by": "keyboard"}')
            await page.page.keyboard.press("Control+Enter")
            await page.next("message", {"by": "keyboard"})
            animations = "document.getAnimations().length"
            assert await page.page.evaluate(animations) == 0
            assert page.troubles == []

    with daemon(tmp_path) as running:
        asyncio.run(scenario())
