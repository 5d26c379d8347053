"""The daemon's figures: what it counts, and how ``/metrics`` tells it."""

from __future__ import annotations

from oni.server.metrics._figures import FIGURES, NOT_COUNTED, Figure
from oni.server.metrics._tally import Histogram, Tally

__all__ = ["FIGURES", "Figure", "Histogram", "NOT_COUNTED", "Tally"]
