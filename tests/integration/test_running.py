"""The daemon under a supervisor: ready, watched, stopped, and what it does when all hangs."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.daemon import (
    ENDED,
    GIVEN_UP,
    KEY,
    OPEN,
    RunningDaemon,
    daemon,
    environment,
    free_port,
    twistd,
    wait_until,
)

APP = '[app]\nconfigure = "shop:configure"\n'


def timed(**server: object) -> str:
    """Give the open settings with some more of ``[server]``."""
    more = "".join(f"{name} = {value}\n" for name, value in server.items())
    return OPEN.replace("[auth]", f"{more}[auth]")


def publish_in_background(running: RunningDaemon, channel: str) -> None:
    """Publish over the HTTP API, and wait for no answer."""
    body = json.dumps({"channel": channel, "data": 1}).encode()
    head = (
        f"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", running.port), 10)
    connection.sendall(head.encode() + body)
    _kept.append(connection)


_kept: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    """Close what was left open."""
    yield
    while _kept:
        _kept.pop().close()


class Supervisor:
    """What systemd is to a service: a socket that it tells its state to."""

    def __init__(self) -> None:
        self.name = f"@oni-{uuid4()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.name[1:])

    def listen(self, seconds: float) -> list[str]:
        """Listen until nothing was told for so long, at most ten times that; give what came."""
        end = time.monotonic() + 10 * seconds
        found = []
        self.socket.settimeout(seconds)
        while time.monotonic() < end:
            try:
                found.append(self.socket.recv(4096).decode())
            except TimeoutError:
                break
        return found

    def wait_for(self, state: str) -> None:
        """Listen until a state is told."""
        self.socket.settimeout(30)
        while state not in self.socket.recv(4096).decode().splitlines():
            pass


@contextmanager
def supervised(monkeypatch: pytest.MonkeyPatch, watchdog: float) -> Iterator[Supervisor]:
    """Be the supervisor of the daemons that are started in the block."""
    supervisor = Supervisor()
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.name)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(watchdog * 1e6)))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    try:
        yield supervisor
    finally:
        supervisor.socket.close()


BLOCKING = """
import time

def blocking_handler(act):
    print("blocking", flush=True)
    time.sleep(60)

def configure(oni):
    oni.dispatcher.add_event_handler(blocking_handler, "before", action="publish")
"""


def test_a_blocked_reactor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: it is noticed and named, the watchdog starves, and the supervisor ends the process."""
    settings = OPEN + "[running]\nstall_timeout = 0.5\n"
    with (
        supervised(monkeypatch, watchdog=1.0) as supervisor,
        daemon(
            tmp_path, settings, modules={"shop.py": BLOCKING}, more=APP, tracebacks=True
        ) as running,
    ):
        supervisor.wait_for("READY=1")
        supervisor.wait_for("WATCHDOG=1")
        publish_in_background(running, "news")
        wait_until(lambda: "has not turned" in running.log(), "the watchdog")
        assert "blocking_handler" in re.search("it is blocked in (.*)", running.log())[1]  # type: ignore[index]
        assert "\tthread MainThread:" in running.log()
        supervisor.listen(0.2)  # what was told before
        assert supervisor.listen(1.5) == []  # systemd would wait for one second
        running.process.send_signal(signal.SIGABRT)  # as it does then
        assert running.process.wait(30) == -signal.SIGABRT
        assert running.log().count("has not turned") == 1


def test_a_blocked_reactor_without_a_supervisor(tmp_path: Path) -> None:
    """F14: where it is set, the process ends by itself, so that it can be started anew."""
    settings = OPEN + "[running]\nstall_timeout = 0.5\nexit_when_stalled = true\n"
    with daemon(
        tmp_path, settings, modules={"shop.py": BLOCKING}, more=APP, tracebacks=True
    ) as running:
        publish_in_background(running, "news")
        assert running.process.wait(30) == GIVEN_UP
        assert "blocking_handler" in running.log()


