"""Offsets that leave numbers out: what is missing is found by the links, not by counting."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Entry
from oni.channels._kept import is_seamless
from oni.interfaces import IChannelBackend
from oni.testing import Ear, FakeBackend
from oni.values import Draft, Page, Position, StreamOptions
from tests.channels.node import NodeTestCase

STEPS = (7, 1, 1000, 3, 58)  # over and over


class SparseTestCase(NodeTestCase):
    """A node on a backend that counts 7, 8, 1008, 1011, 1069, 1076 and so on."""

    options = StreamOptions(ring_entries=4, history_size=8, history_ttl=60.0)

    def make_backend(self) -> IChannelBackend:
        """Make a backend with wide steps, which holds nothing back."""
        steps = itertools.cycle(STEPS)
        self.backend = FakeBackend(self.clock, holds=False, step=lambda: next(steps))
        return self.backend

    def send(self, *numbers: int) -> list[int]:
        """Publish numbers; give their offsets."""
        return [self.publish(number).offset for number in numbers]

    def attach(self, offset: int, epoch: str | None = None) -> Any:
        """Come back with an offset; give whether it was recovered, and with which numbers."""
        ear = Ear()
        since = Position(self.channel.ring.epoch if epoch is None else epoch, offset)
        attached = self.successResultOf(self.channel.attach(ear, since))
        attached.subscription.begin()
        attached.subscription.close()
        return attached.recovered, [int(entry.data) for entry in attached.entries]


class SeamTests(SynchronousTestCase):
    """What the link of a page proves."""

    def test_seams(self) -> None:
        """Nothing is missing where the link says so, or where no number lies in between."""

        def is_whole(since: int, prev: int, offset: int) -> bool:
            entry = Entry("c", Draft("m", b"1"), Position("e", offset), prev)
            return is_seamless(Page((entry,), prev, entry.position), since)

        self.assertTrue(is_whole(7, 7, 9))
        self.assertTrue(is_whole(8, 7, 9))
        self.assertFalse(is_whole(6, 7, 9))
        self.assertTrue(is_whole(0, 0, 9))
        self.assertFalse(is_whole(7, 0, 9))
        self.assertTrue(is_whole(8, 0, 9))
        top = Position("e", 9)
        seams = [is_seamless(Page((), 9, top), since) for since in (8, 9)]
        self.assertEqual(seams, [False, True])


class LiveTests(SparseTestCase):
    """Readers that are there."""

    def test_same_offset_in_another_epoch(self) -> None:
        """A new life that begins with the offset at which the last one ended is told of."""
        self.hear()
        for epoch, data in (("e", b"1"), ("f", b"2")):
            entry = Entry("news", Draft("m", data), Position(epoch, 7), 0)
            self.channel.feed.received([entry])
            self.ear.drain()
        self.assertEqual([line[1:3] for line in self.ear.lines][-1], ["f", 7])
        self.assertEqual(self.ear.heard[-1], ("m", 2))

    def test_everything_in_order(self) -> None:
        """Steps are no gaps, and repair nothing."""
        self.hear()
        offsets = self.send(*range(6))
        self.assertEqual(offsets, [7, 8, 1008, 1011, 1069, 1076])
        self.assertEqual(self.numbers(), list(range(6)))
        numbers = self.node.statistics()
        self.assertEqual((numbers["gaps"], numbers["repairs"]), (0, 0))

    def test_behind(self) -> None:
        """Who fell off the ring reads history up to its base."""
        self.hear()
        self.send(*range(8))
        self.assertEqual(self.numbers(), list(range(8)))
        self.assertEqual(self.node.statistics()["gaps"], 0)

    def test_trimmed(self) -> None:
        """Where the history is gone, the gap ends at the link of the oldest that is left."""
        self.hear()
        offsets = self.send(*range(8))
        self.channel.remove_history()
        self.assertEqual(self.ear.offsets, [-offsets[3], *offsets[4:]])

    def test_too_much(self) -> None:
        """Where the history is too short, the gap ends at the link of its oldest."""
        self.hear()
        offsets = self.send(*range(20))
        self.assertEqual(self.ear.offsets, [-offsets[11], *offsets[12:]])

    def test_lost_in_silence(self) -> None:
        """A link to what was not heard is made up from history."""
        self.hear()
        self.send(1, 2)
        self.ear.drain()
        self.backend.is_deaf = True
        self.send(3)
        self.backend.is_deaf = False
        self.send(4)
        self.assertEqual(self.numbers(), [1, 2, 3, 4])
        numbers = self.node.statistics()
        self.assertEqual((numbers["gaps"], numbers["repairs"]), (0, 1))

    def test_first_one(self) -> None:
        """The first publication has none before it: for who stands at 0 that is no gap."""
        self.hear()
        self.send(1)
        self.assertEqual(self.ear.offsets, [7])
        self.assertEqual(self.node.statistics()["gaps"], 0)

    def test_forgotten(self) -> None:
        """None before it, though others were heard: that is a gap, and one only."""
        self.hear()
        self.send(1, 2)
        self.ear.drain()
        self.backend.forget("news")
        self.send(3, 4)
        self.assertEqual(self.ear.offsets, [7, 8, -1007, 1008, 1011])

    def test_ahead_of_the_feed(self) -> None:
        """Who has recovered what the feed brings later, after a break, is not sent back."""
        self.hear()
        self.send(1, 2)
        self.ear.drain()
        epoch = self.channel.ring.epoch
        self.backend.forget("news")
        self.backend.holds = True
        sent = [self.channel.publish("message", number) for number in (3, 4, 5)]
        while self.backend.answer():
            pass
        places = [self.successResultOf(one).offset for one in sent]
        ear = Ear()
        attaching = self.channel.attach(ear, Position(epoch, places[0]))
        while self.backend.answer():
            pass
        attached = self.successResultOf(attaching)
        self.assertEqual([entry.offset for entry in attached.entries], places[1:])
        attached.subscription.begin()
        self.backend.settle()
        self.backend.holds = False
        last = self.send(6)
        self.assertEqual((ear.offsets, ear.gaps), (last, []))
        self.assertEqual(self.ear.offsets, [7, 8, -(places[0] - 1), *places, *last])

    def test_forgotten_behind(self) -> None:
        """The same, read from history by one that is behind."""
        self.options = StreamOptions(ring_entries=2, history_size=8, history_ttl=60.0)
        self.channel = self.node.get("short")
        self.hear()
        self.send(1, 1)
        self.ear.drain()
        self.backend.is_deaf = True
        self.backend.forget("short")
        offsets = self.send(2, 3, 4)
        self.backend.is_deaf = False
        offsets += self.send(5)
        self.assertEqual(self.ear.offsets, [7, 8, -1007, *offsets])


class RecoveryTests(SparseTestCase):
    """Readers that come back."""

    def setUp(self) -> None:
        """Publish twelve: the ring has the last four, history the last eight."""
        super().setUp()
        self.channel.start()
        self.offsets = self.send(*range(12))

    def test_from_the_ring(self) -> None:
        """What the ring covers is recovered from it."""
        for index in range(7, 12):
            expected = list(range(index + 1, 12))
            self.assertEqual(self.attach(self.offsets[index]), (True, expected))
        self.assertEqual(self.backend.reads, 0)

    def test_from_history(self) -> None:
        """What history covers is recovered from it, the link of its oldest included."""
        for index in range(3, 7):
            expected = list(range(index + 1, 12))
            self.assertEqual(self.attach(self.offsets[index]), (True, expected))

    def test_too_old(self) -> None:
        """What is not covered gives nothing."""
        for index in range(3):
            self.assertEqual(self.attach(self.offsets[index]), (False, []))
        self.assertEqual(self.attach(0), (False, []))

    def test_between(self) -> None:
        """An offset that was never given is as good as the one before it, or as bad."""
        self.assertEqual(self.attach(self.offsets[8] - 1), (True, [8, 9, 10, 11]))
        self.assertEqual(self.attach(self.offsets[5] - 1), (True, list(range(5, 12))))
        self.assertEqual(self.attach(self.offsets[3] - 1), (False, []))

    def test_future(self) -> None:
        """An offset that is not reached yet gives nothing."""
        self.assertEqual(self.attach(self.offsets[-1] + 1), (False, []))

    def test_foreign(self) -> None:
        """Another channel's position gives nothing, nor does another time's."""
        other = self.node.get("other")
        foreign = self.publish(1, channel=other)
        for offset in (foreign.offset, self.offsets[-1]):
            self.assertEqual(self.attach(offset, foreign.epoch), (False, []))
            self.assertEqual(self.attach(offset, ""), (False, []))

    def test_forgotten(self) -> None:
        """After all was forgotten nothing can be recovered but what came since."""
        self.backend.forget("news")
        offsets = self.send(12, 13)
        self.assertEqual(self.attach(self.offsets[-1]), (False, []))
        self.assertEqual(self.attach(offsets[0]), (True, [13]))

    def test_forgotten_and_read(self) -> None:
        """The same where it has to be read."""
        self.backend.forget("news")
        offsets = self.send(*range(12, 18))
        self.assertEqual(self.attach(self.offsets[-1]), (False, []))
        self.assertEqual(self.attach(offsets[0]), (True, [13, 14, 15, 16, 17]))

    def test_trimmed(self) -> None:
        """Trimmed history gives nothing, the ring still does."""
        self.channel.remove_history()
        self.assertEqual(self.attach(self.offsets[6]), (False, []))
        self.assertEqual(self.attach(self.offsets[7]), (True, [8, 9, 10, 11]))

    def test_history_of_half(self) -> None:
        """Pages are found by their offsets, forward and back."""
        epoch = self.channel.ring.epoch
        since = Position(epoch, self.offsets[8] + 1)
        if since.offset == self.offsets[9]:
            self.fail("the steps leave no room here")
        page = self.successResultOf(self.channel.history(since=since))
        self.assertEqual([int(entry.data) for entry in page.entries], [9, 10, 11])
        page = self.successResultOf(self.channel.history(since=since, reverse=True, limit=2))
        self.assertEqual([int(entry.data) for entry in page.entries], [8, 7])
        self.assertEqual(page.first_prev, self.offsets[6])
