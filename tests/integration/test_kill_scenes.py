"""Workers that come too late: stopped for longer than a lease, or slow to rescue."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.daemon import CHECKOUT, environment
from tests.integration.kill_harness.app import HISTORY
from tests.integration.kill_harness.conductor import WITHIN, Conductor
from tests.integration.kill_harness.history import read
from tests.integration.kill_harness.places import sqlite_place
from tests.integration.kill_harness.scenes import judged, rescued_by_two, scene, sleeping
from tests.integration.kill_harness.servers import params, running
from tests.integration.kill_harness.worker import Orders, settings_file

pytestmark = pytest.mark.timeout(300)

LEASE = 2.0  # seconds


@pytest.mark.parametrize("store", params())
def test_woken_too_late(store: str, tmp_path: Path) -> None:
    """A sleeper's completion changes nothing any more, and the effect that it wrote vanishes."""
    with running(store, tmp_path) as server:
        report = sleeping(server.place, tmp_path / "scene", LEASE)
    assert not report.problems, str(report)
    assert report.expiries == 1
    assert report.effects == 1


@pytest.mark.parametrize("store", params())
def test_rescued_by_two(store: str, tmp_path: Path) -> None:
    """Who saw an orphan, and acts when another one has done its work, changes nothing."""
    with running(store, tmp_path) as server:
        report = rescued_by_two(server.place, tmp_path / "scene")
    assert not report.problems, str(report)
    assert report.effects == report.mails == 1


KEYS = 30


@contextmanager
def command(conductor: Conductor) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``oni sources work`` as people start it."""
    path = settings_file(Orders(conductor.place.url, conductor.folder))
    process = subprocess.Popen(
        [sys.executable, "-m", "oni", "sources", "work", "--config", str(path)],
        cwd=CHECKOUT,
        env={**environment(), HISTORY: str(conductor.path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(WITHIN)


def test_without_a_fork(tmp_path: Path) -> None:
    """The command itself, which nobody has changed, is killed like those that are forked."""
    place = sqlite_place(tmp_path)
    with scene(place, tmp_path / "scene") as conductor:
        conductor.offer(KEYS)
        with command(conductor) as first:
            conductor.wait_until_told("effect")
            conductor.history.add("killed", victim=first.pid)
        assert conductor.left() > 0
        with command(conductor) as second:
            conductor.wait_until_idle()
            second.terminate()
            assert second.wait(WITHIN) == 0
        pids = {line["pid"] for line in read(conductor.path) if line["what"] == "effect"}
        assert pids == {first.pid, second.pid}
        conductor.kills += 1
        while conductor.decide():
            with command(conductor):
                conductor.wait_until_idle()
        # Nothing has watched these, so that it is not known what was rescued.
        problems = judged(conductor, KEYS).problems
        problems.pop("repeated for nothing", None)
        assert not problems
    place.close()
