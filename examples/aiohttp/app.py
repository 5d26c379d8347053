"""A channel on a websocket of aiohttp's: what is posted reaches every page that is open.

Run it with ``python examples/aiohttp/app.py`` and open the address that it prints, or::

    curl -d '{"user": "bob"}' http://127.0.0.1:8080/users

aiohttp and Twisted share one event loop: the asyncio reactor is installed before anything else.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from aiohttp import web
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import oni.channels
from oni.carriers import require_asyncio_reactor
from oni.carriers.aiohttp_websocket import AioHttpWebSocketCarrier

PAGE = """<!doctype html><title>Users</title><ul></ul><script>
const socket = new WebSocket(location.href.replace("http", "ws") + "events");
socket.onmessage = ({data}) => {
  const {payload} = JSON.parse(data);
  const line = document.querySelector("ul").appendChild(document.createElement("li"));
  line.textContent = `${payload.name}: ${JSON.stringify(payload.data)}`;
};
</script>"""


async def page(request: web.Request) -> web.Response:
    """Show a page that hears the channel."""
    return web.Response(text=PAGE, content_type="text/html")


async def events(request: web.Request) -> web.WebSocketResponse:
    """Let a websocket hear of new users, until it ends."""
    websocket = web.WebSocketResponse(heartbeat=20)
    await websocket.prepare(request)
    users = oni.channels.get("users")
    users.subscribe("user_created", AioHttpWebSocketCarrier(websocket))
    async for _ in websocket:
        pass
    users.unsubscribe("user_created", AioHttpWebSocketCarrier(websocket))
    return websocket


async def create(request: web.Request) -> web.Response:
    """Create a user, and tell of it."""
    user = await request.json()
    published = oni.channels.get("users").publish("user_created", user)
    position = await published.asFuture(asyncio.get_running_loop())
    return web.json_response({"offset": position.offset}, status=201)


async def serve(port: int) -> None:
    """Serve on the loopback address until interrupted."""
    require_asyncio_reactor("this example")
    application = web.Application()
    application.add_routes(
        [web.get("/", page), web.get("/events", events), web.post("/users", create)]
    )
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


def main(reactor: Any, port: int) -> Deferred[None]:
    """Run it in the reactor."""
    return Deferred.fromFuture(asyncio.ensure_future(serve(port)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a channel on aiohttp's websockets")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    arguments = parser.parse_args()
    asyncioreactor.install()
    react(main, [arguments.port])
