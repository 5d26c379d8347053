"""A process dies, or is stopped, with a claim in its hands: another one finishes, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from oni.errors import LedgerUnavailableError
from oni.ledger.redis import RedisStore
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from oni.values import Handling, LedgerEvent
from tests.integration.daemon import CHECKOUT, environment
from tests.integration.postgres import needs_postgres, running_postgres
from tests.integration.redis_server import RedisServer, needs_redis, running_redis

WITHIN = 30.0  # seconds, on a busy machine
RESCUED_WITHIN = 2.0
TRIES = 5

pytestmark = pytest.mark.timeout(120)


class Worker:
    """A process with a ledger."""

    def __init__(self, url: str, lease: float, mode: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.ledger_worker", url, str(lease), mode],
            cwd=CHECKOUT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """Give the next line."""
        assert self.process.stdout is not None
        line = ""

        def read() -> None:
            nonlocal line
            line = self.process.stdout.readline()  # type: ignore[union-attr]

        reader = Thread(target=read, daemon=True)
        reader.start()
        reader.join(WITHIN)
        assert line, "it said nothing"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def go_on(self) -> None:
        """Let it do its work."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def end(self) -> None:
        """End it, also a stopped one."""
        self.process.kill()
        self.process.communicate()


class Place:
    """A store with processes at it."""

    def __init__(self, url: str, store: SqlAlchemyStore | RedisStore) -> None:
        self.url = url
        self.store = store
        self.store.open()
        self.workers: list[Worker] = []

    def work(self, lease: float, mode: str) -> Worker:
        """Start a process."""
        self.workers.append(Worker(self.url, lease, mode))
        assert self.workers[-1].hear() == {"started": True}
        return self.workers[-1]

    def admit(self, key: str) -> None:
        """Admit a key; whoever works holds the file for a moment only."""
        for _ in range(100):
            try:
                with self.store.transaction() as transaction:
                    handlings = (Handling("mail", "transaction"),)
                    transaction.admit(LedgerEvent(key, handlings=handlings))
                return
            except LedgerUnavailableError:
                continue
        raise AssertionError("it was locked for too long")

    def is_free(self, key: str) -> bool:
        """Say whether a delivery can be written now."""
        try:
            with self.store.transaction() as transaction:
                return transaction.find("mail", key) is not None
        except LedgerUnavailableError:
            return False

    def effects(self) -> list[str]:
        """Give the effects, sorted."""
        raise NotImplementedError

    def stop_between_writes(self, worker: Worker, key: str) -> None:
        """Stop a process where it keeps nobody from the database."""
        while True:
            worker.signal(signal.SIGSTOP)
            if self.is_free(key):
                return
            worker.signal(signal.SIGCONT)


class SqlPlace(Place):
    """One in a database."""

    def __init__(self, url: str) -> None:
        self.engine = prepare_engine(sa.create_engine(url), busy_timeout=0.2)
        super().__init__(url, SqlAlchemyStore(self.engine))
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE effect (name TEXT)")

    def effects(self) -> list[str]:
        """Read the table."""
        with self.engine.connect().execution_options(oni_read=True) as connection:
            return sorted(connection.exec_driver_sql("SELECT name FROM effect").scalars())


class RedisPlace(Place):
    """One on Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        super().__init__(server.url, RedisStore(server.url))

    def effects(self) -> list[str]:
        """Read the list."""
        with self._server.client() as client:
            return sorted(client.lrange("effect", 0, -1))


@contextmanager
def new_place(kind: str, folder: Path) -> Iterator[Place]:
    """Give a place in a database of its own."""
    if kind == "sqlite":
        yield SqlPlace(f"sqlite:///{folder}/ledger.db")
    elif kind == "postgresql":
        with running_postgres() as server:
            yield SqlPlace(server.url)
    else:
        with running_redis() as server:
            yield RedisPlace(server)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=needs_postgres),
        pytest.param("redis", marks=needs_redis),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give an empty place, and leave no process behind."""
    with ExitStack() as stack:
        found = stack.enter_context(new_place(request.param, tmp_path))
        try:
            yield found
        finally:
            for worker in found.workers:
                worker.end()
            found.store.close()


def test_killed(place: Place) -> None:
    """What a killed process ran is done by another one soon after, long before its lease ends."""
    worker = None
    fastest = WITHIN
    keys: list[str] = []
    while len(keys) < TRIES and fastest > RESCUED_WITHIN:
        key = f"k{len(keys)}"
        keys.append(key)
        holder = place.work(3600.0, "hold") if worker is None else holder_of(place, worker)
        place.admit(key)
        assert holder.hear() == {"claimed": key}
        if worker is None:
            worker = place.work(3600.0, "work")
        else:
            worker.signal(signal.SIGCONT)
        holder.signal(signal.SIGKILL)
        killed = time.monotonic()
        assert worker.hear() == {"claimed": key}
        fastest = min(fastest, time.monotonic() - killed)
        assert worker.hear() == {"done": key, "attempt": 2}
    assert fastest <= RESCUED_WITHIN
    assert place.effects() == keys


def holder_of(place: Place, worker: Worker) -> Worker:
    """Start a holder that nobody is faster than: the worker is stopped meanwhile."""
    holder = place.work(3600.0, "hold")
    place.stop_between_writes(worker, "k0")
    return holder


def test_stopped(place: Place) -> None:
    """Who is stopped for longer than its lease and wakes up changes nothing any more."""
    lease = 4.0
    holder = place.work(lease, "hold")
    place.admit("k")
    assert holder.hear() == {"claimed": "k"}
    worker = place.work(lease, "work")
    time.sleep(lease + 1.0)  # nothing may happen: it lives, and says so
    assert place.effects() == []
    place.stop_between_writes(holder, "k")
    assert worker.hear() == {"claimed": "k"}
    assert worker.hear() == {"done": "k", "attempt": 2}
    holder.go_on()
    holder.signal(signal.SIGCONT)
    assert holder.hear() == {"stale": "k"}
    assert place.effects() == ["k"]
