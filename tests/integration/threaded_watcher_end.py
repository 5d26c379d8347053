"""A process with a watcher in a thread, which is stopped while that has something to do.

``python -m tests.integration.threaded_watcher_end FOLDER slow``: what waits is done, slowly.

``... FOLDER hangs``: the watcher never returns.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from oni.watchers import BaseModelEventWatcher, ThreadedModelEventWatcher

EVENTS = 20

may_go_on = threading.Event()


class Watcher(BaseModelEventWatcher):
    """Does nothing before the reactor has stopped; then it writes what it heard, or hangs.

    Args:
        file: Where it writes.
        hangs: Whether it never does.
    """

    def __init__(self, file: Path, hangs: bool) -> None:
        self._file = file
        self._hangs = hangs

    def created(self, model: str, id: Any, details: Any) -> None:
        """Hear of a row."""
        may_go_on.wait()
        if self._hangs:
            threading.Event().wait()
        time.sleep(0.01)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{id}\n")


def main() -> None:
    """Tell it of rows, and stop."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    hangs = sys.argv[2] == "hangs"
    watcher = ThreadedModelEventWatcher(Watcher(Path(sys.argv[1], "heard"), hangs))

    def tell() -> None:
        # In the reactor's place, with other times than its ten seconds.
        phase, seconds = ("before", 0.2) if hangs else ("after", 100.0)
        reactor.addSystemEventTrigger(phase, "shutdown", lambda: watcher.stop(seconds))
        for number in range(EVENTS):
            watcher.created("blog.Post", number, {}).addErrback(lambda failure: None)
        reactor.callLater(0, reactor.stop)

    reactor.callWhenRunning(tell)
    reactor.run()
    print("the reactor has stopped", flush=True)
    may_go_on.set()


if __name__ == "__main__":
    main()
