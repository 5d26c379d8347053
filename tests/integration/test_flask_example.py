"""The Flask example as its readers run it: a process of its own, driven over HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "flask"


@contextmanager
def served(command: list[str]) -> Iterator[str]:
    """Run a server, and give the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield address[0]
                break
        else:
            pytest.fail(f"it ended: {seen}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def ask(address: str, body: Any = None) -> tuple[int, Any]:
    """Send a request, a POST where there is a body; give status and answer."""
    request = urllib.request.Request(address, headers={"Content-Type": "application/json"})
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Run the example with its own server, by its one command and a free port."""
    with served(["-W", "error::DeprecationWarning", str(EXAMPLE / "app.py"), "--port", "0"]) as at:
        yield at


def test_post_fires_and_get_shows(address: str) -> None:
    """The answer to a POST has what every handler returned; a GET shows what each did."""
    status, answer = ask(f"{address}/users", {"name": "bob", "role": "admin"})
    assert status == 201
    assert answer == {
        "user": {"name": "bob", "role": "admin"},
        "done": ["mailed bob", "told the admins of bob", "archived bob"],
    }
    status, happened = ask(f"{address}/happened")
    assert status == 200
    about_bob = [line for line in happened if line.endswith(" bob")]
    assert about_bob[0] == "created bob"
    assert set(about_bob) == {
        "created bob",
        "mailed bob",
        "told the admins of bob",
        "archived bob",
    }


def test_match_spec(address: str) -> None:
    """A handler that hears of admins only is not called for others."""
    status, answer = ask(f"{address}/users", {"name": "susan"})
    assert (status, answer["done"]) == (201, ["mailed susan", "archived susan"])


def test_refused(address: str) -> None:
    """A handler's refusal reaches the client, and the later phases do not run."""
    assert ask(f"{address}/users", {"name": "eve"})[0] == 201
    status, answer = ask(f"{address}/users", {"name": "eve"})
    assert (status, answer) == (409, {"error": "there is already a user eve"})
    assert ask(f"{address}/happened")[1].count("mailed eve") == 1


def test_published(address: str) -> None:
    """A user who was created is published on the channel, and one who was refused is not."""
    user = {"name": "mallory", "role": "admin"}
    assert [ask(f"{address}/users", user)[0] for _ in range(2)] == [201, 409]
    status, published = ask(f"{address}/published")
    assert status == 200
    assert published[0] == {"event": "user_created", "data": user}
    assert [told["data"]["name"] for told in published].count("mallory") == 1


def test_bad_input(address: str) -> None:
    """A body that is no user is refused with what to send."""
    assert ask(f"{address}/users", ["bob"]) == (400, {"error": "send a JSON object with a name"})


def test_many_at_once(address: str) -> None:
    """Requests in several threads at once all get their own answer."""
    names = [f"user{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: ask(f"{address}/users", {"name": name}), names))
    assert [status for status, _ in answers] == [201] * 8
    assert [answer["done"][0] for _, answer in answers] == [f"mailed {name}" for name in names]


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["plain", "preload"])
def test_gunicorn(preload: list[str]) -> None:
    """Two forked workers with the example's settings both answer, also with a preloaded app."""
    settings = ["--config", str(EXAMPLE / "gunicorn.conf.py"), "--chdir", str(EXAMPLE)]
    command = ["-m", "gunicorn", *settings, "--bind", "127.0.0.1:0", *preload, "app:app"]
    with served(command) as address, ThreadPoolExecutor(4) as pool:
        names = [f"user{number}" for number in range(8)]
        answers = list(pool.map(lambda name: ask(f"{address}/users", {"name": name}), names))
    assert [status for status, _ in answers] == [201] * 8
