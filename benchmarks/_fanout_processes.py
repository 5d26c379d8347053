"""Starts the processes of the fan-out benchmark, each on its core, and ends each by its id."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Cores",
    "LoadClient",
    "ProcessorTime",
    "ServerProcess",
    "TrialError",
    "compile_c",
    "free_port",
    "raise_file_limit",
    "running",
]

_START_WITHIN = 30.0  # seconds
_STOP_WITHIN = 3.0
_COMPILE_WITHIN = 60.0


class TrialError(Exception):
    """A server or the load client did not do its part."""


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """How long a process has run, in seconds.

    Attributes:
        used: Processor time that it had.
        waited: Time in which it could have run, but its core was taken.
    """

    used: float
    waited: float


class Cores:
    """Which cores the processes are pinned to, and how they come before others there.

    Attributes:
        server: The server's.
        client: The load client's.
        nice: The niceness of both; below 0 they come before other processes.
    """

    def __init__(self, nice: int = 0) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        self.server, self.client = allowed[0], allowed[-1]
        self.nice = nice

    def __str__(self) -> str:
        """Say which."""
        if self.server == self.client:
            return "server and load client share the only core: the figures say little"
        nice = f", both with niceness {self.nice}" if self.nice else ""
        return f"server pinned to core {self.server}, load client to core {self.client}{nice}"

    def settle(self, core: int) -> Callable[[], None]:
        """Give what a new process does first: go to its core."""

        def settle() -> None:
            os.sched_setaffinity(0, {core})
            if self.nice:
                os.setsid()
                os.nice(self.nice)
                _nice_session(self.nice)

        return settle


def _nice_session(nice: int) -> None:
    """Make this session nice, too: Linux may share out its time by session first."""
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write(str(nice))
    except OSError:  # there is no such thing here
        pass


def raise_file_limit() -> int:
    """Let this process and its children open as many files as they may; say how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Give a loopback port on which nobody listens now."""
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compile_c(source: Path, folder: Path) -> Path:
    """Compile a program with the system's C compiler.

    Raises:
        TrialError: There is none, or it fails.
    """
    made = folder / source.stem
    try:
        subprocess.run(
            ["cc", "-O2", "-o", str(made), str(source)],
            check=True,
            capture_output=True,
            text=True,
            timeout=_COMPILE_WITHIN,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise TrialError(f"{source.name} cannot be compiled: {said}") from error
    return made


@contextmanager
def running(
    command: Sequence[str],
    settle: Callable[[], None],
    log: Path,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the block runs; then end it, by its id."""
    with open(log, "wb") as written:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            stderr=written,
            preexec_fn=settle,
            **{"stdin": subprocess.DEVNULL, "stdout": written, **options},
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class ServerProcess:
    """What there is to see of a running server.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, probe: int, log: Path) -> None:
        """Look at a process.

        Args:
            process: The server's.
            port: Where it listens on loopback.
            probe: The port of its loop's probe, 0 for none.
            log: What it writes.
        """
        self.port = port
        self._process = process
        self._probe = probe
        self._log = log

    def wait_until_it_listens(self) -> None:
        """Wait for its port.

        Raises:
            TrialError: It ends, or takes too long.
        """
        end = time.monotonic() + _START_WITHIN
        while time.monotonic() < end and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise TrialError(f"the server does not listen: {self.last_words()}")

    def last_words(self) -> str:
        """Give the last line that it wrote."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:300]

    def resident_bytes(self) -> int:
        """Say how much memory it has in RAM, exactly (/proc's ``status`` rounds per core)."""
        with open(f"/proc/{self._process.pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024
        raise TrialError("the system does not say how much memory a process has")

    def processor_time(self) -> ProcessorTime:
        """Say how much processor time its threads have had, and how long they waited for it."""
        used = waited = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            try:
                spent, delayed, _ = (task / "schedstat").read_text(encoding="ascii").split()
            except FileNotFoundError:  # a thread that has just ended
                continue
            used += int(spent)
            waited += int(delayed)
        return ProcessorTime(used / 1e9, waited / 1e9)

    def stalls(self) -> dict[str, float] | None:
        """Give the loop's worst stalls since the last time, in seconds: ``wall`` and ``cpu``.

        Returns:
            They, or None where the server has no probe.

        Raises:
            TrialError: The probe does not answer.
        """
        if not self._probe:
            return None
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(2)
            asking.connect(("127.0.0.1", self._probe))
            for _ in range(5):
                try:
                    asking.send(b"reset")
                    return dict(json.loads(asking.recv(1000)))
                except (ConnectionError, TimeoutError):
                    time.sleep(0.05)
        raise TrialError(f"the loop's probe does not answer: {self.last_words()}")


class LoadClient:
    """The load client's process; ``fanout/load.c`` tells the commands."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Talk to a process whose standard input and output are pipes."""
        self._process = process

    def do(self, command: str, within: float) -> dict[str, Any]:
        """Give a command, and wait for what comes of it.

        Args:
            command: The command.
            within: Seconds in which it must be done.

        Raises:
            TrialError: It fails or takes too long, or events were lost or out of order.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise TrialError(f"{command}: the load client is gone") from error
        answer = _read_line(self._process.stdout.fileno(), time.monotonic() + within)
        if answer is None:
            raise TrialError(f"{command}: no end within {within:g} s")
        found: dict[str, Any] = json.loads(answer) if answer else {"error": "ended"}
        if "error" in found:
            raise TrialError(f"{command}: {found['error']}")
        if found.get("faults"):
            raise TrialError(f"{command}: {found['faults']} events lost or out of order")
        return found


def _read_line(pipe: int, end: float) -> bytes | None:
    """Read up to the end of a line; None if that does not come in time."""
    read = b""
    while not read.endswith(b"\n"):
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            return None
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        read += data
    return read
