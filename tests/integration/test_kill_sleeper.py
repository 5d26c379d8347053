"""A worker is stopped for longer than its lease, and wakes up when another has done its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kill_harness.scenes import sleeping
from tests.integration.kill_harness.servers import params, running

pytestmark = pytest.mark.timeout(120)

LEASE = 2.0  # seconds


@pytest.mark.parametrize("store", params())
def test_woken_too_late(store: str, tmp_path: Path) -> None:
    """Its completion changes nothing any more, and the effect that it wrote vanishes."""
    with running(store, tmp_path) as server:
        report = sleeping(server.place, tmp_path / "scene", LEASE)
    assert not report.problems, str(report)
    assert report.expiries == 1
    assert report.effects == 1
