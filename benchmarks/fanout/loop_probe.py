"""Notices how long the server's loop does not come round. Runs inside the server's process.

A call that comes back every two milliseconds notes by how much it was late: by the clock, and by
the processor time that the thread had meanwhile (which other processes cannot lengthen). The
worst of both is asked for, and reset, by datagrams to the port in ``FANOUT_PROBE_PORT``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any

INTERVAL = 0.002  # seconds


class LoopProbe:
    """The worst that was seen since the last reset."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._at = perf_counter()
        self._used = thread_time()

    def tick(self) -> None:
        """Note how long the last round took."""
        at, used = perf_counter(), thread_time()
        late = at - self._at - INTERVAL
        self.wall = max(self.wall, late)
        self.cpu = max(self.cpu, min(late, used - self._used))
        self._at, self._used = at, used

    def answer(self, datagram: bytes) -> bytes:
        """Give the worst, in seconds; begin anew if asked to reset."""
        self.tick()
        worst = json.dumps({"wall": self.wall, "cpu": self.cpu}).encode()
        if datagram == b"reset":
            self.wall = self.cpu = 0.0
        return worst


def probe_twisted(reactor: Any) -> None:
    """Begin under Twisted."""
    from twisted.internet.protocol import DatagramProtocol

    probe = LoopProbe()

    class Asked(DatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            self.transport.write(probe.answer(datagram), addr)

    _tick_for_ever(probe, reactor.callLater)
    reactor.listenUDP(_port(), Asked(), interface="127.0.0.1")


def probe_asyncio(loop: asyncio.AbstractEventLoop) -> None:
    """Begin under asyncio."""
    probe = LoopProbe()

    class Asked(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(probe.answer(data), addr)

    _tick_for_ever(probe, loop.call_later)
    kept.append(
        loop.create_task(loop.create_datagram_endpoint(Asked, local_addr=("127.0.0.1", _port())))
    )


kept: list[object] = []


def configure(oni: object) -> None:
    """Begin in Oni's daemon, which calls this as its application."""
    from twisted.internet import reactor

    probe_twisted(reactor)


def _tick_for_ever(probe: LoopProbe, call_later: Callable[..., object]) -> None:
    def tick() -> None:
        probe.tick()
        call_later(INTERVAL, tick)

    call_later(INTERVAL, tick)


def _port() -> int:
    return int(os.environ["FANOUT_PROBE_PORT"])
