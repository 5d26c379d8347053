"""What a delivery costs above the ``send`` that it ends in: Oni beside a bare loop of sends.

Run as a program, with the load client's path and its core as arguments: Oni runs in this process,
the load client connects and only reads. What was published is delivered by reactor, drain, ring,
cursors and websockets to the sockets. Between two deliveries a loop sends the same bytes by the
same sockets and does nothing else. Both are timed by the processor time of this thread, the
kernel's part included; the difference is what Oni adds. It prints nanoseconds per
delivery as JSON: the best and the median of the rounds.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # measures this checkout

from _fanout_contenders import oni_settings
from _fanout_processes import raise_file_limit

__all__ = ["ABOVE", "BARE", "PATIENCE", "PRODUCT", "main"]

PRODUCT = "published to sent"
BARE = "socket.send alone"
ABOVE = "Python per delivery above the send"

_CHANNEL = "bench"
_DATA = {"number": "000000000000", "text": "x" * 95}
_GREETING = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"bench"}}'
PATIENCE = 60.0  # seconds for everything
_READ_WITHIN = 0.01  # seconds in which the load client has read what was sent


class Bench:
    """Oni with subscribers that another process holds."""

    def __init__(self, load: str, settle: Callable[[], None] | None = None) -> None:
        """Start both.

        Args:
            load: The load client's program.
            settle: What its process does first.
        """
        from twisted.internet import reactor

        from oni.server import Oni, make_factory
        from oni.server._settings_file import parse_settings

        self._reactor: Any = reactor
        self._oni = Oni(parse_settings(oni_settings(0)))
        self._oni.start()
        factory = make_factory(self._oni, reactor)
        self._drain = factory.websockets.drain
        port = self._reactor.listenTCP(0, factory, 1024, "127.0.0.1")
        command = [load, str(port.getHost().port), "/connection/websocket"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*command, "--greet", _GREETING, '"subscribe":'],
            stdin=pipe, stdout=pipe, preexec_fn=settle,
        )  # fmt: skip
        self._sends: list[Callable[[bytes], int]] = []
        self._reactor.startRunning(False)

    def connect(self, count: int) -> None:
        """Let the load client connect."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"connect %d\n" % count)
        self.process.stdin.flush()
        channel = self._oni.channels.get(_CHANNEL)
        end = time.monotonic() + PATIENCE / 2
        while channel.subscribers < count or len(self._drain):
            if time.monotonic() > end:
                sys.exit(f"only {channel.subscribers} have subscribed")
            self._reactor.iterate(0.01)
        sessions = self._oni.sessions.values()
        self._sends = [session.carrier.transport.getHandle().send for session in sessions]

    def publish(self, times: int) -> float:
        """Publish, and give the seconds from then until everything is sent."""
        act, iterate, drain = self._oni.act, self._reactor.iterate, self._drain
        for _ in range(times):
            act("publish", channel=_CHANNEL, data=_DATA)
        begun = time.thread_time()
        while True:
            iterate(0)
            if not drain.is_scheduled:
                break
        return time.thread_time() - begun

    def send(self, data: bytes) -> float:
        """Send to all sockets, and give the seconds."""
        begun = time.thread_time()
        for send in self._sends:
            send(data)
        return time.thread_time() - begun

    def frame(self, times: int) -> bytes:
        """Give what was sent to each for so many publications, the last ones."""
        from oni.carriers import publication_frame

        ring = self._oni.channels.get(_CHANNEL).ring
        return b"".join(map(publication_frame, ring.newest()[-times:]))

    def rest(self) -> None:
        """Let the load client read, and the reactor do what else there is."""
        time.sleep(_READ_WITHIN)
        self._reactor.iterate(0)


def main(
    load: str, core: int, subscribers: int = 1000, rounds: int = 60
) -> dict[str, dict[str, float]]:
    """Measure with one publication at a time, and with sixteen."""
    raise_file_limit()
    bench = Bench(load, lambda: os.sched_setaffinity(0, {core}))
    try:
        bench.connect(subscribers)
        gc.collect()
        gc.freeze()
        gc.disable()
        found: dict[str, dict[str, float]] = {}
        for window in (1, 16):
            product, bare = [], []
            for _ in range(rounds):
                product.append(bench.publish(window) / subscribers * 1e9)
                bench.rest()
                bare.append(bench.send(bench.frame(window)) / subscribers * 1e9)
                bench.rest()
            above = [one - other for one, other in zip(product, bare, strict=True)]
            for name, values in ((PRODUCT, product), (BARE, bare), (ABOVE, above)):
                found[f"{name}, {window}"] = {
                    "best": min(values),
                    "median": statistics.median(values),
                }
            found[f"{ABOVE}, {window}"]["best"] = min(product) - min(bare)
        return found
    finally:
        bench.process.kill()
        bench.process.wait()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2])), indent=1))
