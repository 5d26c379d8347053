"""A channel on a websocket of Sanic's: what is posted reaches every page that is open.

Run it with ``python examples/sanic/app.py`` and open the address that it prints, or::

    curl -d '{"user": "bob"}' http://127.0.0.1:8080/users

Sanic and Twisted share one event loop: the asyncio reactor is installed before anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import Any

from sanic import HTTPResponse, Request, Sanic, html, json
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import oni.channels
from oni.carriers import require_asyncio_reactor
from oni.carriers.sanic_websocket import SanicWebSocketCarrier

PAGE = """<!doctype html><title>Users</title><ul></ul><script>
const socket = new WebSocket(location.href.replace("http", "ws") + "events");
socket.onmessage = ({data}) => {
  const {payload} = JSON.parse(data);
  const line = document.querySelector("ul").appendChild(document.createElement("li"));
  line.textContent = `${payload.name}: ${JSON.stringify(payload.data)}`;
};
</script>"""


app = Sanic("users")


@app.get("/")
async def page(request: Request) -> HTTPResponse:
    """Show a page that hears the channel."""
    return html(PAGE)


@app.websocket("/events")
async def events(request: Request, websocket: Any) -> None:
    """Let a websocket hear of new users, until it ends."""
    users = oni.channels.get("users")
    users.subscribe("user_created", SanicWebSocketCarrier(websocket))
    async for _ in websocket:
        pass
    users.unsubscribe("user_created", SanicWebSocketCarrier(websocket))


@app.post("/users")
async def create(request: Request) -> HTTPResponse:
    """Create a user, and tell of it."""
    published = oni.channels.get("users").publish("user_created", request.json)
    position = await published.asFuture(asyncio.get_running_loop())
    return json({"offset": position.offset}, status=201)


async def serve(port: int) -> None:
    """Serve on the loopback address until interrupted."""
    require_asyncio_reactor("this example")
    listening = socket.create_server(("127.0.0.1", port))
    server = await app.create_server(sock=listening, return_asyncio_server=True)
    await server.startup()
    await server.start_serving()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


def main(reactor: Any, port: int) -> Deferred[None]:
    """Run it in the reactor."""
    return Deferred.fromFuture(asyncio.ensure_future(serve(port)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a channel on Sanic's websockets")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    arguments = parser.parse_args()
    asyncioreactor.install()
    react(main, [arguments.port])
