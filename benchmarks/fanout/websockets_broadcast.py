"""The ``websockets`` library, with its ``broadcast`` function. Nobody offers compression."""

import asyncio
import sys

from asyncio_server import run
from websockets.asyncio.server import ServerConnection, broadcast, serve

connections: set[ServerConnection] = set()


async def hear(connection: ServerConnection) -> None:
    """Publish what a connection says."""
    connections.add(connection)
    try:
        async for message in connection:
            broadcast(connections, message)
    finally:
        connections.discard(connection)


async def main() -> None:
    """Serve for ever."""
    async with serve(hear, "127.0.0.1", int(sys.argv[1]), backlog=1024):
        await asyncio.Future()


run(main())
