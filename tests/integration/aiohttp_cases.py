"""The battery for the carrier of aiohttp. Trial runs it: ``test_aiohttp_carrier.py``."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from twisted.internet.defer import Deferred

from oni.carriers.aiohttp_websocket import AioHttpWebSocketCarrier
from tests.integration import websocket_client
from tests.integration.websocket_client import Link, on_loop


class AioHttpCarrierTests(websocket_client.FrameworkBattery):
    """The carrier in aiohttp's own server."""

    async def serve(self) -> int:
        """Serve websockets at ``/``."""
        application = web.Application()
        application.add_routes([web.get("/", self.handle)])
        runner = web.AppRunner(application, shutdown_timeout=0.5)
        await runner.setup()
        self.addCleanup(lambda: on_loop(runner.cleanup()))
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Accept a websocket, and read until it ends."""
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        self.accepted.put_nowait(websocket)
        async for _ in websocket:
            pass
        return websocket

    def make_carrier(self, connection: Link) -> AioHttpWebSocketCarrier:
        """Make a carrier."""
        return AioHttpWebSocketCarrier(connection.websocket)

    def test_end_without_a_publication(self) -> Deferred[None]:
        """An end is found out though nothing is published."""
        return Deferred.fromCoroutine(self.started(_leaves_by_itself))


async def _leaves_by_itself(case: Any) -> None:
    connection = await case.make_connection()
    await case.channel.subscribe(None, case.make_carrier(connection))
    await case.hang_up(connection)
    while case.channel.subscribers:
        await case.pause()
