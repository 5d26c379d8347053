"""A broker that is away for a minute, as the clock on the wall has it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from tests.integration.celery_case import blog, until_handled, worker
from tests.integration.redis_server import needs_redis, running_redis

pytestmark = [needs_redis, pytest.mark.timeout(400)]

OUTAGE = 60.0  # seconds
EVERY = 1.0  # seconds: a ledger that tries again all the time would be in the way of commits
SLOWER = 0.005  # seconds, at most


def test_away_for_a_minute(tmp_path: Path) -> None:
    """Nothing is lost, and commits take no longer than those of a blog whose broker is there."""
    folders = [tmp_path / "near", tmp_path / "far"]
    for folder in folders:
        folder.mkdir()
    with (
        running_redis() as near,
        running_redis() as far,
        blog(folders[0], near.url) as saving_near,
        blog(folders[1], far.url) as saving_far,
    ):
        saving_near.save("a")
        saving_far.save("a")
        saving_near.until_told(1)
        saving_far.until_told(1)
        far.kill()
        began = time.monotonic()
        # Turn by turn, so that whatever else the machine does is done to both.
        took: list[tuple[float, float]] = []
        while time.monotonic() < began + OUTAGE:
            took.append((saving_near.save("a")[0], saving_far.save("a")[0]))
            time.sleep(EVERY)
        saved = 1 + len(took)
        assert saving_far.count("done") == 1
        saving_near.until_told(saved)
        far.start()
        with worker(folders[1], far.url):
            saving_far.until_told(saved)
            until_handled(folders[1], ["a"] * saved)
        usual, away = (statistics.median(each) for each in zip(*took, strict=True))
        # Where a disk takes longer than that, no more can be told of it.
        assert away - usual < max(SLOWER, usual), (usual, away)
