"""A house for listeners that a ledger brings events to."""

from __future__ import annotations

from typing import Any

from twisted.logger import globalLogPublisher

from oni.ledger import MemoryStore
from oni.listeners import Listeners, ResourceEvents, activate, new_dispatcher
from oni.sources import EventSources
from tests.sources.driven import DrivenCase
from tests.sources.house import HandPool
from tests.watchers.test_watchers import Reactor

__all__ = ["KeptCase"]


class KeptCase(DrivenCase):
    """Event sources over a ledger in memory, and a dispatcher for resources.

    Attributes:
        said: What was logged, as text.
    """

    def setUp(self) -> None:
        """Make them; :meth:`switch_on` starts them."""
        self.said: list[str] = []

        def hear(event: Any) -> None:
            text = event.get("log_format") or ""
            self.said.append(text.format(**event) if "log_failure" not in event else text)

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        self.clock = Reactor()
        self.store = MemoryStore(clock=self.clock.seconds)
        self.dispatcher = new_dispatcher()
        self.sources = self.make_sources()

    def make_sources(self) -> EventSources:
        """Make event sources over the store, as a process does that begins."""
        return self.sources_over(self.store, make_pool=lambda size: HandPool())

    def switch_on(self, settings: dict[str, Any]) -> Listeners:
        """Switch listeners on, and start."""
        listeners = activate(settings, self.dispatcher, self.sources)
        self.successResultOf(self.sources.start())
        self.addCleanup(self.stop, self.sources)
        self.said.clear()
        return listeners

    def transact(
        self, resource: str = "article", *, id: int = 1, rolled_back: bool = False, **said: Any
    ) -> None:
        """Create a record in a transaction."""
        new = {"id": id, **said}
        self.record_in_one(
            resource, "create", id=id, uri=f"/{resource}/{id}", new=new, rolled_back=rolled_back
        )

    def events_in(self, transaction: Any) -> ResourceEvents:
        """Begin to say what becomes of records in a transaction of the store's."""
        return ResourceEvents(
            self.dispatcher, sources=self.sources, connection=lambda: transaction.connection
        )

    def record_in_one(self, *said: Any, rolled_back: bool = False, **more: Any) -> None:
        """Say what becomes of a record, in a transaction of its own."""
        try:
            with self.store.transaction() as transaction:
                events = self.events_in(transaction)
                events.record(*said, **more)
                events.before_commit()
                if rolled_back:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            events.rolled_back()
        else:
            events.committed()
        self.run_for(0)

    def counted(self, state: str) -> int:
        """Count the ledger's deliveries of one state."""
        return int(self.successResultOf(self.sources.ledger.count())[state])
