"""The example of notifications as its readers run it: in one process, and in two."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.daemon import CHECKOUT, environment, run_python, wait_until

WITHIN = 60.0  # seconds, on a busy machine
pytestmark = pytest.mark.timeout(4 * WITHIN)
TOLD = ["to ann: Whiskers", "to bob: Barking", "to bob: Whiskers"]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Copy the example: its database is beside it."""
    return Path(shutil.copytree(CHECKOUT / "examples" / "notifications", tmp_path / "example"))


def run(example: Path, *arguments: str) -> list[str]:
    """Run it; give the lines that it prints, sorted."""
    strict = ("-W", "error::DeprecationWarning", str(example / "notifications.py"))
    done = run_python(example.parent, *strict, *arguments, within=WITHIN)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.splitlines())


def test_in_one_process(example: Path) -> None:
    """Each follower is told of each post once; of what was rolled back nobody is."""
    assert run(example) == TOLD
    assert run(example) == TOLD  # of other posts


def test_with_a_worker(example: Path) -> None:
    """A process that only saves tells nobody; ``oni sources work`` does, by the same settings."""
    assert run(example, "--save") == []
    log = example / "log"
    with open(log, "wb") as output:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "oni", "sources", "work"),
                *("--config", str(example / "oni.toml")),
            ],
            cwd=example.parent,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: all(line in log.read_text() for line in TOLD), "not all were told", WITHIN
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(WITHIN) == 0
    finally:
        worker.kill()
        worker.wait()
    assert all(log.read_text().count(line) == 1 for line in TOLD)
    assert "notify.blog.Post" in log.read_text()
