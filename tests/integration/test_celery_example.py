"""The example that goes over a broker, as its page says: without one, and with one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.daemon import CHECKOUT, environment, run_python, wait_until
from tests.integration.redis_server import needs_redis, running_redis

pytestmark = [pytest.mark.timeout(400)]

WITHIN = 100.0  # seconds, on a busy machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with the example."""
    shutil.copytree(CHECKOUT / "examples" / "broker", tmp_path / "broker")
    return tmp_path / "broker"


def save(folder: Path, *titles: str) -> str:
    """Save posts; give what is said."""
    done = run_python(folder, "save.py", *titles, within=WITHIN)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def take_time(folder: Path) -> None:
    """Let sending take as long as it may on a busy machine, where nothing is to be away."""
    for name, old, new in (
        ("oni.toml", "# celery.broker", "celery.timeout = 80\n# celery.broker"),
        ("save.py", "PATIENCE = 10.0", "PATIENCE = 80.0"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))


@contextmanager
def working(folder: Path) -> Iterator[Path]:
    """Run the worker, which ends well; give its log."""
    log = folder / "log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "worker", "worker", "--loglevel=INFO"],
            cwd=folder,
            env={**environment(), "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(folder)])},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WITHIN)


def told(log: Path, title: str) -> None:
    """Wait until both followers were told of a post; see that neither was told twice."""
    lines = [f"to {user}: {title}" for user in ("ann", "bob")]
    wait_until(lambda: all(line in log.read_text() for line in lines), title, WITHIN)
    assert [log.read_text().count(line) for line in lines] == [1, 1]


def test_without_a_broker(folder: Path) -> None:
    """Messages lie in a folder until there is a worker."""
    take_time(folder)
    assert save(folder, "First post") == "saved 1\n"
    assert len(list((folder / "oni-broker" / "queue").iterdir())) == 1
    with working(folder) as log:
        told(log, "First post")


@needs_redis
def test_with_a_broker(folder: Path) -> None:
    """On Redis; what was saved while it was away is told of by the next run."""
    with running_redis() as server:
        settings = folder / "oni.toml"
        text = settings.read_text().replace("# celery", "celery")
        settings.write_text(text.replace("redis://127.0.0.1:6379/0", server.url))
        server.kill()
        said = save(folder, "First post")
        assert said == "saved 1\nthe broker is away: the next run tells it\n"
        server.start()
        said = save(folder, "Second post")
        while "away" in said:  # it was not its turn yet
            said = save(folder)
        with working(folder) as log:
            told(log, "First post")
            told(log, "Second post")
