"""python-socketio as an ASGI application under uvicorn, with its ``emit`` to everyone."""

import sys
from typing import Any

import socketio
import uvicorn
from asyncio_server import run

server = socketio.AsyncServer(async_mode="asgi")


@server.on("message")
async def publish(sid: str, data: Any) -> None:
    """Publish what a connection says."""
    await server.emit("message", data)


async def main() -> None:
    """Serve for ever."""
    config = uvicorn.Config(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        backlog=1024,
        log_level="warning",
        lifespan="off",
    )
    await uvicorn.Server(config).serve()


run(main())
