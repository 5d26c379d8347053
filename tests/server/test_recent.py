"""Channels that were left a moment ago."""

from __future__ import annotations

from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Channels
from oni.server import _recent
from oni.server._recent import RecentChannels
from tests.server.house import HouseTestCase


class RecentChannelsTests(SynchronousTestCase):
    """Tests of the class."""

    def setUp(self) -> None:
        """Begin without."""
        self.clock = Clock()
        self.channels = Channels(reactor=self.clock)
        self.recent = RecentChannels(self.clock)

    def test_keep(self) -> None:
        """Each is kept for its time from when it was left last, and the clock rests then."""
        self.recent.keep(self.channels.get("a"), 10)
        self.clock.advance(5)
        self.recent.keep(self.channels.get("b"), 10)
        self.recent.keep(self.channels.get("a"), 20)
        self.clock.advance(9)
        self.assertEqual(len(self.recent), 2)
        self.clock.advance(1)
        self.assertEqual(len(self.recent), 1)
        self.clock.advance(10)
        self.assertEqual(len(self.recent), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """The one that was left first goes when there are too many."""
        with mock.patch.object(_recent, "MAX_RECENT", 2):
            for name in ("a", "b", "c"):
                self.recent.keep(self.channels.get(name), 10)
        self.assertEqual(len(self.recent), 2)
        self.assertNotIn("a", self.channels.names())

    def test_clear(self) -> None:
        """At the end nothing is kept, and nothing is waited for."""
        self.recent.keep(self.channels.get("a"), 10)
        self.recent.clear()
        self.assertEqual((len(self.recent), self.clock.getDelayedCalls()), (0, []))


class SessionTests(HouseTestCase):
    """What it is for."""

    def test_comes_back(self) -> None:
        """A client that heard nothing comes back and gets what was published meanwhile."""
        client = self.connected()
        told = client.ask("subscribe", channel="kept:a")
        client.vanish()
        self.successResultOf(self.oni.act("publish", channel="kept:a", data=1))
        again = self.connected().ask(
            "subscribe", channel="kept:a", recover=True, epoch=told["epoch"]
        )
        self.assertEqual((again["recovered"], len(again["publications"])), (True, 1))

    def test_comes_back_late(self) -> None:
        """After the time for which the channel's history is kept, it is told of a gap."""
        client = self.connected()
        told = client.ask("subscribe", channel="kept:a")
        client.vanish()
        self.reactor.pump([50.0] * 7)
        again = self.connected().ask(
            "subscribe", channel="kept:a", recover=True, epoch=told["epoch"]
        )
        self.assertNotIn("recovered", again)
        self.assertNotEqual(again["epoch"], told["epoch"])
