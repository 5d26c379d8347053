"""What is known of a ledger, and what the log says of it."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from oni.server.sources._health import LedgerHealth


class HealthTests(SynchronousTestCase):
    """From the start to trouble and back."""

    def test_start(self) -> None:
        """Until it has been open it is said that it is not; the reason is logged once."""
        health = LedgerHealth()
        health.opens()
        with capturedLogs() as logged:
            health.fails("refused")
            health.fails("still refused")
        self.assertEqual("the ledger is not open yet", health.problem)
        self.assertFalse(health.was_opened)
        self.assertEqual(
            ["the ledger is not open yet: refused"], [formatEvent(each) for each in logged]
        )

    def test_trouble_and_back(self) -> None:
        """Later it is said that it does not answer; both ways are logged once."""
        health = LedgerHealth()
        health.opens()
        with capturedLogs() as logged:
            health.answers()
            health.fails("gone")
            health.fails("gone")
            self.assertEqual("the ledger does not answer", health.problem)
            health.answers()
            health.answers()
        self.assertEqual(
            ["the ledger does not answer: gone", "the ledger answers again"],
            [formatEvent(each) for each in logged],
        )
        self.assertEqual(("", True), (health.problem, health.was_opened))

    def test_anew(self) -> None:
        """A second life begins as the first one did."""
        health = LedgerHealth()
        health.opens()
        health.answers()
        health.opens()
        self.assertFalse(health.was_opened)
