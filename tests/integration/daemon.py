"""A real daemon for a test: started with ``twistd`` on a free port, and ended by its id."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
KEY = "a-key-for-tests-only"
START_WITHIN = 30.0  # seconds, on a busy machine
STOP_WITHIN = 30.0
ENDED = -signal.SIGTERM  # twistd ends by the signal that it was stopped with
GIVEN_UP = 75  # as sysexits.h has it: somebody should try again

OPEN = """\
[server]
listen = ["tcp:{port}:interface=127.0.0.1"]
max_handshakes_per_second = 10000.0
[auth]
anonymous = true
[api]
key = "{key}"
[admin]
open_on_loopback = true
[channels]
publish = true
subscribe = true
event_from = "type"
"""
"""Settings that let everyone on this machine do everything, as fast as tests do it."""

MANY = """\
max_connections = 10000
max_connections_per_address = 10000
drain_timeout = 300.0
[auth]
"""
CROWDED = OPEN.replace("[auth]\n", MANY).replace("127.0.0.1", "127.0.0.1:backlog=1024")
"""The same for tests with many clients: they all come from one address, and at once."""


def free_port() -> int:
    """Give a loopback port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """Give an environment in which Python finds this checkout."""
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NO_PROXY": "*"}


def run_python(folder: Path, *arguments: str, within: float) -> Any:
    """Run this interpreter to its end; give the finished process with all that it wrote."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def read_json_line(process: subprocess.Popen[str], within: float) -> Any:
    """Give what a process says in its next line; None where it says nothing, and then kill it."""
    assert process.stdout is not None
    timer = Timer(within, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    return json.loads(line) if line else None


def twistd(*arguments: str) -> list[str]:
    """Give the command that runs twistd with this interpreter."""
    return [str(Path(sys.executable).with_name("twistd")), *arguments]


def run_twistd(folder: Path, *arguments: str, within: float = START_WITHIN) -> Any:
    """Run twistd to its end; give the finished process with everything it wrote as ``stdout``."""
    return subprocess.run(
        twistd(*arguments),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within,
        check=False,
    )


def wait_until(true: Callable[[], Any], what: str, within: float = 30.0) -> Any:
    """Wait until something is true, and give it."""
    end = time.monotonic() + within
    while True:
        found = true()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {within:g} s")
        time.sleep(0.05)


class RunningDaemon:
    """A daemon that answers.

    Attributes:
        port: Where it listens on loopback.
        process: Its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
        self.process = process
        self.port = port
        self._log_path = log_path

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket(self) -> str:
        """Where a websocket client finds it."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def log(self) -> str:
        """What it has written so far."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Make one HTTP request; give status, body and headers in lower case."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, response.read(), found
        finally:
            connection.close()

    def publish(self, channel: str, data: Any, event: str = "", key: str = KEY) -> Any:
        """Publish over the HTTP API; give what it answers."""
        body: dict[str, Any] = {"channel": channel, "data": data}
        if event:
            body["tags"] = {"event": event}
        status, answer, _ = self.request(
            "POST",
            "/api/publish",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-API-Key": key},
        )
        assert status == 200, (status, answer)
        return json.loads(answer)

    def answers(self) -> bool:
        """Whether it serves its page."""
        try:
            return self.request("GET", "/")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, within: float = STOP_WITHIN) -> int:
        """Send SIGTERM and wait; give the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)


@contextmanager
def daemon(
    folder: Path,
    settings: str = OPEN,
    *,
    modules: Mapping[str, str] | None = None,
    more: str = "",
    options: tuple[str, ...] = (),
    tracebacks: bool = False,
    port: int | None = None,
) -> Iterator[RunningDaemon]:
    """Run a daemon while the block runs.

    Args:
        folder: Where its files go.
        settings: Its settings file; ``{port}`` and ``{key}`` are filled in.
        modules: Other files beside it, by name.
        more: Text at the settings' end.
        options: Options of twistd.
        tracebacks: Whether the log may hold tracebacks at the end.
        port: The port in the settings, a free one if None.
    """
    port = port or free_port()
    text = settings.replace("{port}", str(port)).replace("{key}", KEY) + more
    (folder / "oni.toml").write_text(text, encoding="utf-8")
    for name, content in (modules or {}).items():
        (folder / name).write_text(content, encoding="utf-8")
    log_path = folder / "daemon.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            twistd("-n", "--pidfile=", *options, "oni", "--config", "oni.toml"),
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = RunningDaemon(process, port, log_path)
    try:
        wait_until(
            lambda: process.poll() is not None or running.answers(), "the start", START_WITHIN
        )
        assert process.poll() is None, f"the daemon ended:\n{running.log()}"
        yield running
        if process.poll() is None:
            assert running.stop() == ENDED, f"the daemon did not end well:\n{running.log()}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if not tracebacks:
        assert "Traceback" not in running.log(), running.log()
