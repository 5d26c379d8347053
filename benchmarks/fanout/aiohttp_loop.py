"""aiohttp: ``send_str`` to each connection in turn."""

import asyncio
import sys

from aiohttp import WSMsgType, web
from asyncio_server import run

connections: set[web.WebSocketResponse] = set()


async def hear(request: web.Request) -> web.WebSocketResponse:
    """Publish what a connection says."""
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    connections.add(connection)
    try:
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                for other in tuple(connections):
                    await other.send_str(message.data)
    finally:
        connections.discard(connection)
    return connection


async def main() -> None:
    """Serve for ever."""
    app = web.Application()
    app.router.add_get("/ws", hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=1024).start()
    await asyncio.Future()


run(main())
