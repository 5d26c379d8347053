"""One object per channel's name, for as long as it is needed."""

from __future__ import annotations

import gc
import itertools

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.channels import Channels, namespace_of
from oni.errors import ChannelNameError
from oni.interfaces import IChannels


class Deaf:
    """A carrier that hears nothing."""

    def deliver(self, entry: object) -> None:
        """Do nothing."""


class ChannelsTests(SynchronousTestCase):
    """Tests of :class:`oni.channels.Channels`."""

    def setUp(self) -> None:
        """Count the epochs."""
        numbers = itertools.count(1)
        self.channels = Channels(lambda: f"e{next(numbers)}")

    def test_interface(self) -> None:
        """They are channels."""
        verifyObject(IChannels, self.channels)

    def test_one_per_name(self) -> None:
        """A name always gives the same object."""
        channel = self.channels.get("a")
        self.assertIs(self.channels.get("a"), channel)
        self.assertIsNot(self.channels.get("b"), channel)
        self.assertEqual(channel.name, "a")

    def test_kept_by_subscribers(self) -> None:
        """A channel with subscribers lives; without, it goes, and its next life is another."""
        carrier = Deaf()
        self.channels.get("a").subscribe(None, carrier)
        gc.collect()
        self.assertEqual(self.channels.names(), ["a"])
        self.assertEqual(self.channels.statistics(), {"channels": 1, "subscriptions": 1})
        self.channels.get("a").unsubscribe(None, carrier)
        gc.collect()
        self.assertEqual(self.channels.names(), [])
        self.assertEqual(self.channels.statistics(), {"channels": 0, "subscriptions": 0})
        self.assertEqual(self.channels.get("a").position.epoch, "e2")

    def test_kept_by_reference(self) -> None:
        """A channel that somebody holds lives."""
        channel = self.channels.get("a")
        channel.publish("x", 1)
        gc.collect()
        self.assertEqual(self.channels.get("a").position.offset, 1)

    def test_epochs_differ(self) -> None:
        """Without being told, every stream has an epoch of its own."""
        channels = Channels()
        held = [channels.get(f"c{number}") for number in range(100)]
        self.assertEqual(len({channel.position.epoch for channel in held}), 100)

    def test_names(self) -> None:
        """A channel's name is 1 to 255 visible ASCII characters."""
        for name in ("", "a b", "a\n", "\x7f", "ä", "x" * 256, 7, None, b"a", []):
            self.assertRaises(ChannelNameError, self.channels.get, name)
        self.assertEqual(self.channels.get("x" * 255).name, "x" * 255)

    def test_namespace(self) -> None:
        """The namespace is what comes before the first colon."""
        self.assertEqual(namespace_of("chat:room:1"), "chat")
        self.assertEqual(namespace_of("news"), "")
        self.assertEqual(namespace_of(":x"), "")
