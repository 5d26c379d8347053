"""A blog, a broker and a worker, each in processes of their own: what tests of these share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.celery_blog import heard
from tests.integration.daemon import CHECKOUT, environment, read_json_line, wait_until

APP = "tests.integration.celery_blog:worker"
WITHIN = 100.0  # seconds, on a busy machine


class Blog:
    """The process that saves.

    Attributes:
        process: Its process.
    """

    def __init__(self, folder: Path, broker: str) -> None:
        self._log = folder / "blog.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.celery_blog", str(folder), broker],
                cwd=CHECKOUT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._hear() == "started"

    def ask(self, *command: Any) -> Any:
        """Give it a command; give its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        heard = read_json_line(self.process, WITHIN)
        assert heard is not None, self._log.read_text()
        return heard

    def save(self, *titles: str) -> list[float]:
        """Save posts; give how many seconds each commit took."""
        took: list[float] = self.ask("save", list(titles))
        return took

    def count(self, state: str) -> int:
        """Count its ledger's deliveries in a state."""
        return int(self.ask("count").get(state, 0))

    def until_told(self, number: int) -> None:
        """Wait until the broker has confirmed so many events, and has no other to wait for."""
        wait_until(lambda: self.count("done") == number, f"{number} are told", WITHIN)
        assert self.ask("count") == {"done": number}


@contextmanager
def blog(folder: Path, broker: str) -> Iterator[Blog]:
    """Run the process that saves, and kill it in the end."""
    running = Blog(folder, broker)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


class Worker:
    """A worker of Celery's.

    All of its processes are one group.

    Attributes:
        process: Its main process.
    """

    def __init__(self, folder: Path, broker: str, pool: str, transaction: bool) -> None:
        self.log = folder / "worker.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "celery",
                        "-A",
                        "tests.integration.celery_blog:worker",
                    ),
                    *("worker", f"--pool={pool}", "--concurrency=1", "--loglevel=INFO"),
                    *("--without-gossip", "--without-mingle"),
                ],
                cwd=folder,
                env={
                    **environment(),
                    "BLOG_FOLDER": str(folder),
                    "BLOG_BROKER": broker,
                    "BLOG_TRANSACTION": "yes" if transaction else "",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill it with its children, without a warning."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(WITHIN)


@contextmanager
def worker(
    folder: Path, broker: str, *, pool: str = "solo", transaction: bool = False
) -> Iterator[Worker]:
    """Run a worker, and kill it in the end."""
    running = Worker(folder, broker, pool, transaction)
    try:
        yield running
    finally:
        running.kill()


def handled(folder: Path) -> list[tuple[int, str]]:
    """Give id and title of each post that a worker was done with, as the row had it then."""
    return [(each["id"], each["more"]) for each in heard(folder) if each["what"] == "handled"]


def until_handled(folder: Path, titles: Sequence[str]) -> None:
    """Wait until each post was handled; see that none was twice, and every row was there."""
    expected = list(enumerate(titles, 1))
    wait_until(lambda: set(handled(folder)) >= set(expected), "all is handled", WITHIN)
    assert sorted(handled(folder)) == expected


def until_hanging(folder: Path) -> int:
    """Wait until a worker hangs in its watcher; give its process."""

    def hanging() -> list[int]:
        return [each["more"] for each in heard(folder) if each["what"] == "hangs"]

    return int(wait_until(hanging, "it hangs", WITHIN)[-1])