def test_under_a_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready is told when it answers; the watchdog is fed; the end is told, with its time."""
    with (
        supervised(monkeypatch, watchdog=0.4) as supervisor,
        daemon(tmp_path) as running,
    ):
        supervisor.wait_for("READY=1")
        assert running.request("GET", "/readyz")[0] == 200
        for _ in range(3):
            supervisor.wait_for("WATCHDOG=1")
        running.process.send_signal(signal.SIGTERM)
        supervisor.wait_for("STOPPING=1")
        supervisor.wait_for("EXTEND_TIMEOUT_USEC=5000000")
        assert running.process.wait(30) == ENDED


def test_another_process_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was meant for another process is not fed."""
    with supervised(monkeypatch, watchdog=0.2) as supervisor:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        with daemon(tmp_path):
            supervisor.wait_for("READY=1")
            assert "WATCHDOG=1" not in supervisor.listen(0.6)


HANGING = """
from twisted.internet.defer import Deferred

def hanging_handler(act):
    print("hanging", flush=True)
    return Deferred(lambda d: None)

def configure(oni):
    oni.dispatcher.add_event_handler(hanging_handler, "before", action="publish")
"""


def test_a_handler_that_never_returns(tmp_path: Path) -> None:
    """F12, F13: the daemon ends within its bound, names what hung, and says so by its code."""
    with daemon(
        tmp_path, timed(stop_timeout=1.0), modules={"shop.py": HANGING}, more=APP, tracebacks=True
    ) as running:
        publish_in_background(running, "news")
        wait_until(lambda: "hanging" in running.log(), "the handler")
        begun = time.monotonic()
        assert running.stop() == GIVEN_UP, running.log()
        assert time.monotonic() - begun < 1.0 + 3.0
        assert "oni did not stop within 1.0 s" in running.log()
        assert "Oni gave up on: oni" in running.log()


def test_a_second_signal(tmp_path: Path) -> None:
    """F13: whoever asks twice does not wait."""
    with daemon(
        tmp_path, timed(stop_timeout=50.0), modules={"shop.py": HANGING}, more=APP, tracebacks=True
    ) as running:
        publish_in_background(running, "news")
        wait_until(lambda: "hanging" in running.log(), "the handler")
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Oni stops" in running.log(), "the first signal")
        time.sleep(0.3)  # within that it would be the same one, sent to a whole group
        begun = time.monotonic()
        assert running.stop() == GIVEN_UP
        assert time.monotonic() - begun < 5.0
        assert "a second time" in running.log()


LOST = """
import time
from oni.dispatcher import in_thread

def sleep(act):
    if act.channel == "hang":
        time.sleep(3600)

hang = in_thread(sleep)

def configure(oni):
    oni.dispatcher.add_event_handler(hang, "before", timeout=0.2, action="publish")
"""


def test_eleven_lost_threads(tmp_path: Path) -> None:
    """F11: hung threads are replaced, so that others go on; with too many the daemon ends."""
    with daemon(
        tmp_path, timed(stop_timeout=1.0), modules={"shop.py": LOST}, more=APP, tracebacks=True
    ) as running:
        for number in range(10):
            publish_in_background(running, "hang")
            wait_until(lambda n=number: lost(running) == n + 1, "the loss of a thread")
        assert "result" in running.publish("news", 1)
        publish_in_background(running, "hang")
        assert running.process.wait(30) == GIVEN_UP, running.log()
        assert "11 threads of blocking handlers never returned" in running.log()


def lost(running: RunningDaemon) -> int:
    """Read how many threads are lost."""
    return int(figure(running, "oni_lost_threads"))


def figure(running: RunningDaemon, name: str) -> float:
    """Read a figure."""
    status, text, _ = running.request("GET", "/metrics")
    assert status == 200
    (found,) = re.findall(rf"^{name} (\S+)$", text.decode(), re.MULTILINE)
    return float(found)


