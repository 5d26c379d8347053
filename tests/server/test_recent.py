"""Channels that were left a moment ago."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import count
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Channels
from oni.channels.backends.memory import MemoryBackend
from oni.server import _recent
from oni.server._recent import RecentChannels
from oni.testing import Ear
from tests.channels.node import KEEPS
from tests.server.house import HouseTestCase


class RecentChannelsTests(SynchronousTestCase):
    """Tests of the class."""

    def setUp(self) -> None:
        """Begin without."""
        self.clock = Clock()
        epochs = (f"e{number}" for number in count(1))
        self.backend = MemoryBackend(self.clock, new_epoch=lambda: next(epochs))
        self.channels = Channels(self.backend, options=lambda name: KEEPS, reactor=self.clock)
        self.channels.start()
        self.recent = RecentChannels(self.clock)

    def epoch(self, name: str) -> str:
        """Give the epoch of a channel's stream."""
        return self.successResultOf(self.channels.get(name).history(0)).top.epoch

    def left(self, name: str) -> None:
        """Let somebody hear a channel, and leave it."""
        channel, ear = self.channels.get(name), Ear()
        channel.subscribe(None, ear)
        channel.unsubscribe(None, ear)
        self.recent.keep(channel, 10)

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
                self.left(name)
        self.assertEqual(len(self.recent), 2)
        gc.collect()
        self.assertEqual(self.backend.statistics()["streams"], 2)
        self.assertNotEqual(self.epoch("a"), "e1")
        self.assertEqual([self.epoch(name) for name in "bc"], ["e2", "e3"])
        self.assertLessEqual(_recent.MAX_RECENT, 10_000)

    def test_little(self) -> None:
        """The channel itself goes; what is kept of it takes less than 1 kB."""
        self.left("kept:first")
        names = [f"kept:{'x' * 200}{number}" for number in range(500)]
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for name in names:
            self.left(name)
        gc.collect()
        self.assertEqual(self.channels.names(), [])
        self.assertLess(tracemalloc.get_traced_memory()[0] / len(names), 1000)
        self.assertEqual(self.epoch(names[0]), "e2")

    def test_history_gone(self) -> None:
        """So it is after there was history: what that took is given back."""
        channel = self.channels.get("a")
        stream: Any = channel.hold()
        empty = stream.offsets
        channel.publish("x", 1)
        self.assertEqual(list(stream.offsets), [1])
        self.assertFalse(empty)
        self.clock.advance(60)
        self.assertIs(stream.offsets, empty)

    def test_nothing_to_keep(self) -> None:
        """Where streams live by their own rules, nothing is kept."""
        channel = self.channels.get("a")
        self.patch(channel, "_stream", None)
        self.recent.keep(channel, 10)
        self.assertEqual((len(self.recent), self.clock.getDelayedCalls()), (0, []))

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
