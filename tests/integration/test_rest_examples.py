"""The REST examples as the how-to page runs them: a process, curl, a websocket and a browser."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.integration.clients import (
    CURL,
    Bare,
    needs_browser,
    needs_curl,
    needs_websockets,
    shows,
    two_pages,
)
from tests.integration.daemon import CHECKOUT, START_WITHIN, environment, free_port, wait_until

PAGE = (CHECKOUT / "docs/how-to/rest_and_websockets.rst").read_text(encoding="utf-8")
EXAMPLE = CHECKOUT / "examples" / "rest"
(ANSWER,) = map(json.loads, re.findall(r"^   (\{\"error.*)$", PAGE, re.MULTILINE))

WORKERS = "on_gunicorn:app"
DAEMON = "oni --config oni.toml"
PLACES = {
    "on_twisted_web.py": ("127.0.0.1:8080", "127.0.0.1:8080/events"),
    "on_klein.py": ("127.0.0.1:8080", "127.0.0.1:8080/events"),
    "on_flask.py": ("127.0.0.1:5000", "127.0.0.1:5001/events"),
    WORKERS: ("127.0.0.1:5000", "127.0.0.1:8000"),
}
PORTS = ("8080", "5000", "5001", "8000")

CUT = '{"push": {"channel": "notes", "unsubscribe": {"code": 2500}}}'
KEEP_SOCKETS = """
    window.sockets = [];
    WebSocket = class extends WebSocket {
        constructor(address) { super(address); sockets.push(this); }
    };
"""

pytestmark = [needs_browser, needs_curl, needs_websockets, pytest.mark.timeout(180)]


class Running:
    """A program that answers.

    Attributes:
        site: Where its page is.
        events: Where its websockets are.
    """

    def __init__(self, site: str, events: str) -> None:
        self.site = f"http://{site}"
        self.events = f"ws://{events}/connection/websocket"

    def ask(self, path: str, body: bytes | None = None, method: str = "") -> tuple[int, Any]:
        """Make a request; give status and answer."""
        request = Request(self.site + path, body, method=method or None)
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            return self.ask("/notes")[0] == 200
        except OSError:
            return False

    def curl(self, number: int) -> Any:
        """Send a note by a command of the page; give the answer."""
        commands = re.findall(r"^   \$ (curl .*)$", PAGE, re.MULTILINE)
        command = commands[number].replace("http://127.0.0.1:8080", self.site)
        assert self.site in command and CURL is not None
        done = subprocess.run(
            [CURL, "--silent", "--show-error", *shlex.split(command)[1:]],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)


@contextmanager
def running(program: str, folder: Path) -> Iterator[Running]:
    """Run a program by the page's command, on free ports; what needs a daemon gets one."""
    ports = {port: free_port() for port in PORTS}
    assert len(set(ports.values())) == len(ports)

    def here(text: str) -> str:
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: str(ports[found[0]]), text)

    for file in EXAMPLE.iterdir():
        if file.suffix in (".py", ".toml", ".html"):
            (folder / file.name).write_text(here(file.read_text(encoding="utf-8")), "utf-8")
    found = Running(*map(here, PLACES[program]))
    with ExitStack() as stack:
        if program == WORKERS:
            daemon = here(command(DAEMON))
            stack.enter_context(process(daemon, folder, lambda: listens(ports["8000"])))
        stack.enter_context(process(here(command(program)), folder, found.answers))
        yield found


