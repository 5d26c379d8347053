"""Short runs in which it is known what happens."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.kill_harness.checker import Report, check
from tests.integration.kill_harness.conductor import WITHIN, Conductor, conducted
from tests.integration.kill_harness.places import Place

__all__ = ["judged", "rescued_by_two", "restarted", "scene", "sleeping"]


@contextmanager
def scene(place: Place, folder: Path, **orders: Any) -> Iterator[Conductor]:
    """Give a conductor for an empty place.

    Args:
        place: It is emptied.
        folder: It is made where it is missing.
        orders: For every process.
    """
    place.prepare()
    place.open()
    folder.mkdir(exist_ok=True)
    with conducted(place, folder, **orders) as conductor:
        yield conductor


def judged(conductor: Conductor, keys: int) -> Report:
    """Let an operator decide, end it, and judge it."""
    while conductor.decide():
        conductor.drain()
    report = Report(0, conductor.place.kind, kills=conductor.kills)
    return check(report, conductor.place, conductor.path, range(keys))


def sleeping(place: Place, folder: Path, lease: float, mutant: str = "") -> Report:
    """Stop a worker for longer than its lease, and wake it when another one has done its work.

    Where one who writes does not keep all others from writing it is stopped within its
    transaction, with its effect written; else right before it.
    """
    point = "claim.committed" if place.kind == "sqlite" else "book.written"
    with scene(place, folder, lease=lease, mutant=mutant) as conductor:
        conductor.offer(1)
        sleeper = conductor.start(point=point, holds=True)
        conductor.wait_until_told("held")
        conductor.stop(sleeper)
        conductor.start()
        conductor.wait_until_idle()
        (folder / "go").touch()
        sleeper.send(signal.SIGCONT)
        conductor.wait_until_told("stale")
        conductor.finish()
        report = judged(conductor, 1)
        report.stops = 1
        return report


def rescued_by_two(place: Place, folder: Path, mutant: str = "") -> Report:
    """Let two workers see the same orphan; one acts when the other has done everything."""
    with scene(place, folder, mutant=mutant) as conductor:
        conductor.offer(1)
        conductor.die_at("book.begun")
        conductor.start(point="running.seen", holds=True)
        conductor.wait_until_told("held")
        conductor.start()
        conductor.wait_until_idle()
        (folder / "go").touch()
        conductor.wait_until_told("too late")
        conductor.finish()
        conductor.drain()
        return judged(conductor, 1)


def restarted(place: Place, folder: Path, mutant: str = "", patience: float = WITHIN) -> Report:
    """Let a worker die in the middle, and start it again: nobody else is there to help."""
    with scene(place, folder, mutant=mutant, lease=3600.0) as conductor:
        conductor.offer(1)
        conductor.die_at("claim.committed")
        conductor.start()
        try:
            conductor.wait_until_idle(patience=patience)
        except TimeoutError as error:
            report = Report(0, place.kind)
            report.wrong("not finished", str(error))
            return report
        conductor.finish()
        return judged(conductor, 1)
