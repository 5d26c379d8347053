"""Services that start in order and stop in the opposite order, one at a time."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server._ordered import OrderedServices


class Part(Service):
    """A service that writes down what it is told, and stops when the test says so."""

    def __init__(self, name: str, told: list[str], fails: bool = False) -> None:
        self.name = name
        self._told = told
        self._fails = fails
        self.stopped: Deferred[None] = Deferred(lambda _: told.append(f"cancel {name}"))

    def startService(self) -> None:
        """Write it down."""
        if self._fails:
            raise ValueError(self.name)
        super().startService()
        self._told.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        """Write it down, and wait for the test."""
        super().stopService()
        self._told.append(f"stop {self.name}")
        return self.stopped


class OrderedServicesTests(SynchronousTestCase):
    """One at a time, within a bound."""

    def setUp(self) -> None:
        """Make three."""
        self.clock = Clock()
        self.told: list[str] = []
        self.parts = [Part(name, self.told) for name in "abc"]
        self.services = OrderedServices(list(self.parts), 10.0, self.clock)

    def test_order(self) -> None:
        """They start first to last, and stop last to first, each after the one before."""
        self.services.startService()
        self.assertEqual(["start a", "start b", "start c"], self.told)
        del self.told[:]
        stopped = self.services.stopService()
        self.assertEqual(["stop c"], self.told)
        self.parts[2].stopped.callback(None)
        self.assertEqual(["stop c", "stop b"], self.told)
        self.parts[1].stopped.callback(None)
        self.assertNoResult(stopped)
        self.parts[0].stopped.callback(None)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(["stop c", "stop b", "stop a"], self.told)

    def test_one_that_fails(self) -> None:
        """A failure is logged with the service's name, and the next one's turn comes."""
        self.services.startService()
        stopped = self.services.stopService()
        self.parts[2].stopped.errback(ValueError("c"))
        self.parts[1].stopped.callback(None)
        self.parts[0].stopped.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_one_that_hangs(self) -> None:
        """The bound holds for all together; one that hangs is cancelled, the rest still told."""
        self.services.startService()
        stopped = self.services.stopService()
        self.clock.advance(4)
        self.parts[2].stopped.callback(None)
        self.clock.advance(5.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.2)
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIn("cancel b", self.told)
        self.assertIn("stop a", self.told)

    def test_one_that_cannot_be_cancelled(self) -> None:
        """One that goes on after it was cancelled is given up a moment later."""
        self.parts[2].stopped = deaf = Deferred(lambda d: None)
        deaf.cancel = lambda: self.told.append("cancel c")  # type: ignore[method-assign]
        self.services.startService()
        stopped = self.services.stopService()
        self.clock.advance(10)
        self.assertEqual(["stop c", "cancel c"], self.told[3:])
        self.clock.advance(0.5)
        # No time is left, so the others are told and cancelled at once.
        told = ["stop c", "cancel c", "stop b", "cancel b", "stop a", "cancel a"]
        self.assertEqual(told, self.told[3:])
        deaf.errback(ValueError("too late"))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.successResultOf(stopped)

    def test_one_that_does_not_start(self) -> None:
        """Those before it are stopped, those behind it never start, and it raises."""
        parts = [
            Part("a", self.told),
            Part("b", self.told, fails=True),
            Part("c", self.told),
        ]
        services = OrderedServices(list(parts), 10.0, self.clock)
        self.assertRaises(ValueError, services.startService)
        self.assertEqual(["start a", "stop a"], self.told)
        self.assertFalse(services.running)

    def test_stopping_twice(self) -> None:
        """A second stop waits for the first one; nothing is told twice."""
        self.services.startService()
        stops = [self.services.stopService(), self.services.stopService()]
        for part in reversed(self.parts):
            self.assertNoResult(stops[1])
            part.stopped.callback(None)
        for stop in stops:
            self.successResultOf(stop)
        self.assertEqual(["stop c", "stop b", "stop a"], self.told[3:])
        self.successResultOf(self.services.stopService())