def command(end: str) -> str:
    """Give the page's command that ends so."""
    (found,) = re.findall(rf"^   \$ (.*{re.escape(end)})$", PAGE, re.MULTILINE)
    return str(found)


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(command: str, folder: Path, is_there: Callable[[], bool]) -> Iterator[None]:
    """Run a command, as a shell finds it, in a folder, until the block ends."""
    path = environment()["PYTHONPATH"]
    log_path = folder / f"{command.split()[0]}.log"
    with open(log_path, "wb") as log:
        started = subprocess.Popen(
            ["sh", "-c", f"exec env {command.replace('PYTHONPATH=.', f'PYTHONPATH=.:{path}')}"],
            cwd=folder,
            env={**environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: started.poll() is not None or is_there(), "the start", START_WITHIN)
        assert started.poll() is None, log_path.read_text(encoding="utf-8")
        yield
        started.terminate()
        started.wait(30)
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
    said = log_path.read_text(encoding="utf-8")
    assert "Traceback" not in said, said


def test_readme() -> None:
    """README's commands are some of the page's."""
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^    cd examples/rest\n(?:    .*\n)+", readme, re.MULTILINE)
    for command in block.splitlines():
        assert f"   $ {command.strip()}\n" in PAGE


@pytest.mark.parametrize("program", ["on_twisted_web.py", "on_klein.py", "on_flask.py"])
def test_three_steps(program: str, tmp_path: Path) -> None:
    """What is posted is shown by every page, and told to a websocket; what is refused is not."""
    with running(program, tmp_path) as example:
        asyncio.run(see_in_a_browser(example))
        hear_by_hand(example)


def test_several_processes(tmp_path: Path) -> None:
    """What Flask's processes keep, the daemon beside them tells."""
    with running(WORKERS, tmp_path) as example:
        hear_by_hand(example)


async def see_in_a_browser(example: Running) -> None:
    """Open two pages; send notes by curl and by both of them."""
    async with two_pages() as (ann, bob):
        for page in (ann, bob):
            await page.goto(example.site)
            await shows(page, "#state", "live")
            await shows(page, "#notes", "")

        assert await asyncio.to_thread(example.curl, 0) == {"id": 1, "text": "Hello"}
        for page in (ann, bob):
            await shows(page, "#notes", "Hello delete")
        refused = await asyncio.to_thread(example.curl, 1)
        assert refused == ANSWER

        await ann.fill("#text", "<b>LOUD</b>")
        await ann.press("#text", "Enter")
        for page in (ann, bob):
            await shows(page, "#notes", "Hello delete", "<b>LOUD</b> delete")
        await bob.fill("#text", "LOUDER")
        await bob.press("#text", "Enter")
        await shows(bob, "#trouble", ANSWER["error"])
        await bob.click("#notes li:first-child button")
        for page in (ann, bob):
            await shows(page, "#notes", "<b>LOUD</b> delete")
        await shows(bob, "#trouble", "")


def hear_by_hand(example: Running) -> None:
    """Connect, subscribe, post; then all that may be asked of a resource."""
    from websockets.sync.client import connect

    with connect(example.events, proxy=None, compression=None, open_timeout=30) as websocket:
        client = Bare(websocket)

        def publication() -> tuple[int, Any, Any]:
            while (said := client.next()) == {}:
                websocket.send("{}")  # a ping's answer
            told = said["push"]["pub"]
            return told["offset"], told["tags"]["event"], told["data"]["impacted_records"]

        assert "connect" in client.ask(id=1, connect={})
        assert "subscribe" in client.ask(id=2, subscribe={"channel": "notes"})
        status, note = example.ask("/notes", b'{"text": "Again"}')
        assert (status, note) == (201, {"id": note["id"], "text": "Again"})
        assert example.ask("/notes")[1][-1] == note
        first, *told = publication()
        assert told == ["note_create", [{"new": note}]]

        assert example.ask("/notes", b'{"text": "AGAIN"}') == (403, ANSWER)
        path = f"/notes/{note['id']}"
        assert example.ask(path) == (200, note)
        assert example.ask(path, method="DELETE") == (200, note)
        assert publication() == (first + 1, "note_delete", [{"old": note}])

        note["id"] += 1  # an id is given once
        assert example.ask("/notes", b'{"text": "Again"}') == (201, note)
        assert publication() == (first + 2, "note_create", [{"new": note}])

    nothing = {"error": "there is no such note"}
    assert example.ask(path, method="DELETE") == (404, nothing)
    for wrong in (path, "/notes/x", "/notes/%C3%BC", "/notes/" + "9" * 30):
        assert example.ask(wrong) == (404, nothing)
    with pytest.raises(HTTPError) as below:
        urlopen(f"{example.site}/notes/{note['id']}/x", timeout=60)
    with below.value as error:
        assert error.code == 404
    for body in (b'{"text": ""}', b"[]", b"{", b'{"text": "\xff"}'):
        status, answer = example.ask("/notes", body)
        assert (status, list(answer)) == (400, ["error"])


def test_gone_before_the_answer(tmp_path: Path) -> None:
    """A client that asks, and is gone before the answer, is not worth a word in the log."""
    at_once = struct.pack("ii", 1, 0)  # by a reset
    with running("on_twisted_web.py", tmp_path) as example:
        place = example.site.removeprefix("http://")
        host, port = place.split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port)), timeout=30) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                client.sendall(f"GET /notes HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        assert example.answers()


def test_page_misses_nothing(tmp_path: Path) -> None:
    """A note that comes while a page loads is shown, and so is what becomes of it after a gap."""

    async def scenario() -> None:
        async with two_pages() as (page, other):
            heard = asyncio.Event()

            def opened(socket: Any) -> None:
                socket.on("framereceived", lambda frame: "note_create" in frame and heard.set())

            async def list_late(route: Any) -> None:
                response = await route.fetch()  # the notes as they are now: none
                await asyncio.to_thread(example.curl, 0)
                await heard.wait()
                await route.fulfill(response=response)

            page.on("websocket", opened)
            await page.add_init_script(KEEP_SOCKETS)
            await page.route("**/notes", list_late, times=1)
            await page.goto(example.site)
            await shows(page, "#state", "live")
            await shows(page, "#notes", "Hello delete")

            await page.route("**/notes", lambda route: route.abort(), times=1)
            await page.evaluate(f"sockets.at(-1).onmessage({{data: '{CUT}'}})")
            await page.wait_for_function("sockets.length >= 2")  # it comes back, and cannot list
            await other.goto(example.site)
            await other.click("#notes button")
            await shows(other, "#notes", "")
            await shows(page, "#notes", "")
            await shows(page, "#state", "live")

    with running("on_twisted_web.py", tmp_path) as example:
        asyncio.run(scenario())
