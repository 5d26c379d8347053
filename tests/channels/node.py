"""A node of channels on a clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Channel, Channels
from oni.channels.backends.memory import MemoryBackend
from oni.interfaces import IChannelBackend
from oni.testing import Ear
from oni.values import Position, StreamOptions

KEEPS = StreamOptions(history_size=1000, history_ttl=60.0)


class NodeTestCase(SynchronousTestCase):
    """Channels in memory, whose epochs are e1, e2 and so on."""

    options = StreamOptions()

    def setUp(self) -> None:
        """Make the node, a channel and an ear."""
        self.clock = Clock()
        self.node = self.make_node(self.make_backend())
        self.channel: Channel = self.node.get("news")
        self.ear = Ear()

    def make_backend(self) -> IChannelBackend:
        """Make the backend."""
        numbers = itertools.count(1)
        return MemoryBackend(self.clock, new_epoch=lambda: f"e{next(numbers)}")

    def make_node(self, backend: IChannelBackend, **options: Any) -> Channels:
        """Make a node that stops with the test."""
        node = Channels(backend, options=self.options_of, reactor=self.clock, **options)
        self.addCleanup(node.stop)
        return node

    def options_of(self, name: str) -> StreamOptions:
        """Give the options of a channel."""
        return self.options

    def publish(self, *numbers: int, channel: Channel | None = None, **more: Any) -> Position:
        """Publish numbers; give the last one's position."""
        position = Position("", 0)
        for number in numbers:
            sent = (channel or self.channel).publish("message", number, **more)
            position = self.successResultOf(sent)
        return position

    def hear(self, ear: Ear | None = None, since: Position | None = None) -> Position:
        """Subscribe to everything."""
        subscribed = self.channel.subscribe(None, ear or self.ear, since)
        return self.successResultOf(subscribed)

    def numbers(self, ear: Ear | None = None) -> list[Any]:
        """Give the data that an ear has heard."""
        return [data for _, data in (ear or self.ear).heard]


Encode = Callable[[Any], bytes]
