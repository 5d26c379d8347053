"""What channels count: publications by namespace, deliveries that became due, and lags."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Channels
from oni.testing import Ear
from oni.values import StreamOptions


class CountingTests(SynchronousTestCase):
    """Counters that cost one step for a publication, and none for a delivery."""

    def setUp(self) -> None:
        """Have channels with small rings."""
        self.clock = Clock()
        self.channels = Channels(
            options=lambda name: StreamOptions(ring_entries=4), reactor=self.clock
        )
        self.successResultOf(self.channels.start())

    def publish(self, name: str, times: int = 1) -> None:
        """Publish on a channel."""
        for number in range(times):
            self.successResultOf(self.channels.get(name).publish("message", number))

    def test_namespaces(self) -> None:
        """Publications are counted apart for each namespace."""
        self.publish("plain")
        self.publish("chat:a", 2)
        self.publish("chat:b")
        self.assertEqual({"": 1, "chat": 3}, dict(self.channels.published))
        self.assertEqual(4, self.channels.statistics()["publications"])

    def test_too_many_namespaces(self) -> None:
        """Names that nobody bounds do not make counters without bound."""
        for number in range(1100):
            self.publish(f"n{number}:a")
        self.assertEqual(1001, len(self.channels.published))
        self.assertEqual(100, self.channels.published[":others"])
        self.assertEqual(1100, self.channels.statistics()["publications"])

    def test_deliveries(self) -> None:
        """A publication is due once for each subscription there is."""
        self.publish("lobby")
        carriers = [Ear() for _ in range(3)]
        for carrier in carriers:
            self.successResultOf(self.channels.get("lobby").subscribe(None, carrier))
        self.publish("lobby", 2)
        self.assertEqual(6, self.channels.statistics()["deliveries"])

    def test_lags(self) -> None:
        """Each subscription is counted by what it has not taken of the ring."""
        channel = self.channels.get("lobby")
        slow, quick = Ear(), Ear()
        for carrier in (slow, quick):
            self.successResultOf(channel.subscribe(None, carrier))
        quick.drain()
        slow.drain()
        self.assertEqual({0: 2}, dict(self.channels.lags()))
        self.publish("lobby", 3)
        quick.drain()
        self.assertEqual({0: 1, 3: 1}, dict(self.channels.lags()))
        self.publish("lobby", 5)
        quick.drain()
        self.assertEqual({0: 1, 4: 1}, dict(self.channels.lags()))

    def test_reconnects(self) -> None:
        """The first time that the backend works is no reconnect."""
        self.assertEqual(0, self.channels.statistics()["reconnects"])
        self.channels.up()
        self.assertEqual(0, self.channels.statistics()["reconnects"])
        self.channels.down()
        self.channels.up()
        self.assertEqual(1, self.channels.statistics()["reconnects"])
