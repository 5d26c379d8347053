"""One object per channel's name, for as long as it is needed."""

from __future__ import annotations

import gc

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from oni.channels import Channels, namespace_of
from oni.errors import ChannelNameError
from oni.interfaces import IBackendSink, IChannels
from oni.testing import Ear, FakeBackend
from oni.values import ClientInfo, StreamOptions
from tests.channels.node import KEEPS, NodeTestCase


class ChannelsTests(NodeTestCase):
    """Tests of :class:`oni.channels.Channels`."""

    def setUp(self) -> None:
        """Hold no channel."""
        super().setUp()
        del self.channel
        gc.collect()

    def epoch(self, name: str = "a") -> str:
        """Ask for a channel's epoch."""
        return self.successResultOf(self.node.get(name).history(0)).top.epoch

    def test_interface(self) -> None:
        """They are channels, and what a backend reports to."""
        verifyObject(IChannels, self.node)
        verifyObject(IBackendSink, self.node)

    def test_one_per_name(self) -> None:
        """A name always gives the same object."""
        channel = self.node.get("a")
        self.assertIs(self.node.get("a"), channel)
        self.assertIsNot(self.node.get("b"), channel)
        self.assertEqual(channel.name, "a")

    def test_kept_by_subscribers(self) -> None:
        """A channel with subscribers lives; without, it goes, and its next life is another."""
        self.node.get("a").subscribe(None, self.ear)
        self.ear.drain()
        gc.collect()
        self.assertEqual(self.node.names(), ["a"])
        epoch = self.epoch()
        self.node.get("a").unsubscribe(None, self.ear)
        gc.collect()
        self.assertEqual(self.node.names(), [])
        self.assertNotEqual(self.epoch(), epoch)
        self.assertEqual(self.node.statistics()["backend_streams"], 0)

    def test_kept_by_reference(self) -> None:
        """A channel that somebody holds lives."""
        channel = self.node.get("a")
        channel.publish("x", 1)
        gc.collect()
        self.assertEqual(self.successResultOf(self.node.get("a").history(0)).top.offset, 1)
        del channel

    def test_kept_by_start(self) -> None:
        """A channel that was started is heard while somebody holds it, and not for longer."""
        channel = self.node.get("a")
        self.successResultOf(channel.start())
        channel.publish("x", 1)
        self.assertEqual(len(channel.ring), 1)
        epoch = self.epoch()
        del channel
        gc.collect()
        self.node.statistics()
        self.assertNotEqual(self.epoch(), epoch)

    def test_started_and_gone(self) -> None:
        """Nothing stays of a channel that was started and that nobody holds any more."""
        self.options = StreamOptions()
        channel = self.node.get("a")
        self.successResultOf(channel.start())
        channel.publish("x", 1)
        self.assertGreater(self.node.statistics()["ring_bytes"], 0)
        del channel
        self.assertEqual(self.node.statistics()["ring_bytes"], 0)

    def test_gone_while_it_waits(self) -> None:
        """A channel that cannot be heard, and that nobody holds any more, is not asked for."""
        backend = FakeBackend(self.clock, holds=False)
        node = self.make_node(backend)
        channel = node.get("a")
        self.successResultOf(channel.start())
        backend.go_down()
        node.lost("a", "a test")
        del channel
        backend.come_up()
        node.statistics()
        follows = backend.follows
        self.clock.advance(60)
        self.assertEqual(backend.follows, follows)

    def test_coming_and_going(self) -> None:
        """A channel that is held while subscribers come and go leaves nothing behind."""
        channel = self.node.get("a")
        for _ in range(20):
            channel.subscribe(None, self.ear)
            self.ear.drain()
            channel.unsubscribe(None, self.ear)
        del channel
        gc.collect()
        self.assertEqual(len(self.node._gone), 1)
        self.assertEqual(self.node.statistics()["backend_streams"], 0)

    def test_stopped_before_it_started(self) -> None:
        """A stop ends those who wait for the start."""
        backend = FakeBackend(self.clock)
        node = Channels(backend, reactor=self.clock)
        waits = node.get("a").subscribe(None, self.ear)
        started = node.start()
        node.stop()
        self.failureResultOf(waits, CancelledError)
        self.failureResultOf(started, CancelledError)
        self.assertFalse(node.is_ready)

    def test_kept_by_history(self) -> None:
        """A stream with history lives, until that has expired."""
        self.options = KEEPS
        self.node.get("a").publish("x", 1)
        epoch = self.epoch()
        gc.collect()
        self.clock.advance(59)
        self.assertEqual(self.epoch(), epoch)
        self.clock.advance(2)
        gc.collect()
        self.assertNotEqual(self.epoch(), epoch)

    def test_kept_by_presence(self) -> None:
        """A stream in which somebody is present lives."""
        self.node.get("a").enter(ClientInfo("bob", "c1"))
        epoch = self.epoch()
        gc.collect()
        self.assertEqual(self.epoch(), epoch)
        self.node.get("a").leave("c1")
        gc.collect()
        self.assertNotEqual(self.epoch(), epoch)

    def test_epochs_differ(self) -> None:
        """Without being told, every stream has an epoch of its own."""
        node = Channels(reactor=Clock())
        held = [node.get(f"c{number}") for number in range(100)]
        epochs = {self.successResultOf(channel.history(0)).top.epoch for channel in held}
        self.assertEqual(len(epochs), 100)

    def test_statistics(self) -> None:
        """What there is and what happened can be counted."""
        self.node.get("a").subscribe(None, self.ear)
        self.node.get("a").publish("x", 1)
        numbers = self.node.statistics()
        self.assertEqual((numbers["channels"], numbers["subscriptions"]), (1, 1))
        self.assertEqual((numbers["publications"], numbers["backend_up"]), (1, 1))
        self.assertGreater(numbers["ring_bytes"], 0)
        self.node.get("a").unsubscribe(None, self.ear)
        numbers = self.node.statistics()
        self.assertEqual((numbers["subscriptions"], numbers["ring_bytes"]), (0, 0))

    def test_stop(self) -> None:
        """A stop ends subscriptions and timers; afterwards all can be begun again."""
        self.options = KEEPS
        channel = self.node.get("a")
        channel.subscribe(None, self.ear)
        channel.publish("x", 1)
        channel.enter(ClientInfo("bob", "c1"))
        self.successResultOf(self.node.stop())
        self.assertEqual((channel.subscribers, self.clock.getDelayedCalls()), (0, []))
        self.assertEqual(self.ear.heard, [])
        other = Ear()
        self.successResultOf(channel.subscribe(None, other))
        channel.publish("x", 2)
        self.assertEqual(other.heard, [("x", 2)])

    def test_names(self) -> None:
        """A channel's name is 1 to 255 visible ASCII characters."""
        for name in ("", "a b", "a\n", "\x7f", "ä", "x" * 256, 7, None, b"a", []):
            self.assertRaises(ChannelNameError, self.node.get, name)
        self.assertEqual(self.node.get("x" * 255).name, "x" * 255)

    def test_namespace(self) -> None:
        """The namespace is what comes before the first colon."""
        self.assertEqual(namespace_of("chat:room:1"), "chat")
        self.assertEqual(namespace_of("news"), "")
        self.assertEqual(namespace_of(":x"), "")
