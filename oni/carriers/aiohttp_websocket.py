"""Channels on a websocket of aiohttp's server.

In a handler::

    async def websocket(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        carrier = AioHttpWebSocketCarrier(ws)
        oni.channels.get("lobby").subscribe("user_created", carrier)
        async for message in ws:
            ...
        return ws

aiohttp lives on an asyncio loop, so Twisted's reactor must be on that loop, too: start with
``twistd --reactor=asyncio``, or call ``asyncioreactor.install()`` before anything else.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from oni.carriers._asyncio import AsyncioCarrier

__all__ = ["AioHttpWebSocketCarrier"]

_LOOK_EVERY = 5.0  # seconds
_CLOSE_WITHIN = 10.0


class AioHttpWebSocketCarrier(AsyncioCarrier):
    """Delivers to an ``aiohttp.web.WebSocketResponse`` that is prepared, as text messages.

    aiohttp tells nobody of a connection's end but the handler that reads. So the carrier looks
    every five seconds, and before each message; a handler may unsubscribe before that.

    Args:
        connection: The websocket.

    Raises:
        WrongReactorError: The reactor is not on asyncio's loop.
    """

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed."""
        if self.connection.closed:
            return False
        handle = self._handle()
        return handle is not None and handle.fileno() >= 0

    async def send(self, message: bytes) -> None:
        """See :class:`oni.carriers.Carrier`. It waits where aiohttp's buffer is full."""
        await self.connection.send_str(message.decode())

    def close(self, code: int, reason: str) -> None:
        """See :class:`oni.carriers.Carrier`. A client that does not read is cut off soon."""
        self.begin(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        closing = self.connection.close(code=code, message=reason.encode())
        try:
            await asyncio.wait_for(closing, _CLOSE_WITHIN)
        except TimeoutError:  # it waits for room in the buffer
            handle = self._handle()
            if handle is not None:
                handle.shutdown(socket.SHUT_RDWR)

    def _handle(self) -> Any:
        return self.connection.get_extra_info("socket")

    def watch(self) -> None:
        """See :class:`oni.carriers.Carrier`."""
        self.begin(self._watch())

    async def _watch(self) -> None:
        while self.is_open:
            await asyncio.sleep(_LOOK_EVERY)
        self.detach()
