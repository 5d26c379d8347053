"""A run in which processes are killed and stopped at random times while keys come in."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

from tests.integration.kill_harness.checker import Report, check
from tests.integration.kill_harness.conductor import Conductor, Worker, conducted
from tests.integration.kill_harness.places import Place
from tests.integration.kill_harness.worker import offered

__all__ = ["Storm", "storm"]

_PAUSE = (0.02, 0.25)  # seconds from one kill to the next
_STEP = 0.01
_LATE = 15  # at most so many times does a worker come by the point at which it dies
_SOON = 3  # and so many where all of them die at one point
# Points that a worker comes by in a storm, where each of them may be told to die.
_WORKS = (
    *("claim.before", "claim.written", "claim.committed", "book.begun", "book.written"),
    *("mail.begun", "mail.sent", "pay.begun", "pay.sent", "complete.before"),
    *("complete.written", "complete.committed", "rescue.written", "rescue.committed"),
)
_EMITS = ("admit.before", "admit.written", "admit.committed", "prune.before")


@dataclass(frozen=True)
class Storm:
    """How much there is of what.

    Attributes:
        keys: Keys that the source offers, twice each.
        kills: At least so many processes are killed.
        stops: So many are stopped for longer than a lease.
        restarts: So often the server is killed and started again; where there is none, a process
            is stopped instead.
        workers: Processes that work.
        lease: Seconds.
        concurrency: Handlers that run at once in a process.
        point: Where every worker dies, soon, and then nobody is killed by another; ``""``: half of
            them die anywhere if nobody kills them before.
        patience: Seconds in which something has to end, when nobody is killed any more.
        mutant: The letter of a mistake, for all processes.
    """

    keys: int = 2000
    kills: int = 100
    stops: int = 2
    restarts: int = 0
    workers: int = 3
    lease: float = 2.0
    concurrency: int = 1
    point: str = ""
    patience: float = 120.0
    mutant: str = ""


def storm(
    place: Place,
    folder: Path,
    seed: int,
    size: Storm,
    restart: Callable[[], None] | None = None,
) -> Report:
    """Let it happen, and judge what is left.

    Args:
        place: An empty database.
        folder: An empty folder.
        seed: Of everything that is left to chance, but for time itself.
        size: How much there is of what.
        restart: Kills the server and starts it again.
    """
    began = time.monotonic()
    again = _command(place.kind, seed, size)
    report = Report(seed, place.kind, again, size.concurrency)
    orders = {"lease": size.lease, "mutant": size.mutant, "concurrency": size.concurrency}
    with conducted(place, folder, keys=size.keys, **orders) as conductor:
        weather = _Weather(conductor, Random(seed), size, report)
        weather.begin()
        weather.blow(restart)
        weather.calm()
        report.kills = conductor.kills
    check(report, place, conductor.path, range(size.keys))
    report.seconds = time.monotonic() - began
    return report


def _command(store: str, seed: int, size: Storm) -> str:
    """Give the command that lets the same happen again."""
    words = [f"--store {store}", f"--seed {seed}"]
    words += [
        f"--{each.name} {value}"
        for each in fields(size)
        if (value := getattr(size, each.name)) != each.default
    ]
    return f"python -m tests.integration.kill_harness {' '.join(words)}"


class _Weather:
    """What happens to the processes."""

    def __init__(self, conductor: Conductor, chance: Random, size: Storm, report: Report) -> None:
        self._conductor = conductor
        self._chance = chance
        self._size = size
        self._report = report
        self._source_has_ended = False
        self._wake: dict[Worker, float] = {}

    def begin(self) -> None:
        """Start everybody."""
        self._conductor.allow(0)
        self._start("emit", True)
        for _ in range(self._size.workers):
            self._start("work", True)

    def blow(self, restart: Callable[[], None] | None) -> None:
        """Kill, stop and restart, until it is enough."""
        size, conductor = self._size, self._conductor
        turns = 0
        while conductor.kills < size.kills or turns < size.stops + size.restarts:
            share = min(1.0, (conductor.kills + 1) / max(1, size.kills))
            share = 1.0 if size.point else share  # so that all come by it
            conductor.allow(int(size.keys * share))
            self._pass(self._chance.uniform(*_PAUSE))
            due = int(share * (size.stops + size.restarts))
            if turns < due:
                turns += 1
                if restart is not None and turns <= size.restarts:
                    restart()
                    self._report.restarts += 1
                else:
                    self._stop_one()
            elif conductor.kills < size.kills and not size.point:
                conductor.kill(self._chance.choice(self._awake()))

    def calm(self) -> None:
        """Let everything come to its end, if it does."""
        conductor, patience = self._conductor, self._size.patience
        keys = self._size.keys
        try:
            conductor.allow(keys)
            conductor.wait_until_idle(lambda: self._is_quiet(keys), patience)
            conductor.allow(2 * keys)  # everything again, when all of it is done
            conductor.wait_until_idle(self._is_over, patience)
            while decided := conductor.decide():
                self._report.decided += decided
                conductor.wait_until_idle(self._is_over, patience)
        except TimeoutError as error:
            self._report.wrong("not finished", str(error))
        else:
            conductor.finish()

    def _is_quiet(self, keys: int) -> bool:
        """Say whether so many keys were offered, and nobody is stopped."""
        self._look()
        return offered(self._conductor.folder) >= keys and not self._wake

    def _is_over(self) -> bool:
        """Say whether there is nothing more to come."""
        self._look()
        return self._source_has_ended and not self._wake

    def _start(self, role: str, may_die: bool) -> None:
        """Start a process; half of them die at a point, if nobody kills them before."""
        points: Sequence[str] = _EMITS if role == "emit" else _WORKS
        point, nth = self._chance.choice(points), self._chance.randint(1, _LATE)
        dies = self._chance.random() < 0.5
        if self._size.point:
            point, nth, dies = self._size.point, self._chance.randint(1, _SOON), role == "work"
        if may_die and dies:
            self._conductor.start(role=role, point=point, nth=nth)
        else:
            self._conductor.start(role=role)

    def _pass(self, seconds: float) -> None:
        """Let time pass, and look after everybody meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self._look()
            if time.monotonic() >= end:
                return
            time.sleep(_STEP)

    def _look(self) -> None:
        """Wake those that were stopped for long enough; start others for those that are dead."""
        now = time.monotonic()
        for worker in [each for each, at in self._wake.items() if at <= now or each.has_ended]:
            del self._wake[worker]
            worker.send(signal.SIGCONT)
        for worker in self._conductor.reap():
            role = worker.orders.role
            if worker.was_killed:
                self._report.at_points += worker.died_by_itself
                self._start(role, self._conductor.kills < self._size.kills)
            elif role == "emit":
                self._source_has_ended = True
            else:
                raise AssertionError(f"a worker ended by itself:\n{self._conductor.log(worker)}")

    def _stop_one(self) -> None:
        awake = [worker for worker in self._awake() if worker.orders.role == "work"]
        if awake:
            worker = self._chance.choice(awake)
            self._conductor.stop(worker)
            self._wake[worker] = time.monotonic() + 1.5 * self._size.lease
            self._report.stops += 1

    def _awake(self) -> list[Worker]:
        return [each for each in self._conductor.workers if each not in self._wake]
