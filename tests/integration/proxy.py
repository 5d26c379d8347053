"""A wire that a test can cut: it stands between a client and a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on, until it is told not to.

    Attributes:
        port: Where it listens on loopback.
        connections: How many clients have come so far.
        budget: So many bytes still go to clients, then the connection is cut; None: all.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.connections = 0
        self.budget: int | None = None
        self._target = target
        self._turns_away = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def websocket(self) -> str:
        """Where a websocket client finds the daemon through it."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def cut(self) -> None:
        """End every connection, without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def hold(self) -> None:
        """Pass nothing on any more, and end nothing: neither side is told."""
        self._flows.clear()

    def turn_away(self) -> None:
        """End every connection, and each that comes, without a word."""
        self._turns_away = True
        self.cut()

    def release(self) -> None:
        """Pass everything on again."""
        self._turns_away = False
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a client's bytes on, and the daemon's."""
        self.connections += 1
        await self._flows.wait()
        if self._turns_away:
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pumps = (
            asyncio.ensure_future(self._pump(reader, there[1], False)),
            asyncio.ensure_future(self._pump(there[0], writer, True)),
        )
        self._tasks.update(pumps)
        self._writers.update((writer, there[1]))
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, there[1]):
            one.transport.abort()
            self._writers.discard(one)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_client: bool
    ) -> None:
        while data := await _read(reader):
            await self._flows.wait()
            if to_client and self.budget is not None:
                data = data[: self.budget]
                self.budget -= len(data)
            writer.write(data)
            try:
                await writer.drain()
            except ConnectionError:
                return
            if to_client and self.budget is not None and self.budget <= 0:
                self.budget = None
                await asyncio.sleep(0.05)  # what was passed on arrives
                return

    async def close(self) -> None:
        """End everything."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(4096)
    except ConnectionError:
        return b""


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Stand before a daemon's port, while the block runs."""
    made = Proxy(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