def is_blocked(port: int) -> bool:
    """Say whether the daemon gives no answer for half a second."""
    with socket.create_connection(("127.0.0.1", port), 10) as probe:
        probe.settimeout(0.5)
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            return not probe.recv(1)
        except TimeoutError:
            return True


TALKING = """
import time

def configure(oni):
    def talk(act):
        if act.channel == "hang":
            time.sleep(60)
        for number in range(2000):
            print("x" * 100)
    oni.dispatcher.add_event_handler(talk, "before", action="publish", use_weakref=False)
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_log_that_nobody_reads(tmp_path: Path, hangs: bool) -> None:
    """F29: with standard output and error full, the daemon answers, counts, and ends in time.

    Also where a handler blocks the reactor, and what hangs can be told to nobody.
    """
    port = free_port()
    text = timed(stop_timeout=2.0).replace("{port}", str(port)).replace("{key}", KEY)
    (tmp_path / "oni.toml").write_text(f"{text}[log]\nmax_waiting = 50\n{APP}", encoding="utf-8")
    (tmp_path / "shop.py").write_text(TALKING, encoding="utf-8")
    reading, writing = os.pipe()
    process = subprocess.Popen(
        twistd("-n", "--pidfile=", "oni", "--config", "oni.toml"),
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    running = RunningDaemon(process, port, tmp_path / "none.log")
    try:
        wait_until(running.answers, "the start", 30)
        for _ in range(3):
            running.publish("news", 1)
        assert figure(running, "oni_log_dropped_total") > 3000
        assert running.publish("news", 1)
        if hangs:
            publish_in_background(running, "hang")
            wait_until(lambda: is_blocked(port), "the handler")
        begun = time.monotonic()
        assert running.stop() == (GIVEN_UP if hangs else ENDED)
        assert time.monotonic() - begun < 2.0 + 1.0 + 4.0
    finally:
        os.close(reading)
        if process.poll() is None:
            process.kill()
            process.wait()


def test_json_lines(tmp_path: Path) -> None:
    """Every line of the log is JSON, and no secret is in it, whatever a client sends."""
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlMTIz"
    more = '[log]\nformat = "json"\nlevel = "debug"\n'
    with daemon(tmp_path, more=more) as running:
        running.publish("news", "payload")
        for path in (f"/connection/sse/news?token={token}", f"/x?token={token}", f"/{token}"):
            running.request("GET", path, headers={"X-API-Key": KEY, "Origin": "https://a.example"})
        running.request("GET", "/%0d%0aforged", headers={"User-Agent": token})
        assert running.stop() == ENDED
        lines = running.log().splitlines()
    events = [json.loads(line) for line in lines]
    assert "oni_version_listens_on_listen" in [event["event"] for event in events]
    assert events[-1]["message"] == "Server Shut Down."
    assert token[-10:] not in running.log()
    assert KEY not in running.log()


@pytest.mark.timeout(120)
def test_a_signal_during_the_start(tmp_path: Path) -> None:
    """F30: SIGTERM at any moment of the start ends the process, cleanly and soon."""
    lot = random.Random(30)
    delays = [lot.uniform(0.0, 1.2) for _ in range(20)]
    problems: list[Any] = []

    def start_and_stop(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        text = OPEN.replace("{port}", str(free_port())).replace("{key}", KEY)
        (folder / "oni.toml").write_text(text, encoding="utf-8")
        log = folder / "log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                twistd("-n", "oni", "--config", "oni.toml"),
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            time.sleep(delays[number])
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        told = log.read_text(encoding="utf-8")
        left = sorted(path.name for path in folder.iterdir())
        if code != ENDED or "Traceback" in told:
            problems.append((delays[number], code, told, left))

    for first in range(0, 20, 4):
        threads = [
            threading.Thread(target=start_and_stop, args=(n,)) for n in range(first, first + 4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []
