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

    def __init__(self) -> None:
        """Accept as many at once as Twisted's do."""
        self.numberAccepts = 100
        self.batches: list[int] = []

    def doRead(self) -> None:
        """Accept, twice as many the next time."""
        self.batches.append(self.numberAccepts)
        self.numberAccepts *= 2

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

    def test_own_number(self) -> None:
        """A connection has a number itself: then nothing has to be opened to find one."""
        self.open = 95
        number = 89

        class Transport:
            """A connection with a file."""

            def fileno(self) -> int:
                """Give its number."""
                return number

        self.assertTrue(self.descriptors.has_room(Transport()))
        self.assertFalse(self.descriptors.is_short)
        number = 90
        self.assertTrue(self.descriptors.has_room(Transport()))
        self.assertEqual(self.accepts(), [False, False])
        number = 96
        self.assertFalse(self.descriptors.has_room(Transport()))

    def test_limit_is_looked_up_for_each_batch(self) -> None:
        """A limit that was changed holds from the next batch on."""
        most = 100
        descriptors = Descriptors(self.clock, lambda: 60, lambda: 60, lambda: most)
        port = descriptors.watch(Port())
        port.doRead()
        most = 64
        self.assertTrue(descriptors.has_room())
        self.assertFalse(descriptors.is_short)
        port.doRead()
        self.assertTrue(descriptors.has_room())
        self.assertTrue(descriptors.is_short)

    def test_short(self) -> None:
        """At nine tenths every port stops, and goes on at eight."""
        self.open = 90
        self.assertTrue(self.descriptors.has_room())
        self.assertEqual(self.accepts(), [False, False])
        self.assertTrue(self.descriptors.is_short)
        for self.open in (120, 90, 81):
            self.clock.advance(0.6)
            self.assertEqual(self.accepts(), [False, False])
        self.open = 80
        self.clock.advance(0.6)
        self.assertEqual(self.accepts(), [True, True])
        self.assertTrue(self.descriptors.has_room())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rest_of_the_batch(self) -> None:
        """Who was accepted together with the one that was too many stays, up to 95 %."""
        self.open = 90
        self.descriptors.has_room()
        for self.open, stays in ((91, True), (95, True), (96, False), (100, False)):
            self.assertIs(self.descriptors.has_room(), stays)

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

    def test_batches(self) -> None:
        """A port accepts no more at once than what is left beyond 95 %, and nobody while short."""
        port = Port()
        self.descriptors.watch(port)
        port.doRead()
        port.doRead()
        port.numberAccepts = 3
        port.doRead()
        self.assertEqual(port.batches, [5, 5, 3])
        self.open = 90
        self.descriptors.has_room()
        port.doRead()
        self.assertEqual(port.batches, [5, 5, 3])

    def test_counting(self) -> None:
        """The real numbers are this process's own."""
        before, lowest = _open_now(), _lowest_free()
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
        self.addCleanup(lambda: [os.close(number) for number in files])
        self.assertEqual(_open_now(), before + 50)
        self.assertGreaterEqual(_lowest_free(), lowest + 50)
        self.assertEqual(_most(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
