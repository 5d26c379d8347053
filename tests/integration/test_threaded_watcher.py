"""A watcher's thread that is given more than it can do: bounded memory, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys

from oni.watchers._threaded import CAPACITY
from tests.integration.daemon import CHECKOUT, environment
from tests.integration.threaded_watcher import AT_ONCE, EVENTS


def test_a_hundred_thousand_events() -> None:
    """Memory grows by less than 20 MiB; a full queue takes no more, and each event is heard once.

    What is refused stays with whoever offers it, who is the ledger otherwise.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.threaded_watcher"],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["once"] == EVENTS
    assert found["refusals"] >= AT_ONCE - CAPACITY - 1
    assert found["most_waiting"] <= CAPACITY
    assert found["growth"] < 20 * 1024, found
