"""The battery for the carrier of Sanic. Trial runs it: ``test_sanic_carrier.py``."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

from sanic import Request, Sanic
from twisted.internet.defer import Deferred

from oni.carriers.sanic_websocket import SanicWebSocketCarrier
from tests.integration import websocket_client
from tests.integration.websocket_client import Link


class SanicCarrierTests(websocket_client.FrameworkBattery):
    """The carrier in Sanic's own server."""

    # Sanic can be started once in a process, so all tests share one server, to the end.
    everybody: ClassVar[asyncio.Queue[Any]] = asyncio.Queue()
    served: ClassVar[int] = 0

    async def serve(self) -> int:
        """Serve websockets at ``/``."""
        self.accepted = self.everybody
        if not self.served:
            type(self).served = await self._serve()
        return self.served

    async def _serve(self) -> int:
        application: Any = Sanic("carriers", configure_logging=False)
        application.add_websocket_route(self.handle, "/")
        listening = socket.create_server(("127.0.0.1", 0))
        server = await application.create_server(sock=listening, return_asyncio_server=True)
        await server.startup()
        await server.start_serving()
        return int(listening.getsockname()[1])

    async def handle(self, request: Request, websocket: Any) -> None:
        """Accept a websocket, and read until it ends."""
        self.everybody.put_nowait(websocket)
        async for _ in websocket:
            pass

    def make_carrier(self, connection: Link) -> SanicWebSocketCarrier:
        """Make a carrier."""
        return SanicWebSocketCarrier(connection.websocket)

    def test_end_without_a_publication(self) -> Deferred[None]:
        """An end is found out though nothing is published."""
        return Deferred.fromCoroutine(self.started(_leaves_by_itself))


async def _leaves_by_itself(case: Any) -> None:
    connection = await case.make_connection()
    await case.channel.subscribe(None, case.make_carrier(connection))
    await case.hang_up(connection)
    while case.channel.subscribers:
        await case.pause()
