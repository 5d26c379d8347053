"""Event sources on a clock: a ledger in memory whose threads are none, and models of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from oni.errors import LedgerUnavailableError, MissingRowError, UnkeptContextError
from oni.interfaces import IModelReferences
from oni.ledger import Ledger, MemoryStore
from oni.sources import EventSources
from oni.values import Delivery, LedgerRecord
from tests.ledger.threads import AtOnce

START = 1_000_000.0


class Reactor(Clock):
    """A clock that other threads can call: there are none."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        """Call it in the next turn."""
        self.callLater(0, function, *args)

    def settle(self) -> None:
        """Let turns pass until nothing is to be done now."""
        for _ in range(10_000):
            if not any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                return
            self.advance(0)
        raise AssertionError("it never comes to rest")

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass, a little at a time."""
        end = self.seconds() + seconds
        self.settle()
        while self.seconds() < end:
            self.advance(min(step, end - self.seconds()))
            self.settle()


class Store(MemoryStore):
    """A store that can be away."""

    is_away = False

    def close(self) -> None:
        """Stay open for the other ledgers on it; who closes it has left."""

    def running_rows(self) -> list[Delivery]:
        """Give what runs, past every transaction."""
        return [row for row in list(self.rows.values()) if row.state == "running"]

    def transaction(self, read: bool = False) -> Any:
        """Begin, or not."""
        if self.is_away:
            raise LedgerUnavailableError("the cable is out")
        return super().transaction(read)


class HandPool:
    """Threads that run what they are given when a test says so, in the order of asking.

    Attributes:
        is_free: Whether calls run at once.
        is_exhausted: Whether it is said that nothing runs any more.
    """

    is_exhausted = False

    def __init__(self, is_free: bool = True) -> None:
        self.is_free = is_free
        self.is_stopped = False
        self._calls: list[tuple[str, Callable[[], Any], Any, Deferred[Any]]] = []

    @property
    def names(self) -> list[str]:
        """For whom calls wait."""
        return [name for name, *_ in self._calls]

    def run(
        self, name: str, function: Callable[[], Any], begun: Callable[[], object] | None = None
    ) -> Deferred[Any]:
        """Run it, or keep it."""
        done: Deferred[Any] = Deferred(self._take_out)
        self._calls.append((name, function, begun, done))
        if self.is_free:
            self.go()
        return done

    def _take_out(self, done: Deferred[Any]) -> None:
        self._calls = [call for call in self._calls if call[3] is not done]

    def begin(self) -> Callable[[], None]:
        """Let the first call begin; give what ends it."""
        _, function, begun, done = self._calls.pop(0)
        if begun is not None:
            begun()

        def end() -> None:
            if not done.called:
                execute(function).chainDeferred(done)

        return end

    def go(self) -> None:
        """Run what waits."""
        while self._calls:
            self.begin()()

    def stop(self) -> None:
        """Run no more."""
        self.is_stopped = True
        for *_, done in list(self._calls):
            done.cancel()

    def statistics(self) -> dict[str, int]:
        """Give what a pool gives."""
        return {
            "threads": 1,
            "threads_busy": 0,
            "threads_lost": 0,
            "threads_waited_for": len(self._calls),
        }


class Row:
    """An instance of a model.

    Args:
        table: Where it is kept.
        pk: Its primary key, None before it is saved.
        said: Its attributes.
    """

    def __init__(self, table: Table, pk: int | None, **said: Any) -> None:
        self.table = table
        self.pk = pk
        vars(self).update(said)


class Challenge(Row):
    """What the seed's program is about."""


class Table:
    """Rows by their primary keys, from which instances are made anew each time."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.loads = 0

    def save(self, row: Row) -> None:
        """Keep a row as it is."""
        assert row.pk is not None
        self.rows[row.pk] = {k: v for k, v in vars(row).items() if k not in ("table", "pk")}


@implementer(IModelReferences)
class References:
    """Knows the rows of one table."""

    name = "table"

    def __init__(self, table: Table) -> None:
        self.table = table

    def refer(self, value: Any) -> Mapping[str, Any] | None:
        """Name a row."""
        if not isinstance(value, Row):
            return None
        if value.pk is None:
            raise UnkeptContextError("", "", "it is not saved yet")
        return {"model": type(value).__name__, "pk": value.pk}

    def load(self, reference: Mapping[str, Any]) -> Any:
        """Load it."""
        self.table.loads += 1
        pk = reference["pk"]
        if pk not in self.table.rows:
            raise MissingRowError(reference["model"], pk)
        return Challenge(self.table, pk, **self.table.rows[pk])


class SourcesTestCase(SynchronousTestCase):
    """Event sources that are started, and whose ledger's threads are none."""

    def setUp(self) -> None:
        """Begin with an empty store."""
        self.clock = Reactor()
        self.store = Store(clock=lambda: START + self.clock.seconds())
        self.pool = HandPool()
        self.sources = self.make()
        self.called: list[Any] = []

    def make(self, **options: Any) -> EventSources:
        """Give event sources on the store, as another process would have them."""
        options.setdefault("make_pool", lambda size: self.pool)
        ledger = Ledger(
            self.store,
            interval=None,
            reactor=self.clock,
            make_threads=lambda name, size: AtOnce(),
        )
        return EventSources(ledger, reactor=self.clock, random=lambda: 0.5, **options)

    def start(self, sources: EventSources | None = None) -> EventSources:
        """Start them."""
        sources = sources or self.sources
        self.get(sources.start())
        return sources

    def get(self, deferred: Deferred[Any]) -> Any:
        """Give what a Deferred fires with now."""
        self.clock.settle()
        return self.successResultOf(deferred)

    def refuse(self, deferred: Deferred[Any], error: type[BaseException]) -> Any:
        """Give what a Deferred fails with now."""
        self.clock.settle()
        return self.failureResultOf(deferred, error).value

    def note(self, name: str = "") -> Callable[[Any], None]:
        """Give a handler that notes whom it was called for."""
        return lambda event: self.called.append((name, event.key) if name else event.key)

    def states(self, key: str) -> dict[str, str]:
        """Give how each handler's delivery of a key stands."""
        with self.store.transaction(read=True) as transaction:
            record: LedgerRecord | None = transaction.show(key)
        assert record is not None, f"{key} is unknown"
        return {delivery.handler: delivery.state for delivery in record.deliveries}
