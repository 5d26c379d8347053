"""Channels on a websocket of Sanic's.

In a handler::

    @app.websocket("/events")
    async def events(request, ws):
        channel = oni.channels.get("lobby")
        channel.subscribe("user_created", SanicWebSocketCarrier(ws))
        while True:
            await ws.recv()

Sanic lives on an asyncio loop, so Twisted's reactor must be on that loop, too: call
``asyncioreactor.install()`` before anything else, and serve with ``app.create_server``.
"""

from __future__ import annotations

from oni.carriers._asyncio import AsyncioCarrier

__all__ = ["SanicWebSocketCarrier"]


class SanicWebSocketCarrier(AsyncioCarrier):
    """Delivers to the websocket that Sanic gives to a handler, as text messages.

    Args:
        connection: The websocket.

    Raises:
        WrongReactorError: The reactor is not on asyncio's loop.
    """

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed."""
        return bool(self.connection.ws_proto.state.name == "OPEN")

    async def send(self, message: bytes) -> None:
        """See :class:`oni.carriers.Carrier`. It waits where Sanic's buffer is full."""
        await self.connection.send(message.decode())

    def close(self, code: int, reason: str) -> None:
        """See :class:`oni.carriers.Carrier`."""
        self.connection.fail_connection(code, reason)

    def watch(self) -> None:
        """See :class:`oni.carriers.Carrier`. Sanic tells of a connection's end."""
        self.begin(self._watch())

    async def _watch(self) -> None:
        await self.connection.wait_for_connection_lost()
        self.detach()
