"""A process dies between its commit and the relay, or in the middle of that: nothing is lost.

What was committed is in the ledger in the end, once; what was rolled back never is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import sqlalchemy as sa

from oni.ledger.django import create_statements
from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine
from tests.integration.daemon import CHECKOUT, environment
from tests.integration.postgres import needs_postgres, running_postgres

WITHIN = 60.0  # seconds, on a busy machine
KILLED = -9
_OTHERS = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)

pytestmark = pytest.mark.timeout(180)


class Place:
    """A program's database, a ledger elsewhere, and processes between them."""

    def __init__(self, way: str, url: str, folder: Path) -> None:
        self.way = way
        self.url = url
        self.ledger_url = f"sqlite:///{folder}/ledger.db"
        self.engine = prepare_engine(sa.create_engine(url))
        with self.engine.begin() as connection:
            for statement in create_statements(self.engine.dialect.name):
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("CREATE TABLE datum (name TEXT)")
        self.store = SqlAlchemyStore.from_url(self.ledger_url)
        self.store.open()

    def close(self) -> None:
        """Close what this process has."""
        self.store.close()
        self.engine.dispose()

    @contextmanager
    def process(self, mode: str, name: str = "") -> Iterator[subprocess.Popen[str]]:
        """Run one; kill it in the end, at the latest after a while."""
        words = ["-m", "tests.integration.outbox_worker"]
        process = subprocess.Popen(
            [sys.executable, *words, self.way, self.url, self.ledger_url, mode, name],
            cwd=CHECKOUT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        watch = Timer(WITHIN, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            self.settle()

    def settle(self) -> None:
        """Wait until the server, too, has done with the process that was killed."""
        if self.engine.dialect.name == "postgresql":
            deadline = time.monotonic() + WITHIN
            while self._column(_OTHERS) and time.monotonic() < deadline:
                time.sleep(0.02)

    def kill_after(self, commits: int, mode: str, name: str) -> None:
        """Run one that commits, and kill it when it has said so this often."""
        with self.process(mode, name) as process:
            assert process.stdout is not None
            for _ in range(commits):
                assert "committed" in json.loads(process.stdout.readline())

    def run(self, mode: str) -> tuple[int, dict[str, Any]]:
        """Run one to its end; give its code, and what it said last."""
        with self.process(mode) as process:
            assert process.stdout is not None
            said = process.stdout.read()
            return process.wait(), json.loads(said.splitlines()[-1]) if said else {}

    def committed(self) -> Sequence[str]:
        """Give the data that are there."""
        return self._column("SELECT name FROM datum ORDER BY name")

    def waiting(self) -> Sequence[str]:
        """Give the keys in the outbox."""
        return self._column("SELECT key FROM oni_outbox ORDER BY key")

    def _column(self, statement: str) -> Sequence[str]:
        with self.engine.connect() as connection:
            return sorted(connection.exec_driver_sql(statement).scalars())

    def admitted(self) -> Sequence[str]:
        """Give the keys that the ledger has a delivery of."""
        with self.store.transaction(read=True) as transaction:
            return sorted(each.key for each in transaction.deliveries(None, None, 100_000))


def kill_at_every_point(place: Place) -> None:
    """Kill processes, and see each time what must be so; in the end, everything has arrived."""
    place.kill_after(20, "commit", "first")  # committed, and nobody has relayed
    first = place.committed()
    assert len(first) >= 20
    assert list(place.waiting()) == list(first)
    assert list(place.admitted()) == []

    code, _ = place.run("die")  # admitted, and not removed
    assert code == KILLED
    admitted = place.admitted()
    assert 20 <= len(admitted) <= 64
    assert set(admitted) <= set(first)
    assert list(place.waiting()) == list(first)

    for name in ("second", "third"):  # anywhere
        place.kill_after(30, "both", name)
        assert set(place.waiting()) | set(place.admitted()) == set(place.committed())

    code, said = place.run("relay")
    assert code == 0
    assert list(place.waiting()) == []
    committed = place.committed()
    assert list(place.admitted()) == list(committed)
    assert len(committed) == len(set(committed)) >= 80
    assert said["relayed"] <= len(committed) - len(admitted)


@pytest.mark.parametrize("way", ["sqlalchemy", "django"])
def test_sqlite(way: str, tmp_path: Path) -> None:
    """The program's data are in a file."""
    place = Place(way, f"sqlite:///{tmp_path}/data.db", tmp_path)
    try:
        kill_at_every_point(place)
    finally:
        place.close()


@needs_postgres
def test_postgres() -> None:
    """The program's data are on a server, and two programs share an outbox there."""
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder:
        place = Place("django", server.url, Path(folder))
        try:
            kill_at_every_point(place)
            place.way = "sqlalchemy"
            place.kill_after(5, "both", "fourth")
            assert place.run("relay")[0] == 0
            assert list(place.admitted()) == list(place.committed())
        finally:
            place.close()
