"""The process has one set of channels."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getGlobalSiteManager

import oni.channels
from oni.channels import Channels, MemoryChannel, backend_for
from oni.channels.backends.memory import MemoryBackend
from oni.errors import BackendUrlError, ChannelBackendError, ChannelNameError
from oni.interfaces import IChannels
from oni.testing import FakeBackend


class ProcessTests(SynchronousTestCase):
    """Tests of :func:`oni.channels.get`."""

    def setUp(self) -> None:
        """Begin without registered channels, and leave what was there before."""
        self.registry = getGlobalSiteManager()
        before = self.registry.queryUtility(IChannels)
        if before is not None:
            self.registry.unregisterUtility(before, IChannels)
            self.addCleanup(self.registry.registerUtility, before, IChannels)
        self.addCleanup(self.forget)

    def forget(self) -> None:
        """Take away what the test registered."""
        self.registry.unregisterUtility(provided=IChannels)

    def test_made_at_first_use(self) -> None:
        """Without registered channels, memory ones are made once, and are everybody's."""
        channel = oni.channels.get("a")
        self.assertIs(oni.channels.get("a"), channel)
        self.assertIs(self.registry.getUtility(IChannels).get("a"), channel)

    def test_registered(self) -> None:
        """Registered channels are used."""
        channels = Channels()
        self.registry.registerUtility(channels, IChannels)
        channel = channels.get("a")
        self.assertIs(oni.channels.get("a"), channel)
        self.assertIs(MemoryChannel(name="a"), channel)

    def test_another_backend(self) -> None:
        """A name is kept in one place: in memory it cannot be had where another is used."""
        channels = Channels(FakeBackend(Clock()), reactor=Clock())
        self.registry.registerUtility(channels, IChannels)
        self.assertRaises(ChannelBackendError, MemoryChannel, name="a")
        self.assertIs(oni.channels.get("a"), channels.get("a"))

    def test_backend_by_url(self) -> None:
        """A backend is found by its URL; another URL is refused with the known ones."""
        self.assertIsInstance(backend_for("memory:"), MemoryBackend)
        error = self.assertRaises(BackendUrlError, backend_for, "nowhere://x")
        self.assertIn("memory:", str(error))

    def test_bad_name(self) -> None:
        """A bad name is refused."""
        self.assertRaises(ChannelNameError, oni.channels.get, "")
