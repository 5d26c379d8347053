"""Starts a run's processes, kills and stops them, and brings the run to its end.

Processes are forked by a server that has imported everything already (:mod:`multiprocessing`'s),
because a hundred starts of Python would take longer than all they do. The kill is a SIGKILL of
the whole process nevertheless.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from oni.errors import LedgerUnavailableError
from tests.integration.kill_harness.history import History, read
from tests.integration.kill_harness.places import Place, deliveries
from tests.integration.kill_harness.worker import Orders, main

__all__ = ["Conductor", "Worker", "conducted"]

WITHIN = 120.0  # seconds, on a busy machine
_STEP = 0.01
_REST = 0.1  # seconds between questions to the database

_context = multiprocessing.get_context("forkserver")
# What is imported late would be imported by every process again.
_context.set_forkserver_preload(
    [
        "tests.integration.kill_harness.worker",
        "oni.command._cli",
        "oni.command._sources",
        "oni.server.sources._making",
        "oni.server.sources._worker",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "sqlalchemy.dialects.postgresql.psycopg",
        "psycopg",
        "redis",
        "twisted.internet.epollreactor",
    ]
)


class Worker:
    """A process of a run.

    Attributes:
        orders: What it was told.
        process: The process.
        was_struck: Whether it was killed by another.
    """

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.was_struck = False
        self.process = _context.Process(target=main, args=(orders,), daemon=True)
        self.process.start()

    @property
    def pid(self) -> int:
        """Its id."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is no more."""
        return not self.process.is_alive()

    @property
    def was_killed(self) -> bool:
        """Whether it has ended by SIGKILL."""
        return self.process.exitcode == -signal.SIGKILL

    @property
    def died_by_itself(self) -> bool:
        """Whether it killed itself, at a point."""
        return self.was_killed and not self.was_struck

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.process.is_alive():
            os.kill(self.pid, number)


class Conductor:
    """Has the processes of one run.

    Args:
        place: The database.
        folder: Where the files of the run go; it is empty.
        orders: What every process is told, but for what :meth:`start` says otherwise.
    """

    def __init__(self, place: Place, folder: Path, **orders: Any) -> None:
        self.place = place
        self.folder = folder
        self.path = folder / "history.jsonl"
        self.history = History(self.path)
        self.workers: list[Worker] = []
        self.kills = 0
        self._orders = Orders(url=place.url, folder=folder, **orders)

    def start(self, **orders: Any) -> Worker:
        """Start a process."""
        worker = Worker(replace(self._orders, **orders))
        self.workers.append(worker)
        return worker

    def offer(self, keys: int) -> None:
        """Let a source offer so many keys, twice, and end."""
        self.allow(2 * keys)
        source = self.start(role="emit", keys=keys)
        self.wait_until_ended(source)
        assert not source.was_killed

    def wait_until_ended(self, worker: Worker) -> None:
        """Wait until a process is no more."""
        self.wait_until(lambda: worker.has_ended, "a process has not ended")
        self.reap()

    def die_at(self, point: str, nth: int = 1, **orders: Any) -> None:
        """Start a process, and see it die at a point."""
        worker = self.start(point=point, nth=nth, **orders)
        self.wait_until_ended(worker)
        assert worker.died_by_itself, f"{point} was not come by:\n{self.log(worker)}"

    def drain(self) -> None:
        """Start a process that does what is left, and end it."""
        self.start()
        self.wait_until_idle()
        self.finish()

    def kill(self, worker: Worker) -> None:
        """Kill a process, and wait until it is dead."""
        self.history.add("killed", victim=worker.pid)
        worker.was_struck = True
        worker.send(signal.SIGKILL)
        worker.process.join(WITHIN)

    def stop(self, worker: Worker) -> None:
        """Stop a process where it keeps nobody from the database."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end and not worker.has_ended:
            worker.send(signal.SIGSTOP)
            if self.place.is_free():
                return
            worker.send(signal.SIGCONT)

    def reap(self, allowed: Collection[int] = (0,)) -> list[Worker]:
        """Give those that have ended since, and count those that were killed.

        Args:
            allowed: The exit codes of those that were not.

        Raises:
            AssertionError: One has ended by a mistake of its own.
        """
        ended = [worker for worker in self.workers if worker.has_ended]
        for worker in ended:
            self.workers.remove(worker)
            self.kills += worker.was_killed
            code = worker.process.exitcode
            is_well = worker.was_killed or code in allowed
            assert is_well, f"it ended with {code}:\n{self.log(worker)}"
        return ended

    def log(self, worker: Worker) -> str:
        """Give what a process has written."""
        path = self.folder / f"{worker.pid}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def allow(self, keys: int) -> None:
        """Let the source offer so many keys."""
        new = self.folder / "allowed.new"
        new.write_text(str(keys), encoding="ascii")
        new.rename(self.folder / "allowed")

    def wait_until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait until something is so, and give it."""
        end = time.monotonic() + WITHIN
        while not (found := true()):
            assert time.monotonic() < end, f"{what}: not within {WITHIN:g} s"
            time.sleep(_STEP)
        return found

    def wait_until_idle(
        self, meanwhile: Callable[[], object] = lambda: True, patience: float = WITHIN
    ) -> None:
        """Wait until every delivery has ended, and something else is so, too.

        Raises:
            TimeoutError: No delivery has ended for so many seconds.
        """
        was, since = -1, time.monotonic()
        while True:
            is_over = meanwhile()
            left = self.left()  # after that: the source may have ended just now
            if is_over and left == 0:
                return
            if left != was:
                was, since = left, time.monotonic()
            elif time.monotonic() - since > patience:
                raise TimeoutError(f"{left} deliveries do not end, for {patience:g} s")
            time.sleep(_REST)

    def wait_until_told(self, what: str) -> None:
        """Wait until something happens for the first time."""
        self.wait_until(
            lambda: any(line["what"] == what for line in read(self.path)), f"{what!r} was not told"
        )

    def left(self) -> int:
        """Say how many deliveries have not ended; -1 if the database does not answer."""
        try:
            with self.place.store.transaction(read=True) as transaction:
                counted = transaction.count()
        except LedgerUnavailableError:
            return -1
        return int(counted["pending"] + counted["running"])

    def decide(self) -> int:
        """Decide, as an operator who looks up what was paid; say about how many.

        Nobody may be stopped, and everything else must have ended.
        """
        effects = (line for line in read(self.path) if line["what"] == "effect")
        paid = {line["key"] for line in effects if line["handler"] == "pay"}
        uncertain = [each for each in deliveries(self.place) if each.state == "uncertain"]
        for each in uncertain:
            with self.place.store.transaction() as transaction:
                decision = "done" if each.key in paid else "retry"
                transaction.resolve(each.handler, each.key, decision, "harness")
        return len(uncertain)

    def finish(self) -> None:
        """Ask every process to end, and see that it does."""
        for worker in self.workers:
            worker.send(signal.SIGCONT)
            worker.send(signal.SIGTERM)
        for worker in self.workers:
            worker.process.join(WITHIN)
        # One that had not even begun knows nothing of the signal yet.
        self.reap((0, -signal.SIGTERM))
        assert not self.workers, "a process did not end"

    def close(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            worker.send(signal.SIGKILL)
            worker.process.join(WITHIN)
        self.history.close()


@contextmanager
def conducted(place: Place, folder: Path, **orders: Any) -> Iterator[Conductor]:
    """Give a conductor, and leave no process behind."""
    conductor = Conductor(place, folder, **orders)
    try:
        yield conductor
    finally:
        conductor.close()
