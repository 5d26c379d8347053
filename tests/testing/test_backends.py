"""The backends that are on a test's clock pass the battery."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels.backends.memory import MemoryBackend
from oni.errors import BackendError
from oni.interfaces import IChannelBackend
from oni.testing import FakeBackend, RecordingSink, SynchronousBackendBattery
from oni.values import Draft, Position, StreamOptions


class MemoryBackendTests(SynchronousBackendBattery, SynchronousTestCase):
    """The memory backend."""

    def make_backend(self) -> IChannelBackend:
        """Make one on a clock."""
        self.clock = Clock()
        return MemoryBackend(self.clock)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.25] * int(seconds / 0.25))


class FakeBackendTests(MemoryBackendTests):
    """The fake backend, which answers in any order."""

    def make_backend(self) -> IChannelBackend:
        """Make one on a clock."""
        self.clock = Clock()
        self.fake = FakeBackend(self.clock, Random(7).randrange)
        return self.fake

    def settle(self) -> None:
        """Let it answer."""
        self.fake.settle()


class PromptFakeBackendTests(MemoryBackendTests):
    """The fake backend, where it holds nothing back."""

    def make_backend(self) -> IChannelBackend:
        """Make one on a clock."""
        self.clock = Clock()
        return FakeBackend(self.clock, holds=False)


class SparseFakeBackendTests(FakeBackendTests):
    """The fake backend, where offsets leave numbers out."""

    def make_backend(self) -> IChannelBackend:
        """Make one on a clock."""
        self.clock = Clock()
        random = Random(7)
        self.fake = FakeBackend(
            self.clock, random.randrange, step=lambda: random.choice((1, 2, 50, 10**12))
        )
        return self.fake

    def test_sparse(self) -> None:
        """Offsets are not one after the other, so that the battery above says something."""
        fake = self.make_backend()
        fake.start(RecordingSink())
        fake.publish("a", Draft("m", b"1"), StreamOptions())
        self.settle()
        for _ in range(3):
            last = fake.publish("a", Draft("m", b"1"), StreamOptions())
            self.settle()
        self.assertGreater(self.successResultOf(last).offset, 4)


class PeerTests(SynchronousTestCase):
    """Several nodes on the same streams."""

    keeps = StreamOptions(history_size=10, history_ttl=60.0)

    def setUp(self) -> None:
        """Start two nodes, the second of which follows."""
        self.one = FakeBackend(Clock(), holds=False)
        self.two = self.one.peer()
        self.sinks = RecordingSink(), RecordingSink()
        for node, sink in zip((self.one, self.two), self.sinks, strict=True):
            self.successResultOf(node.start(sink))
        self.successResultOf(self.two.follow("a"))

    def publish(self) -> Position:
        """Publish through the first node."""
        return self.successResultOf(self.one.publish("a", Draft("m", b"1"), self.keeps))

    def test_publications(self) -> None:
        """Only the nodes that follow a channel receive what another one publishes."""
        position = self.publish()
        self.assertEqual([list(sink.entries) for sink in self.sinks], [[], ["a"]])
        page = self.successResultOf(self.two.read("a", None, None))
        self.assertEqual(page.entries[0].position, position)

    def test_unfollowed_by_one(self) -> None:
        """One that follows no more takes nothing from the other."""
        self.one.follow("a")
        self.two.unfollow("a")
        self.publish()
        self.assertEqual([list(sink.entries) for sink in self.sinks], [["a"], []])

    def test_control(self) -> None:
        """Control messages reach every node."""
        self.two.control(b"x")
        self.assertEqual([sink.messages for sink in self.sinks], [[b"x"], [b"x"]])

    def test_stop(self) -> None:
        """One node's end leaves the streams to the other."""
        position = self.publish()
        self.two.stop()
        self.publish()
        page = self.successResultOf(self.one.read("a", None, None))
        self.assertEqual(page.entries[0].position, position)
        self.assertEqual(self.sinks[1].offsets("a"), [1])

    def test_deaf(self) -> None:
        """A deaf node receives nothing, not even what it sends to itself; the other does."""
        self.one.follow("a")
        self.two.is_deaf = True
        self.publish()
        probe: Deferred[None] = self.two.probe()
        self.assertNoResult(probe)
        self.successResultOf(self.one.probe())
        self.assertEqual([sink.offsets("a") for sink in self.sinks], [[1], []])

    def test_down(self) -> None:
        """One that is down fails to probe."""
        self.two.go_down()
        self.failureResultOf(self.two.probe(), BackendError)

    def test_forget(self) -> None:
        """What comes after all was forgotten says that there was none before it."""
        self.publish()
        self.one.forget("a")
        self.assertEqual(self.publish().offset, 2)
        page = self.successResultOf(self.one.read("a", None, None))
        self.assertEqual((page.first_prev, self.sinks[1].entries["a"][1].prev), (0, 0))
