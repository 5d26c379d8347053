"""A real Redis for tests: in a folder of its own, on a free port, ended by its id."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.integration.daemon import free_port

START_WITHIN = 60.0  # seconds, on a busy machine
# The same programs as in tools/debian_packages.sh, which installs what is missing.
PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")

needs_redis = pytest.mark.skipif(
    PROGRAM is None, reason="Redis (apt-get install redis-server) is not installed"
)


class RedisServer:
    """A server, which runs between :meth:`start` and :meth:`kill` or :meth:`stop`.

    Attributes:
        port: Where it listens on loopback.
        url: Its address.
        process: The running process.
        settings: What it is started with the next time, as in its configuration.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"
        self.settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            **settings,
        }

    def client(self) -> redis.Redis:
        """Give a client. Its answers are texts."""
        return redis.Redis.from_url(self.url, protocol=2, decode_responses=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        words = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_WITHIN
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    ended = self.process.poll() is not None
                    if ended or time.monotonic() > deadline:
                        raise AssertionError(self._log.read_text()) from None
                    time.sleep(0.02)

    def kill(self) -> None:
        """Kill it without a warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it, if it runs."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(START_WITHIN)


@contextmanager
def running_redis(**settings: str) -> Iterator[RedisServer]:
    """Run a server.

    Args:
        settings: As in its configuration, with an underscore for each dash.
    """
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="oni-redis-") as name:
        server = RedisServer(Path(name), **named)
        try:
            server.start()
            yield server
        finally:
            server.stop()
