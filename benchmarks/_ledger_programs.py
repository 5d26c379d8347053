"""The processes of the ledger's benchmark: one takes keys in, one handles them.

``python _ledger_programs.py take HOW URL COUNT`` takes COUNT keys in and prints the seconds.

``python _ledger_programs.py work HOW URL COUNT EFFECTS PAUSE`` handles what was taken in until it
is killed. A handler waits for PAUSE seconds, in the way that its library has for it, and appends a
line to the file EFFECTS, in one write: the key, and the time in nanoseconds on the system's clock
that only runs forward.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # measures this checkout

HANDLER = "count"
PREFETCHED = 64  # as many as Oni claims at once
IDLE = 0.01  # seconds

Handle = Callable[[str], None]


class Program(Protocol):
    """One way of handling keys."""

    def prepare(self, url: str) -> None:
        """Make what has to be there first."""

    def take(self, url: str, keys: Iterable[str]) -> float:
        """Take keys in, and give the seconds that it took."""

    def work(self, url: str, keys: Iterable[str], handle: Handle, pause: float) -> None:
        """Handle what was taken in, until the process is killed."""


# --- Oni -----------------------------------------------------------------------------------------


class Oni:
    """A ledger over the store that the URL names.

    Args:
        in_groups: Whether completions of one claim go to the disk together, as usual, or each one
            is waited for.
    """

    def __init__(self, in_groups: bool) -> None:
        self._in_groups = in_groups

    def prepare(self, url: str) -> None:
        """The ledger makes its tables itself."""

    def take(self, url: str, keys: Iterable[str]) -> float:
        """See :class:`Program`."""
        from oni.ledger import pair_key
        from oni.values import Handling, LedgerEvent

        events = [
            LedgerEvent(pair_key("bench", key), "bench", key.encode(), (Handling(HANDLER),))
            for key in keys
        ]
        took: list[float] = []

        async def admit(ledger: Any) -> None:
            begun = time.perf_counter()
            await ledger.admit(events)
            took.append(time.perf_counter() - begun)
            await ledger.stop()

        _with_ledger(url, admit)
        return took[0]

    def work(self, url: str, keys: Iterable[str], handle: Handle, pause: float) -> None:
        """See :class:`Program`."""
        from twisted.internet import reactor
        from twisted.internet.defer import gatherResults
        from twisted.internet.task import deferLater

        async def live(ledger: Any) -> None:
            claims = await ledger.claim([HANDLER])
            while True:
                done = []
                for claim in claims:
                    if pause:
                        await deferLater(reactor, pause)  # type: ignore[arg-type]
                    handle(claim.payload.decode())
                    done.append(ledger.complete(claim))
                    if not self._in_groups:
                        await done.pop()
                if not claims:
                    await deferLater(reactor, IDLE)  # type: ignore[arg-type]
                more = ledger.claim([HANDLER])  # by the same write to the disk
                await gatherResults(done)
                claims = await more

        _with_ledger(url, live)


def _with_ledger(url: str, do: Callable[[Any], Any]) -> None:
    """Start a ledger, and run a coroutine function with it in a reactor."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from oni.ledger import Ledger, store_for

    async def live(reactor: Any) -> None:
        ledger = Ledger(store_for(url), reactor=reactor)
        await ledger.start()
        await do(ledger)

    try:
        react(lambda reactor: Deferred.fromCoroutine(live(reactor)))
    except SystemExit as ended:
        if ended.code:
            raise


# --- Insert, then handle -------------------------------------------------------------------------


class InsertFirst:
    """django-spark's way, in its barest form: who can insert the key runs the handler.

    Its sources bring everything again after a restart, and what was inserted is known by then.
    """

    def prepare(self, url: str) -> None:
        """Make the table."""
        with closing(_open(url)) as database:
            database.execute("CREATE TABLE event (key TEXT PRIMARY KEY)")

    def take(self, url: str, keys: Iterable[str]) -> float:
        """There is nothing to take in: the source is the queue."""
        return 0.0

    def work(self, url: str, keys: Iterable[str], handle: Handle, pause: float) -> None:
        """See :class:`Program`."""
        with closing(_open(url)) as database:
            for key in keys:
                try:
                    database.execute("INSERT INTO event (key) VALUES (?)", (key,))
                except sqlite3.IntegrityError:
                    continue
                time.sleep(pause)
                handle(key)
        while True:
            time.sleep(1.0)


