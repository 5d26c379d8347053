"""A server that publishes 10 MB/s for some seconds, and then says how much memory it took.

Run it as a program, with the seconds as its argument. It prints its port, and at the end a line of
JSON.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor, task

from oni.carriers import CarrierLimits, WebSocketCarrierFactory
from oni.channels import Channels
from oni.values import StreamOptions

_SIZE = 4000
_EVERY = 0.01
_AT_ONCE = 25  # 25 of 4,000 bytes every 10 ms are 10 MB/s


class Owner:
    """Lets a connection hear the channel, and counts gaps."""

    gaps = 0

    def __init__(self, carrier: Any) -> None:
        self.carrier = carrier
        channel.subscribe(None, carrier)

    def received(self, frame: bytes) -> None:
        """Take it."""

    def was_read(self) -> None:
        """Take note."""

    def connection_lost(self) -> None:
        """Leave."""
        channel.unsubscribe(None, self.carrier)

    def lost(self, subscription: Any, position: Any) -> None:
        """Count."""
        Owner.gaps += 1


def memory(name: str) -> int:
    """Give a number of this process in KiB, such as VmHWM."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


def publish(count: int) -> None:
    """Publish what is due."""
    for _ in range(count * _AT_ONCE):
        channel.publish("message", "x" * _SIZE)


def finish(_: object) -> None:
    """Say what came of it."""
    numbers = dict(channels.statistics())
    numbers |= {"peak": memory("VmHWM"), "now": memory("VmRSS"), "told_gaps": Owner.gaps}
    print(json.dumps(numbers), flush=True)
    reactor.stop()


def begin() -> None:
    """Publish for the time that was asked for."""
    call = task.LoopingCall.withCount(publish)
    call.clock = reactor
    call.start(_EVERY)
    reactor.callLater(float(sys.argv[1]), call.stop)
    reactor.callLater(float(sys.argv[1]) + 0.5, finish, None)


options = StreamOptions(history_size=5000, history_ttl=60.0)  # two seconds of it
channels = Channels(options=lambda name: options, reactor=reactor)
channel = channels.get("news")

if __name__ == "__main__":
    factory = WebSocketCarrierFactory(Owner, CarrierLimits(), reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(port.getHost().port, flush=True)

    def wait() -> None:
        """Begin when all are there."""
        if channel.subscribers < int(sys.argv[2]):
            reactor.callLater(0.05, wait)
        else:
            begin()

    wait()
    reactor.run()
