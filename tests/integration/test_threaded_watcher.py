"""A watcher's thread that is given more than it can do: bounded memory, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oni.watchers._threaded import CAPACITY
from tests.integration import threaded_watcher_end
from tests.integration.daemon import CHECKOUT, run_python
from tests.integration.threaded_watcher import AT_ONCE, EVENTS

WITHIN = 120.0  # seconds, on a busy machine
pytestmark = pytest.mark.timeout(150)


def run(module: str, *arguments: str) -> str:
    """Run a module to its end; give what it prints."""
    done = run_python(CHECKOUT, "-m", f"tests.integration.{module}", *arguments, within=WITHIN)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_a_hundred_thousand_events() -> None:
    """Memory grows by less than 20 MiB; a full queue takes no more, and each event is heard once.

    What is refused stays with whoever offers it, who is the ledger otherwise.
    """
    found = json.loads(run("threaded_watcher"))
    assert found["once"] == EVENTS
    assert found["refusals"] >= AT_ONCE - CAPACITY - 1
    assert found["most_waiting"] <= CAPACITY
    assert found["growth"] < 20 * 1024, found


def test_what_waits_is_done_at_the_end(tmp_path: Path) -> None:
    """A process whose reactor has stopped ends when the thread has done what waited for it."""
    assert run("threaded_watcher_end", str(tmp_path), "slow") == "the reactor has stopped\n"
    heard = (tmp_path / "heard").read_text().split()
    assert heard == [str(number) for number in range(threaded_watcher_end.EVENTS)]


def test_a_watcher_that_hangs(tmp_path: Path) -> None:
    """It keeps no process from ending: what it has not done is still where it came from."""
    assert run("threaded_watcher_end", str(tmp_path), "hangs") == "the reactor has stopped\n"
    assert not (tmp_path / "heard").exists()
