"""Django Channels with its in-memory layer; Daphne serves ``channels_daphne:application``."""

import django
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    LOGGING_CONFIG=None,
    SECRET_KEY="only for a benchmark",
    USE_TZ=True,
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - asks for settings
from channels.routing import ProtocolTypeRouter  # noqa: E402
from loop_probe import probe_twisted  # noqa: E402
from twisted.internet import reactor  # noqa: E402 - Daphne has chosen it before


class Subscriber(AsyncWebsocketConsumer):
    """Hears the group, and may publish."""

    async def connect(self) -> None:
        """Join."""
        await self.channel_layer.group_add("everyone", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave."""
        await self.channel_layer.group_discard("everyone", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Publish."""
        await self.channel_layer.group_send("everyone", {"type": "tell", "text": text_data})

    async def tell(self, event: dict[str, str]) -> None:
        """Send what was published."""
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter({"websocket": Subscriber.as_asgi()})
reactor.callWhenRunning(probe_twisted, reactor)
