"""A process that lets 100,000 events go through a watcher's thread, and measures its memory."""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer

from oni.errors import NotNowError
from oni.interfaces import IModelEventWatcher
from oni.watchers import ThreadedModelEventWatcher

EVENTS = 100_000
WARM_UP = 1_000  # events after which everything has been made that is made once
AT_ONCE = 25_000  # events that are offered while the watcher hangs


@implementer(IModelEventWatcher)
class Counts:
    """Counts how often each row was heard of.

    Attributes:
        heard: The counts, by the row's number.
        may_go_on: While it is not set, the watcher hangs.
    """

    def __init__(self) -> None:
        self.heard = bytearray(EVENTS)
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def created(self, model: str, id: int, details: Mapping[str, Any]) -> None:
        """Count it."""
        self.may_go_on.wait()
        self.heard[id] += 1

    modified = deleted = created


class Run:
    """Offers events until each was heard of; what is refused is offered again, later.

    As a ledger does, it has the events somewhere else: they are made when they are offered.

    Args:
        reactor: The reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.counts = Counts()
        self.watcher = ThreadedModelEventWatcher(self.counts)
        self.waiting = array("I")  # what was refused
        self.offered = 0
        self.done = 0
        self.refusals = 0
        self.most_waiting = 0
        self.before = 0
        self.most = 0

    def begin(self) -> None:
        """Let everything be made that is made once; then offer very much to one that hangs."""
        if self.offered == 0:
            self.offer_new(WARM_UP)
        if self.done < WARM_UP:
            self.reactor.callLater(0.001, self.begin)
            return
        self.before = resident()
        self.counts.may_go_on.clear()
        self.offer_new(AT_ONCE)
        self.look()
        self.counts.may_go_on.set()
        self.go()

    def go(self) -> None:
        """Offer until something is refused, and look."""
        refusals = self.refusals
        while self.refusals == refusals and (self.waiting or self.offered < EVENTS):
            if self.waiting:
                self.offer(self.waiting.pop())
            else:
                self.offer_new(1)
        self.look()
        if self.done < EVENTS:
            self.reactor.callLater(0.001, self.go)
        else:
            self.watcher.stop().addBoth(lambda _: self.reactor.stop())

    def offer_new(self, count: int) -> None:
        """Offer events that were never offered."""
        for _ in range(count):
            self.offered += 1
            self.offer(self.offered - 1)

    def offer(self, id: int) -> None:
        """Offer an event that is as large as one with some columns."""
        details = {"new": {"title": f"post {id}", "body": f"{id}" * 200}, "old": {}}
        told = self.watcher.created("blog.Post", id, details)
        told.addCallbacks(self.count, self.refuse, errbackArgs=(id,))

    def count(self, _: object) -> None:
        """One was heard of."""
        self.done += 1

    def refuse(self, failure: Failure, id: int) -> None:
        """One was not taken."""
        failure.trap(NotNowError)
        self.refusals += 1
        self.waiting.append(id)

    def look(self) -> None:
        """See how much waits, and how much memory there is in use."""
        self.most_waiting = max(self.most_waiting, self.watcher.waiting)
        self.most = max(self.most, resident())


def resident() -> int:
    """Give the KiB of memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError("VmRSS")


def main() -> None:
    """Run it, and print what came out."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    run = Run(reactor)
    reactor.callWhenRunning(run.begin)
    reactor.run()
    print(
        json.dumps(
            {
                "once": sum(count == 1 for count in run.counts.heard),
                "refusals": run.refusals,
                "most_waiting": run.most_waiting,
                "growth": run.most - run.before,
            }
        )
    )


if __name__ == "__main__":
    main()
