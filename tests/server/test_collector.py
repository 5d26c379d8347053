"""The garbage collector is set for a server, and taken back."""

from __future__ import annotations

import gc
from weakref import ref

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.registry import Components

from oni.server._collector import Collector
from oni.server._collector_settings import CollectorSettings
from oni.server._service import Daemon, OniService
from oni.server._settings_file import settings_from
from tests.server.test_service import SomeOni


class CollectorTests(SynchronousTestCase):
    """Tests of :class:`oni.server._collector.Collector`."""

    def setUp(self) -> None:
        """Know how it is."""
        self.before = gc.get_threshold()
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *self.before)
        gc.unfreeze()

    def collector(self, **settings: object) -> Collector:
        """Make one."""
        collector = Collector(CollectorSettings(**settings))  # type: ignore[arg-type]
        self.addCleanup(collector.end)
        return collector

    def test_begin_and_end(self) -> None:
        """What there is is frozen, and it looks less often; then all is as before."""
        collector = self.collector(young=5000)
        self.assertEqual(gc.get_freeze_count(), 0)
        collector.begin()
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.assertEqual(gc.get_threshold()[0], 5000)
        collector.begin()
        collector.end()
        self.assertEqual((gc.get_threshold(), gc.get_freeze_count()), (self.before, 0))

    def test_left_alone(self) -> None:
        """Each of the two may be left as it is."""
        self.collector(freeze=False, young=900).begin()
        self.assertEqual((gc.get_freeze_count(), gc.get_threshold()[0]), (0, 900))
        gc.set_threshold(*self.before)
        self.collector(young=0).begin()
        self.assertEqual(gc.get_threshold(), self.before)
        self.assertGreater(gc.get_freeze_count(), 1000)

    def test_end_alone(self) -> None:
        """What has not begun takes nothing back."""
        gc.set_threshold(1234)
        self.collector().end()
        self.assertEqual(gc.get_threshold()[0], 1234)

    def test_still_collects(self) -> None:
        """Cycles that come up later are found."""

        class Cycle:
            """Refers to itself."""

        self.collector().begin()
        cycle = Cycle()
        cycle.itself = cycle  # type: ignore[attr-defined]
        found = ref(cycle)
        del cycle
        self.assertIsNotNone(found())
        gc.collect()
        self.assertIsNone(found())


class DaemonTests(SynchronousTestCase):
    """Who sets it."""

    def daemon(self, collector: Collector | None) -> tuple[Daemon, MemoryReactorClock]:
        """Make a daemon around an Oni that does nothing."""
        reactor = MemoryReactorClock()
        service = OniService(SomeOni(), registry=Components())
        settings = settings_from({"server": {"listen": ["tcp:81:interface=127.0.0.1"]}})
        return (
            Daemon(service, Factory(), lambda: 0, settings, reactor, collector=collector),
            reactor,
        )

    def test_while_it_runs(self) -> None:
        """The daemon does, from when the reactor runs until it stops."""
        before = gc.get_threshold()
        self.addCleanup(gc.set_threshold, *before)
        daemon, reactor = self.daemon(Collector(CollectorSettings(freeze=False, young=4321)))
        daemon.startService()
        self.assertEqual(gc.get_threshold(), before)
        for call, arguments, named in reactor.whenRunningHooks:
            call(*arguments, **named)
        self.assertEqual(gc.get_threshold()[0], 4321)
        self.successResultOf(daemon.stopService())
        self.assertEqual(gc.get_threshold(), before)

    def test_nobody_else(self) -> None:
        """Without one, nothing changes."""
        before = gc.get_threshold()
        daemon, reactor = self.daemon(None)
        daemon.startService()
        self.assertEqual((reactor.whenRunningHooks, gc.get_threshold()), ([], before))
        self.successResultOf(daemon.stopService())
