"""A websocket client that a carrier's battery drives, on asyncio's loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from oni.channels import Channels
from oni.testing import CarrierBattery


def on_loop(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    """Run a coroutine that awaits what belongs to asyncio."""
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


class Link:
    """Both ends of a websocket.

    Attributes:
        websocket: The server's end, as the framework gives it to a handler.
        received: What the client has received.
        is_closed: Whether the client has learned of the end.
    """

    def __init__(self, client: Any, websocket: Any) -> None:
        self.websocket = websocket
        self.received: list[Any] = []
        self.is_closed = False
        self._client = client
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            while True:
                await self._may_read.wait()
                self.received.append(json.loads(await self._client.recv()))
        except ConnectionClosed:
            self.is_closed = True

    def stop_reading(self) -> None:
        """Read no more; the client's buffers fill up, then those of the two kernels."""
        self._may_read.clear()

    def read_again(self) -> None:
        """Read again."""
        self._may_read.set()

    async def hang_up(self) -> None:
        """Close in order; without a word where the client does not read."""
        if self._may_read.is_set():
            await self._client.close()
        else:
            self._client.transport.abort()
        self._reading.cancel()


class FrameworkBattery(CarrierBattery, TestCase):
    """The battery against a framework's server and a real client. Trial runs it."""

    flood = 1500  # 24 MB
    timeout = 50

    async def serve(self) -> int:
        """Start the server; it gives the websockets that it accepts to ``self.accepted``."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Begin without a server."""
        self.port = 0
        self.accepted: asyncio.Queue[Any] = asyncio.Queue()

    async def make_connection(self) -> Link:
        """Connect, to a server that is started for the first one."""
        if not self.port:
            self.port = await on_loop(self.serve())
        return await on_loop(self._connect())

    async def _connect(self) -> Link:
        address = f"ws://127.0.0.1:{self.port}/"
        client = await connect(address, max_queue=2, compression=None, proxy=None)
        link = Link(client, await self.accepted.get())
        self.addCleanup(lambda: on_loop(link.hang_up()))
        return link

    def make_channels(self) -> Channels:
        """Make channels on the reactor."""
        return Channels(options=self.options)

    def received(self, connection: Link) -> list[Any]:
        """Give what the client has received."""
        return connection.received

    def stop_reading(self, connection: Link) -> None:
        """Let the client read no more."""
        connection.stop_reading()

    def read_again(self, connection: Link) -> None:
        """Let the client read again."""
        connection.read_again()

    async def hang_up(self, connection: Link) -> None:
        """Let the client end the connection."""
        await on_loop(connection.hang_up())

    def is_closed(self, connection: Link) -> bool:
        """Say whether the client has learned of the end."""
        return connection.is_closed

    def run_case(self, case: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Let trial wait for it."""
        return Deferred.fromCoroutine(case)

    async def pause(self) -> None:
        """Let a millisecond pass."""
        await deferLater(reactor, 0.001)
