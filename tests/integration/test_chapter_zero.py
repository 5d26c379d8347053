"""A process that is really killed with all that its watchers and listeners have not heard yet."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import CHECKOUT, run_python

WITHIN = 100.0  # seconds, on a busy machine

pytestmark = pytest.mark.timeout(3 * WITHIN)


def run(folder: Path, action: str) -> Any:
    """Run a process to its end."""
    worker = ("-m", "tests.integration.chapter_zero_worker")
    return run_python(CHECKOUT, *worker, str(folder), action, within=WITHIN)


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
