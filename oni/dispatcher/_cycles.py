"""Proves that a queued event waits for itself: what cannot end before what.

The search goes upwards. While an event has the turn of a lane, the events queued behind it cannot
start, so their Deferreds cannot fire. Neither can what waits for these: chained Deferreds,
DeferredLists, coroutines, and so the events whose handlers those are, and what is queued behind
them. If that reaches a handler of the event that has the turn, nothing can ever end.

An event may also wait for its own Deferred. Then no queued event is to blame: it is only named.

Time limits do not count: what nothing but a limit would end is a cycle all the same, and its error
says more than that of the limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred

from oni.dispatcher._phase_run import PhaseRun
from oni.dispatcher._run import EventRun
from oni.dispatcher._turns import Lane
from oni.dispatcher._twisted_private import LIST, undecided, waiters

__all__ = ["find_cycle", "find_wait_for_itself"]


class _Search:
    """One search: what is known to be stuck, each thing with what it waits for."""

    def __init__(self, holder: EventRun) -> None:
        self.holder = holder
        self.stuck: dict[Any, Any] = {}
        self.news: deque[Any] = deque()
        self.lists: dict[Any, None] = {}

    def learn(self, thing: Any, because_of: Any) -> None:
        """Note that something waits for something that is stuck."""
        if thing not in self.stuck:
            self.stuck[thing] = because_of
            self.news.append(thing)

    def spread(self) -> bool:
        """Follow everything known upwards; say whether a handler of the holder is reached."""
        while self.news:
            thing = self.news.popleft()
            later = self._after_run if isinstance(thing, EventRun) else self._after_deferred
            for each in later(thing):
                self.learn(each, thing)
                if each is self.holder:
                    return True
            if not self.news:
                self._decide_lists()
        return False

    def way_round(self) -> list[EventRun]:
        """Give the runs by which the holder was reached, the holder first."""
        runs = [self.holder]
        thing = self.stuck[self.holder]
        while thing is not self.holder:
            if isinstance(thing, EventRun):
                runs.append(thing)
            thing = self.stuck[thing]
        return runs

    def _after_run(self, run: EventRun) -> Iterator[Any]:
        yield run.deferred
        lane = run.lane
        if lane is not None and run.frame is not None and lane.active is run.frame:
            yield from lane.waiting

    def _after_deferred(self, deferred: Deferred[Any]) -> Iterator[Any]:
        for waiter, args in waiters(deferred):
            if isinstance(waiter, LIST):
                if undecided(waiter) is None:
                    yield waiter
                else:
                    self.lists[waiter] = None
            elif isinstance(waiter, Deferred):
                yield waiter
            elif isinstance(waiter.__self__, PhaseRun) and waiter.__self__.holds_up(*args):
                yield waiter.__self__.run

    def _decide_lists(self) -> None:
        """A list that any of its Deferreds could fire is stuck when all that are left are."""
        for each in self.lists:
            left = undecided(each) or []
            if left and all(deferred in self.stuck for deferred in left):
                self.learn(each, left[-1])


def find_cycle(lane: Lane) -> list[EventRun] | None:
    """Look for a cycle through the event that has a lane's turn and one that is queued.

    Returns:
        The runs on the way round, the newest queued one first: each waits for the next, the last
        for the first. None if nothing is proven.
    """
    search = _search_behind(lane)
    if search is None or not search.spread():
        return None
    runs = search.way_round()
    newest = max((r for r in runs if r.frame is None), key=lambda r: r.number)
    start = runs.index(newest)
    return runs[start:] + runs[:start]


def find_wait_for_itself(lane: Lane) -> list[EventRun] | None:
    """Look whether the event that has a lane's turn waits for its own end, whoever is queued.

    Returns:
        The runs on the way round, this one first. None if nothing is proven.
    """
    search = _search_behind(lane)
    if search is None:
        return None
    search.learn(search.holder.deferred, search.holder)
    return search.way_round() if search.spread() else None


def _search_behind(lane: Lane) -> _Search | None:
    holder = lane.active.run if lane.active is not None else None
    if holder is None:
        return None
    search = _Search(holder)
    for queued in lane.waiting:
        search.learn(queued, holder)
    return search
