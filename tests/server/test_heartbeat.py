"""Is the client still there?"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server._heartbeat import Heartbeat
from oni.server._timers import Timers


class HeartbeatTests(SynchronousTestCase):
    """Tests of :class:`oni.server._heartbeat.Heartbeat`."""

    def setUp(self) -> None:
        """Make one on a clock."""
        self.clock = Clock()
        self.calls: list[str] = []
        self.heartbeat = Heartbeat(
            Timers(self.clock, 25),
            Timers(self.clock, 10),
            lambda: self.calls.append("ping"),
            lambda: self.calls.append("silence"),
        )

    def test_heard(self) -> None:
        """Who answers every ping is asked again."""
        self.heartbeat.start()
        for _ in range(3):
            self.clock.advance(25)
            self.heartbeat.hear()
        self.clock.advance(10)
        self.assertEqual(self.calls, ["ping"] * 3)

    def test_silence(self) -> None:
        """What was heard before a ping is no answer to it."""
        self.heartbeat.start()
        self.heartbeat.hear()
        self.clock.pump([25, 9.9])
        self.assertEqual(self.calls, ["ping"])
        self.clock.advance(0.2)
        self.assertEqual(self.calls, ["ping", "silence"])

    def test_stop(self) -> None:
        """A stopped one is silent, even when it is stopped by what it calls."""
        self.heartbeat.start()
        self.heartbeat.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        short = Timers(self.clock, 1)
        stopping = Heartbeat(short, short, lambda: stopping.stop(), self.heartbeat.hear)
        stopping.start()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
