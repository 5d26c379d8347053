"""The examples of carriers as their readers run them: a process of its own, real clients."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any

from websockets.sync.client import connect

from tests.integration.daemon import CHECKOUT, environment


def check_example(name: str) -> None:
    """See that what is posted to an example reaches all websockets, whole and in order."""
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "examples" / name / "app.py"), "--port", "0"],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = next((line for line in process.stdout if line.startswith("http://")), "")
        assert address, "it ended"
        _check(address.strip())
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _check(address: str) -> None:
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert b"WebSocket" in answer.read()
    events = address.replace("http", "ws") + "events"
    with connect(events, proxy=None) as one:
        _see_all(address, one)
        with connect(events, proxy=None) as two:
            _see_all(address, one, two)
        _see_all(address, one)


def _see_all(address: str, *sockets: Any) -> None:
    """Post until each websocket is subscribed, then once more, and read all of it."""
    heard: list[list[int]] = [[] for _ in sockets]
    last = 0
    for numbers, socket in zip(heard, sockets, strict=True):
        while not numbers:
            last = _post(address)
            try:
                numbers.append(_number(socket.recv(timeout=0.5)))
            except TimeoutError:
                assert last < 100, "nothing is heard"
    last = _post(address)
    for numbers, socket in zip(heard, sockets, strict=True):
        while numbers[-1] != last:
            numbers.append(_number(socket.recv(timeout=30)))
        assert numbers == list(range(numbers[0], last + 1))


_posted = 0


def _post(address: str) -> int:
    """Create a user with the next number."""
    global _posted
    _posted += 1
    request = urllib.request.Request(
        f"{address}users",
        json.dumps({"number": _posted}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
        assert json.load(answer)["offset"] > 0
    return _posted


def _number(message: Any) -> int:
    event = json.loads(message)
    assert event["type"] == "event" and event["payload"]["name"] == "user_created"
    return int(event["payload"]["data"]["number"])
