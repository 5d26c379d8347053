"""Nobody is let in when the process runs out of file descriptors."""

from __future__ import annotations

import os
import resource

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server.limits import Descriptors
from oni.server.limits._descriptors import _lowest_free, _most, _open_now


class Port:
    """A port that can pause."""

    accepts = True

    def pauseProducing(self) -> None:
        """Stop."""
        self.accepts = False

    def resumeProducing(self) -> None:
        """Go on."""
        self.accepts = True


class DescriptorsTests(SynchronousTestCase):
    """A process that may open 100 files."""

    def setUp(self) -> None:
        """Begin with ten open ones."""
        self.clock = Clock()
        self.open = 10
        self.descriptors = Descriptors(
            self.clock, lambda: self.open, lambda: self.open, lambda: 100
        )
        self.ports = [self.descriptors.watch(Port()), self.descriptors.watch(Port())]

    def accepts(self) -> list[bool]:
        """Say which ports accept."""
        return [port.accepts for port in self.ports]

    def test_room(self) -> None:
        """Below nine tenths nothing happens."""
        self.open = 89
        self.assertTrue(self.descriptors.has_room())
        self.assertEqual(self.accepts(), [True, True])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_short(self) -> None:
        """At nine tenths every port stops, and goes on at eight."""
        self.open = 90
        self.assertTrue(self.descriptors.has_room())
        self.assertEqual(self.accepts(), [False, False])
        self.assertFalse(self.descriptors.has_room())
        self.assertTrue(self.descriptors.is_short)
        for self.open in (120, 90, 81):
            self.clock.advance(0.6)
            self.assertEqual(self.accepts(), [False, False])
        self.open = 80
        self.clock.advance(0.6)
        self.assertEqual(self.accepts(), [True, True])
        self.assertTrue(self.descriptors.has_room())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late_port(self) -> None:
        """A port that is opened meanwhile waits with the others; one that cannot pause is left."""
        self.open = 95
        self.descriptors.has_room()
        self.assertFalse(self.descriptors.watch(Port()).accepts)
        self.assertEqual(self.descriptors.watch("a port"), "a port")

    def test_stop(self) -> None:
        """After the end nothing is looked at."""
        self.open = 95
        self.descriptors.has_room()
        self.descriptors.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_counting(self) -> None:
        """The real numbers are this process's own."""
        before, lowest = _open_now(), _lowest_free()
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
        self.addCleanup(lambda: [os.close(number) for number in files])
        self.assertEqual(_open_now(), before + 50)
        self.assertGreaterEqual(_lowest_free(), lowest + 50)
        self.assertEqual(_most(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