def _open(url: str) -> sqlite3.Connection:
    database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    database.execute("PRAGMA journal_mode = wal")
    database.execute("PRAGMA synchronous = FULL")
    return database


# --- Celery --------------------------------------------------------------------------------------


class Celery:
    """Tasks with ``acks_late`` on Redis, in one process that runs them one by one."""

    def prepare(self, url: str) -> None:
        """Redis needs nothing."""

    def take(self, url: str, keys: Iterable[str]) -> float:
        """See :class:`Program`."""
        app, task = self._app(url, _nothing)
        begun = time.perf_counter()
        with app.producer_pool.acquire() as producer:
            for key in keys:
                task.apply_async((key,), producer=producer)
        return time.perf_counter() - begun

    def work(self, url: str, keys: Iterable[str], handle: Handle, pause: float) -> None:
        """See :class:`Program`."""

        def run(key: str) -> None:
            time.sleep(pause)
            handle(key)

        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        app, _ = self._app(url, run)
        app.worker_main(["worker", "--pool=solo", "--loglevel=ERROR", *quiet])

    @staticmethod
    def _app(url: str, handle: Handle) -> tuple[Any, Any]:
        import celery

        app = celery.Celery("bench", broker=url)
        app.conf.update(
            task_acks_late=True,
            task_reject_on_worker_lost=True,
            task_ignore_result=True,
            worker_prefetch_multiplier=PREFETCHED,
            worker_hijack_root_logger=False,
        )
        return app, app.task(name="bench.handle")(handle)


# --- Procrastinate -------------------------------------------------------------------------------


class Procrastinate:
    """Jobs in PostgreSQL, in one process."""

    def prepare(self, url: str) -> None:
        """Make the tables."""
        app, _ = self._app(url, _nothing)
        with app.open():
            app.schema_manager.apply_schema()

    def take(self, url: str, keys: Iterable[str]) -> float:
        """See :class:`Program`."""
        app, task = self._app(url, _nothing)
        with app.open():
            begun = time.perf_counter()
            task.batch_defer(*({"key": key} for key in keys))
            return time.perf_counter() - begun

    def work(self, url: str, keys: Iterable[str], handle: Handle, pause: float) -> None:
        """See :class:`Program`."""
        app, _ = self._app(url, handle, pause)
        app.run_worker(concurrency=8, fetch_job_polling_interval=IDLE)

    @staticmethod
    def _app(url: str, handle: Handle, pause: float = 0.0) -> tuple[Any, Any]:
        import procrastinate

        conninfo = url.replace("postgresql+psycopg://", "postgresql://")
        connector: Any = procrastinate.PsycopgConnector(conninfo=conninfo)
        app = procrastinate.App(connector=connector)

        async def run(key: str) -> None:
            if pause:
                await asyncio.sleep(pause)
            handle(key)

        return app, app.task(run, name="bench.handle")


def _nothing(key: str) -> None:
    """Stand for the handler where none runs."""


PROGRAMS: dict[str, Program] = {
    "oni": Oni(in_groups=True),
    "oni-single": Oni(in_groups=False),
    "insert-first": InsertFirst(),
    "celery": Celery(),
    "procrastinate": Procrastinate(),
}


def handler(effects: str) -> Handle:
    """Give what every contender's handler does."""
    file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def handle(key: str) -> None:
        os.write(file, f"{key} {time.monotonic_ns()}\n".encode())

    return handle


def main() -> None:
    """Do what the command line says."""
    mode, how, url, count, *rest = sys.argv[1:]
    program = PROGRAMS[how]
    keys = [f"key-{number:06}" for number in range(int(count))]
    if mode == "take":
        program.prepare(url)
        print(json.dumps(program.take(url, keys)), flush=True)
    else:
        effects, pause = rest
        program.work(url, keys, handler(effects), float(pause))


if __name__ == "__main__":
    main()
