"""Workers that come too late: stopped for longer than a lease, or slow to rescue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kill_harness.scenes import rescued_by_two, sleeping
from tests.integration.kill_harness.servers import params, running

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
