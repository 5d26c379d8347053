"""The example of an Oni in a site of one's own, as its readers run it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clients import needs_websockets
from tests.integration.daemon import (
    CHECKOUT,
    ENDED,
    START_WITHIN,
    environment,
    free_port,
    twistd,
    wait_until,
)

pytestmark = needs_websockets


class Example:
    """The running example.

    Attributes:
        address: Host and port.
        process: Its process.
    """

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address = address
        self.process = process
        self._is_stopping = False

    def stop(self) -> None:
        """Let it end, once."""
        if not self._is_stopping:
            self._is_stopping = True
            self.process.send_signal(signal.SIGTERM)


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    """Run the example by its one command, on a free port."""
    folder = tmp_path / "example"
    shutil.copytree(CHECKOUT / "examples" / "embedded", folder)
    port = free_port()
    process = subprocess.Popen(
        twistd("--pidfile=", "-ny", "site.py"),
        cwd=folder,
        env={**environment(), "SITE_LISTEN": f"tcp:{port}:interface=127.0.0.1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def listens() -> bool:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, "the site", START_WITHIN)
        example = Example(f"127.0.0.1:{port}", process)
        yield example
        example.stop()
        told, _ = process.communicate(timeout=30)
        assert process.returncode == ENDED, told
        assert "Traceback" not in told, told
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ask(address: str, body: bytes | None = None, **headers: str) -> bytes:
    """Make a request; give the body of the answer."""
    request = urllib.request.Request(
        address, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def test_example(example: Example) -> None:
    """Its page answers; a websocket hears what page and API publish, and is told to leave."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    site = example.address
    assert ask(f"http://{site}/") == b"The shop\n"
    with connect(
        f"ws://{site}/events/connection/websocket", proxy=None, compression=None
    ) as client:

        def told() -> dict[str, object]:
            found = json.loads(client.recv(timeout=30))
            assert isinstance(found, dict)
            return found

        client.send(json.dumps({"id": 1, "connect": {}}))
        assert "connect" in told()
        client.send(json.dumps({"id": 2, "subscribe": {"channel": "shop"}}))
        assert "subscribe" in told()
        assert ask(f"http://{site}/basket", b"pear") == b"thank you\n"
        found = json.dumps(told()["push"])
        assert "article_added" in found and "pear" in found
        key = "change-this-before-others-see-it"
        body = json.dumps({"channel": "shop", "data": {"text": "x" * 40000}}).encode()
        answer = ask(f"http://{site}/events/api/publish", body, X_API_Key=key)
        assert "result" in json.loads(answer)
        assert "x" * 40000 in json.dumps(told()["push"])
        example.stop()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3001
