"""README's daemon: its two files and its two commands do what is written there."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, first_line: str) -> str:
    """Give the block of README that begins so."""
    (text,) = re.findall(rf"^```{language}\n({first_line}\n.*?)^```", README, re.M | re.S)
    return str(text)


def free_port() -> int:
    """Give a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Run README's command with README's files, on a free port, and give the address."""
    port = free_port()
    settings = block("toml", "# oni.toml").replace("8000", str(port))
    (tmp_path / "shop.py").write_text(block("python", "# shop.py"))
    (tmp_path / "oni.toml").write_text(settings)
    (command,) = re.findall(r"^    twistd (-n oni .*)$", README, re.M)
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("twistd")), *shlex.split(command)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise AssertionError(f"the daemon ended: {process.communicate()[0]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


def publish(address: str, event: str) -> dict[str, object]:
    """Send README's publication under an event name, and give the answer."""
    curl = README[README.index("curl -H") :].partition("\n\n")[0]
    headers = dict(re.findall(r"-H '([^:']+): ([^']+)'", curl))
    (data,) = re.findall(r"-d '(.+?)' ", curl)
    body = json.loads(data)
    assert body["tags"]["event"] == "offer"
    body["tags"]["event"] = event
    request = urllib.request.Request(
        f"{address}/api/publish", json.dumps(body).encode(), headers, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.loads(answer.read()))


def test_the_curl_line_publishes(address: str) -> None:
    """What README publishes is taken, and the answer says so."""
    assert "result" in publish(address, "offer")


def test_the_handler_refuses(address: str) -> None:
    """README's handler refuses another event, with its own code and words."""
    answer = publish(address, "rumour")
    assert answer == {"error": {"code": 400, "message": "this channel takes offers only"}}


def test_the_key_is_asked_for(address: str) -> None:
    """Without the key nothing is published."""
    request = urllib.request.Request(f"{address}/api/publish", b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    assert caught.value.code == 401
