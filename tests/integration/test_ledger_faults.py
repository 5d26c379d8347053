"""What becomes of keys when processes die of them, and when the database is out of reach."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from oni.ledger._keeper import Keeper
from oni.values import Delivery
from tests.integration.postgres import Postgres, needs_postgres, running_postgres
from tests.integration.proxy import Proxy, proxy
from tests.integration.test_ledger_processes import WITHIN, SqlPlace, Worker

LEASE = 2.0  # seconds
RESCUER = "f" * 32
ATTEMPTS = 5
PROCESSES = 3

pytestmark = pytest.mark.timeout(120)


@contextmanager
def place_at(url: str) -> Iterator[SqlPlace]:
    """Give an empty place, and leave no process behind."""
    place = SqlPlace(url)
    try:
        yield place
    finally:
        for worker in place.workers:
            worker.end()
        place.store.close()


class Wire:
    """A proxy in a thread of its own.

    Args:
        port: Where it leads to.
    """

    def __init__(self, port: int) -> None:
        self._ready: Future[Proxy] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._live(port)), daemon=True)
        self._thread.start()
        self.port = self._ready.result(30).port

    async def _live(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        async with proxy(port) as made:
            self._ready.set_result(made)
            await self._ended.wait()

    def tell(self, what: Callable[[Proxy], object]) -> None:
        """Let it be cut, or the like."""
        done: Future[None] = Future()

        def do() -> None:
            what(self._ready.result())
            done.set_result(None)

        self._loop.call_soon_threadsafe(do)
        done.result(30)

    def end(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)


def row(place: SqlPlace, key: str) -> Delivery:
    """Give a key's delivery."""
    with place.store.transaction(read=True) as transaction:
        record = transaction.show(key)
    assert record is not None
    (found,) = record.deliveries
    return found


def hear_until(worker: Worker, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Give the first line that is wanted."""
    while not wanted(heard := worker.hear()):
        pass
    return heard


def wait_for(claim: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + WITHIN
    while not claim():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def count_done(worker: Worker, number: int, heard: Counter[int]) -> None:
    """Count what a process has done, until it ends."""
    assert worker.process.stdout is not None
    for line in worker.process.stdout:
        heard[number] += "done" in json.loads(line)


def test_a_handler_that_kills_its_process(tmp_path: Path) -> None:
    """After its last attempt it is dead, and harms nobody any more; each attempt was counted."""
    with place_at(f"sqlite:///{tmp_path}/ledger.db") as place:
        place.admit("poison")
        for attempt in range(1, ATTEMPTS + 1):
            worker = place.work(3600.0, "die")
            assert worker.hear() == {"claimed": "poison"}
            worker.process.wait(30)
            assert row(place, "poison").attempts == attempt
            Keeper(place.store, RESCUER, 3600.0).tick()
            with place.engine.begin() as connection:  # its pause is over
                connection.exec_driver_sql("UPDATE oni_delivery SET next_at = 0")
        dead = row(place, "poison")
        assert (dead.state, dead.attempts, dead.crashes) == ("dead", ATTEMPTS, ATTEMPTS)
        assert place.effects() == []
        place.admit("next")
        worker = place.work(3600.0, "work")
        assert worker.hear() == {"claimed": "next"}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run one server for all of this."""
    with running_postgres() as running:
        yield running


def database(server: Postgres, name: str) -> str:
    """Make a database on it, and give its address."""
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(server.url).set(database=name).render_as_string(False)


@needs_postgres
def test_a_store_that_is_cut_off(server: Postgres) -> None:
    """Who cannot reach the store claims nothing and completes nothing; its effects are gone.

    When it can again, everything is done, once.
    """
    url = sa.make_url(database(server, "cut"))
    with place_at(url.render_as_string(False)) as place:
        assert url.port is not None
        wire = Wire(url.port)
        try:
            far = url.set(port=wire.port).render_as_string(False)
            worker = Worker(far, LEASE, "wait")
            place.workers.append(worker)
            assert worker.hear() == {"started": True}
            place.admit("k")
            assert worker.hear() == {"claimed": "k"}
            wire.tell(Proxy.turn_away)
            worker.go_on()
            assert worker.hear() == {"away": "k"}
            for _ in range(3):
                assert worker.hear() == {"away": ""}
            assert place.effects() == []
            assert row(place, "k").state == "running"
            wire.tell(Proxy.release)
            worker.go_on()
            assert hear_until(worker, lambda heard: heard != {"away": ""}) == {"claimed": "k"}
            assert hear_until(worker, lambda heard: "done" in heard)["done"] == "k"
            assert place.effects() == ["k"]
        finally:
            wire.end()


@needs_postgres
def test_a_server_that_dies_under_load(server: Postgres) -> None:
    """What two processes work on while the server dies and comes back is done, once each."""
    keys = [f"k{number:02}" for number in range(40)]
    with place_at(database(server, "load")) as place:
        for key in keys:
            place.admit(key)
        workers = [place.work(LEASE, "wait") for _ in range(2)]
        claimed = {worker.hear()["claimed"] for worker in workers}
        server.kill()
        for worker in workers:
            for _ in keys:
                worker.go_on()  # with this one, and with all that come
        assert {worker.hear()["away"] for worker in workers} == claimed
        server.start()
        place.engine.dispose()  # its connections are of no use any more
        wait_for(lambda: len(place.effects()) >= len(keys))
        assert place.effects() == keys


def test_three_processes(tmp_path: Path) -> None:
    """Three that share one store do everything once, and each has its part."""
    keys = [f"k{number:03}" for number in range(90)]
    with place_at(f"sqlite:///{tmp_path}/ledger.db") as place:
        for key in keys:
            place.admit(key)
        workers = [place.work(3600.0, "wait") for _ in range(PROCESSES)]
        # Whoever has one takes no other, so that nobody is left without.
        first = {worker.hear()["claimed"] for worker in workers}
        assert len(first) == PROCESSES
        for worker in workers:
            for _ in keys:
                worker.go_on()
        heard: Counter[int] = Counter()
        readers = [
            Thread(target=count_done, args=(worker, number, heard), daemon=True)
            for number, worker in enumerate(workers)
        ]
        for reader in readers:
            reader.start()
        wait_for(lambda: len(place.effects()) >= len(keys))
        assert place.effects() == keys
        for worker in workers:
            worker.process.kill()
        for reader in readers:
            reader.join(WITHIN)
        assert sum(heard.values()) == len(keys)
        assert min(heard[number] for number in range(PROCESSES)) > 0
