"""A real PostgreSQL for tests: in a folder of its own, on a free port, ended by its id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.daemon import free_port

START_WITHIN = 60.0  # seconds, on a busy machine
# The same places as in tools/debian_packages.sh, which installs what is missing.
POSTGRES = ("postgres", "/usr/lib/postgresql/*/bin/postgres")
USERS = ("postgres", "nobody")  # the server refuses to be run by root


def find_programs() -> Path | None:
    """Find the folder of the newest server's programs."""
    on_path = shutil.which(POSTGRES[0])
    if on_path is not None:
        return Path(on_path).parent
    found = [Path(name) for name in glob(POSTGRES[1])]
    return max(found, key=_version).parent if found else None


def _version(program: Path) -> int:
    """Give the number in a path like /usr/lib/postgresql/15/bin/postgres."""
    name = program.parts[-3]
    return int(name) if name.isdigit() else 0


PROGRAMS = find_programs()

needs_postgres = pytest.mark.skipif(
    PROGRAMS is None, reason="PostgreSQL (apt-get install postgresql) is not installed"
)


class Postgres:
    """A server, which runs between :meth:`start` and :meth:`kill` or :meth:`stop`.

    Attributes:
        url: Its address, as SQLAlchemy has it.
    """

    def __init__(self, folder: Path) -> None:
        assert PROGRAMS is not None
        self._programs = PROGRAMS
        self._user = _user()
        self._port = free_port()
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://oni@127.0.0.1:{self._port}/postgres"
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run(
            "initdb", "-D", str(self._data), "-U", "oni", "-A", "trust", "-E", "UTF8",
            "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd="/",
            user=self._user,
            capture_output=True,
            text=True,
            timeout=START_WITHIN,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": 40,
            "deadlock_timeout": "100ms",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self._data), *options],
                cwd="/",
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                with engine.connect():
                    return
            except sa.exc.OperationalError:
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise AssertionError(self._log.read_text()) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill it without a warning."""
        self._end(signal.SIGQUIT)  # which is a crash: it writes nothing more, and leaves no child

    def stop(self) -> None:
        """End it, if it runs."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(START_WITHIN)


def _user() -> str | None:
    """Give the user that runs the server, None for whoever we are."""
    if os.getuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server."""
    # Another user must be able to reach it, which pytest's own folders do not allow.
    with tempfile.TemporaryDirectory(prefix="oni-postgres-") as name:
        server = Postgres(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()
