"""Event sources whose time a test lets go by."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.interfaces import ILedgerStore
from oni.ledger import Ledger
from oni.sources import EventSources
from tests.ledger.threads import AtOnce

__all__ = ["DrivenCase"]


class DrivenCase(SynchronousTestCase):
    """A test that drives event sources.

    Attributes:
        clock: Their reactor, which whoever inherits makes.
    """

    clock: Clock

    def sources_over(self, store: ILedgerStore, **options: Any) -> EventSources:
        """Make event sources over a store, as a process does that begins."""
        ledger = Ledger(store, interval=None, reactor=self.clock, make_threads=lambda *_: AtOnce())
        return EventSources(ledger, reactor=self.clock, random=lambda: 0.5, **options)

    def stop(self, sources: EventSources) -> None:
        """Stop event sources."""
        stopped: Deferred[None] = sources.stop(1)
        self.run_for(2)
        self.successResultOf(stopped)

    def run_for(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.pump([0] * 20 + [seconds / 20] * 20 + [0] * 20)
