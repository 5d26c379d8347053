"""Rates are kept by one number each."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni._pace import Pace


class PaceTests(SynchronousTestCase):
    """What a rate of ten a second, and five at once, allows."""

    pace = Pace(10, 5)

    def test_burst(self) -> None:
        """So much may happen at once; the next one is early by a tenth of a second."""
        paid_at = 0.0
        for _ in range(5):
            paid_at = self.pace.spend(paid_at, 100.0)
            self.assertLessEqual(self.pace.wait(paid_at, 100.0), 0)
        paid_at = self.pace.spend(paid_at, 100.0)
        self.assertAlmostEqual(self.pace.wait(paid_at, 100.0), 0.1, 3)
        self.assertLessEqual(self.pace.wait(paid_at, 100.1), 0)

    def test_rest(self) -> None:
        """Nothing is saved up beyond the burst."""
        paid_at = self.pace.spend(0.0, 100.0)
        paid_at = self.pace.spend(paid_at, 1000.0, 6)
        self.assertAlmostEqual(self.pace.wait(paid_at, 1000.0), 0.1, 3)

    def test_clock_set_back(self) -> None:
        """A clock that was set back by a day stops nobody for longer than a minute."""
        paid_at = self.pace.spend(0.0, 86_400.0)
        paid_at = self.pace.spend(paid_at, 0.0)
        self.assertLess(self.pace.wait(paid_at, 0.0), 61)
