"""Connections that were told to close are waited for."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server._goodbye import Goodbye


class GoodbyeTests(SynchronousTestCase):
    """Until there are none."""

    def setUp(self) -> None:
        """Have two connections."""
        self.count = 2
        self.clock = Clock()
        self.goodbye = Goodbye(lambda: self.count, self.clock)
        self.goodbye.startService()

    def test_none(self) -> None:
        """Without connections there is nothing to wait for."""
        self.count = 0
        self.successResultOf(self.goodbye.stopService())

    def test_the_last_one(self) -> None:
        """It stops soon after the last one has gone, and leaves no timer."""
        stopped = self.goodbye.stopService()
        self.count = 1
        self.clock.advance(1)
        self.assertNoResult(stopped)
        self.count = 0
        self.clock.advance(0.05)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """Cancelling ends the wait, and leaves no timer."""
        stopped = self.goodbye.stopService()
        stopped.cancel()
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_count_that_fails(self) -> None:
        """A failure comes out."""
        stopped = self.goodbye.stopService()
        del self.count
        self.clock.advance(0.05)
        self.failureResultOf(stopped, AttributeError)
