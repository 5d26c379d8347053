"""One publish without subscribers, through three phases, beside ``defer.succeed``.

Run as a program it prints nanoseconds as JSON: the best and the median of the rounds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # measures this checkout

from _harness import Batch, Pair, Plan, measure
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

__all__ = ["ACT", "FIRE", "SUCCEED", "main", "pairs"]

SUCCEED = "defer.succeed"
FIRE = "fire_event, three phases, publishing in the second"
ACT = "oni.act('publish'), all that the daemon does"
_ROW = "one publish"
_DATA = {"number": "@000000000000", "text": "x" * 94}


def pairs() -> list[Pair]:
    """Give what is timed."""
    return [
        Pair(SUCCEED, _ROW, lambda: _succeed),
        Pair(FIRE, _ROW, _fire),
        Pair(ACT, _ROW, _act),
    ]


def _succeed(count: int) -> None:
    for _ in repeat(None, count):
        succeed(None)


def _fire() -> Batch:
    from oni.twisted_event_dispatcher import EventDispatcher

    channel = _oni().channels.get("bench-fire")
    dispatcher = EventDispatcher(allowed_match_spec_keywords=("channel",))

    def before(event: object) -> None:
        pass

    def during(event: object) -> Any:
        return channel.publish("message", event)

    def after(event: object) -> None:
        pass

    for handler in (before, during, after):
        dispatcher.add_event_handler(handler, handler.__name__, use_weakref=False)
    dispatcher.start()
    return _each(lambda: dispatcher.fire_event(_DATA, channel="bench-fire"))


def _act() -> Batch:
    oni = _oni()
    oni.start()
    return _each(lambda: oni.act("publish", channel="bench-act", data=_DATA))


def _oni() -> Any:
    from oni.server import Oni
    from oni.server._settings import Settings

    return Oni(Settings())


def _each(publish: Callable[[], Deferred[Any]]) -> Batch:
    """Make a batch of publishes, each of which has happened before the next one."""
    from twisted.internet import reactor

    def batch(count: int) -> None:
        for _ in repeat(None, count):
            done = publish()
            while not done.called:
                reactor.iterate(0)
            if done.result.__class__ is Failure:
                done.result.raiseException()
        reactor.iterate(0)

    return batch


def main(quick: bool = False) -> dict[str, dict[str, float]]:
    """Measure."""
    plan = Plan(rounds=5, windows=4) if quick else Plan()
    timings = measure(pairs(), plan)
    return {name: {"best": t.best, "median": t.median} for (name, _), t in timings.items()}


if __name__ == "__main__":
    print(json.dumps(main("--quick" in sys.argv)))
