"""A process that is really killed with all that its watchers and listeners have not heard yet."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.daemon import CHECKOUT, environment

WITHIN = 100.0  # seconds, on a busy machine

pytestmark = pytest.mark.timeout(3 * WITHIN)


def run(folder: Path, action: str) -> subprocess.CompletedProcess[str]:
    """Run a process to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.chapter_zero_worker", str(folder), action],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )


def test_killed_process(tmp_path: Path) -> None:
    """What a watcher's thread had in its queue, and a listener had not heard, is heard later.

    The process dies between the commit and the hook after it, and its thread with a full queue.
    """
    changed = run(tmp_path, "change")
    assert changed.returncode == -signal.SIGKILL, changed.stderr
    assert changed.stdout == ""
    delivered = run(tmp_path, "deliver")
    assert delivered.returncode == 0, delivered.stderr
    assert sorted(delivered.stdout.splitlines()) == [
        "listener a1",
        "watcher 1",
        "watcher 2",
        "watcher 3",
    ]
