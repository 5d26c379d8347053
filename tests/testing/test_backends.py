"""The backends that are on a test's clock pass the battery."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels.backends.memory import MemoryBackend
from oni.interfaces import IChannelBackend
from oni.testing import FakeBackend, SynchronousBackendBattery


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
