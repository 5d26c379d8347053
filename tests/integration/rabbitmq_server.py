"""A real RabbitMQ for tests: in a folder of its own, on free ports, ended by its id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.daemon import free_port

START_WITHIN = 120.0  # seconds, on a busy machine
# The same places as in tools/debian_packages.sh, which installs what is missing.
RABBITMQ = ("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server")


def find_program() -> str | None:
    """Find the server itself: what Debian has on the path wants to be root or its own user."""
    return shutil.which(RABBITMQ[1]) or shutil.which(RABBITMQ[0])


PROGRAM = find_program()
EPMD = shutil.which("epmd")

needs_rabbitmq = pytest.mark.skipif(
    PROGRAM is None or EPMD is None,
    reason="RabbitMQ (apt-get install rabbitmq-server) is not installed",
)


class RabbitMqServer:
    """A server, which runs between :meth:`start` and :meth:`kill` or :meth:`stop`.

    All of its processes are one group, so that killing it leaves none behind.

    Attributes:
        port: Where it listens on loopback.
        url: Its address.
        process: The running process; its group has the same number.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "out"
        self._folder = folder
        self._names: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(folder),  # the cookie
            "RABBITMQ_NODENAME": f"oni{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            # Few threads, which do not turn while they wait; and no more than loopback.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
                "-kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }
        (folder / "plugins").write_text("[].\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start it."""
        assert PROGRAM is not None and EPMD is not None
        with self._log.open("ab") as log:
            if self._names is None:
                # Else the server would start one that outlives it.
                self._names = subprocess.Popen(
                    [EPMD], env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self.process = subprocess.Popen(
                [PROGRAM],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        assert self.process is not None
        deadline = time.monotonic() + START_WITHIN
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self._log.read_text(errors="replace"))
            time.sleep(0.1)

    def answers(self) -> bool:
        """Say whether it speaks AMQP."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as asking:
                asking.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(asking.recv(1))
        except OSError:
            return False

    def kill(self) -> None:
        """Kill all of its processes without a warning."""
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(START_WITHIN)

    def stop(self) -> None:
        """Kill it, if it runs, and what knows the names of nodes."""
        self.kill()
        names, self._names = self._names, None
        if names is not None:
            names.kill()
            names.wait(START_WITHIN)
