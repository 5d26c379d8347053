"""For tests of projects: run handlers within a test that never commits.

In a :class:`django.test.TestCase` nothing is ever committed, so that nothing is delivered, and no
other thread would see its rows. :func:`deliver_events` delivers in the test's own transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from django.db import connections, transaction
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from oni.errors import LedgerTransactionError, StopTimeoutError
from oni.interfaces import ILedgerStore, ILedgerTransaction
from oni.ledger import Ledger
from oni.ledger.django import DjangoStore
from oni.sources import EventSources
from oni.sources.django._home import home
from oni.values import Claim, Delivery

__all__ = ["deliver_events"]

_TURNS = 10_000


def deliver_events() -> Sequence[Delivery]:
    """Run the handlers of all that is due, until nothing is.

    They run in this thread and in its transaction, synchronous ones and coroutines alike, phase
    by phase. A handler that fails has failed: its delivery says so, and is tried again when its
    time has come, as ever.

    Returns:
        What has become of each delivery that was run, in the order in which they were begun.

    Raises:
        AssertionError: A handler waits for something that only a running reactor brings.
        LedgerTransactionError: The ledger is in no database of the project's.
    """
    settings = home.settings
    if settings.is_own_ledger:
        raise LedgerTransactionError(
            "the ledger is in no database of the project, and takes no part in this transaction; "
            "let ONI name one in the settings for tests"
        )
    clock = _Clock()
    store = _Joining()
    ledger = _Ledger(store, clock)
    sources = EventSources(
        ledger, phases=home.sources.phases, reactor=clock, make_pool=lambda size: _HerePool()
    )
    # The same handlers: what is registered, or counted, here, is so there.
    sources._handlers, sources._contexts = home.sources._handlers, home.sources._contexts
    sources.start().addErrback(_raise)
    clock.run()
    waiting = sources.statistics()["under_way"]
    sources.stop(1.0).addErrback(lambda failure: failure.trap(StopTimeoutError))
    clock.advance(1.0)
    clock.run()
    if waiting:
        raise AssertionError(
            f"{waiting} handler(s) wait for the reactor, which does not run in this test; let "
            f"them have what they wait for at once"
        )
    with store.transaction(read=True) as shown:
        return [_found(shown, handler, key) for handler, key in ledger.claimed]


def _found(shown: ILedgerTransaction, handler: str, key: str) -> Delivery:
    record = shown.show(key)
    assert record is not None  # it was claimed in this transaction
    return next(each for each in record.deliveries if each.handler == handler)


def _raise(failure: Failure) -> None:
    failure.raiseException()


class _Clock(Clock):
    """A reactor of which there is only the time."""

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        """Call it soon."""
        self.callLater(0, function, *args)

    def run(self) -> None:
        """Call whatever is due, and what comes of it."""
        for _ in range(_TURNS):
            if not any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                return
            self.advance(0)
        raise AssertionError(f"after {_TURNS} turns there still is something to deliver")


class _Here:
    """Runs what the ledger would do in its threads."""

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run it at once."""
        return execute(function)

    def stop(self) -> Deferred[None]:
        """There is nothing to stop."""
        return succeed(None)


class _HerePool:
    """Runs handlers that would have a thread."""

    is_exhausted = False

    def run(
        self, name: str, function: Callable[[], Any], begun: Callable[[], object] | None = None
    ) -> Deferred[Any]:
        """Run it at once."""
        if begun is not None:
            begun()
        return execute(copy_context().run, function)

    def stop(self) -> None:
        """There is nothing to stop."""

    def statistics(self) -> dict[str, int]:
        """There are no threads."""
        return dict.fromkeys(("threads", "threads_busy", "threads_lost", "threads_waited_for"), 0)


class _Ledger(Ledger):
    """A ledger that remembers what was claimed.

    Attributes:
        claimed: The handlers and keys of all of it, in order.
    """

    def __init__(self, store: _Joining, clock: _Clock) -> None:
        super().__init__(
            store, interval=None, reactor=clock, make_threads=lambda name, size: _Here()
        )
        self.claimed: dict[tuple[str, str], None] = {}

    def claim(
        self, handlers: Collection[str], limit: int = 64, keys: Collection[str] | None = None
    ) -> Deferred[Sequence[Claim]]:
        """See :class:`oni.interfaces.ILedger`."""

        def remember(claims: Sequence[Claim]) -> Sequence[Claim]:
            self.claimed.update(((claim.handler, claim.key), None) for claim in claims)
            return claims

        return super().claim(handlers, limit, keys).addCallback(remember)


@implementer(ILedgerStore)
class _Joining:
    """A store all of whose transactions are savepoints of the one that the test is in."""

    def __init__(self) -> None:
        self._using = home.settings.ledger
        self._store = DjangoStore(self._using, namespace=home.settings.namespace)
        self.label = self._store.label

    def open(self) -> Sequence[str]:
        """Look at nothing: a test's database need not last."""
        return ()

    def close(self) -> None:
        """Leave the test its connection."""

    @contextmanager
    def transaction(self, read: bool = False) -> Iterator[ILedgerTransaction]:
        """Give a savepoint."""
        with transaction.atomic(using=self._using):
            yield self.join(connections[self._using])

    def join(self, connection: Any) -> ILedgerTransaction:
        """See :class:`oni.interfaces.ILedgerStore`."""
        return self._store.join(connection)

    def enter(self, owner: str) -> None:
        """Nobody looks."""

    def leave(self, owner: str) -> None:
        """Nobody looks."""

    def is_alive(self, owner: str) -> bool:
        """Nobody else works on a test's rows."""
        return True
