"""Processes are killed and stopped at random: nothing is lost, nothing is done twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.integration.kill_harness.servers import params, running
from tests.integration.kill_harness.storm import Storm, storm

pytestmark = pytest.mark.timeout(600)

KILLS, KEYS = 100, 2000
RESTARTS = 3


@pytest.mark.parametrize("store", params())
def test_killed_at_random(store: str, tmp_path: Path) -> None:
    """A hundred kills and two thousand keys: each key is done once, whatever died meanwhile."""
    seed = random.randrange(2**31)
    with running(store, tmp_path) as server:
        report = storm(server.place, tmp_path, seed, Storm(keys=KEYS, kills=KILLS))
    print(report)
    assert not report.problems, str(report)
    assert report.kills >= KILLS
    assert report.rescues > 0


@pytest.mark.parametrize("store", params()[1:])
def test_servers_that_die(store: str, tmp_path: Path) -> None:
    """A server is killed and started again while many handlers run, and some workers die, too."""
    seed = random.randrange(2**31)
    size = Storm(keys=300, kills=8, stops=0, restarts=RESTARTS, concurrency=16)
    with running(store, tmp_path) as server:
        report = storm(server.place, tmp_path, seed, size, server.restart)
    print(report)
    assert not report.problems, str(report)
    assert report.restarts == RESTARTS
