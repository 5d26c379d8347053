"""Event sources as a service: what is tried again, what ends the process, and how it stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    LedgerUnavailableError,
    NotRunningError,
    StopTimeoutError,
    UnsafeLedgerError,
)
from oni.server._ledger_settings import LedgerSettings
from oni.server.sources._service import SourcesService
from oni.values import Delivery
from tests.server.sources.fakes import SomeSources


class SomeRelay:
    """Stands for a relay."""

    def __init__(self, told: list[Any], **numbers: int) -> None:
        self._told = told
        self._numbers = numbers
        self.failures: list[Exception] = []

    def start(self) -> Deferred[None]:
        """Start."""
        self._told.append("relay")
        if self.failures:
            raise self.failures.pop()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Stop."""
        self._told.append("relay stops")
        return succeed(None)

    def statistics(self) -> Mapping[str, int]:
        """Give numbers."""
        return self._numbers


class ServiceTestCase(SynchronousTestCase):
    """A service on a clock."""

    def setUp(self) -> None:
        """Make it."""
        self.clock = Clock()
        self.sources = SomeSources()
        self.failures: list[Failure] = []
        self.opened = 0
        self.service = self.make()

    def make(self, relays: Sequence[Any] = (), **settings: Any) -> SourcesService:
        """Make a service."""
        service = SourcesService(
            self.sources,  # type: ignore[arg-type]
            LedgerSettings(**settings),
            self.clock,
            10.0,
            relays,
        )
        service.on_failure = self.failures.append

        def opened() -> None:
            self.opened += 1

        service.on_open = opened
        return service

    def start(self) -> None:
        """Start it, and let a turn pass."""
        self.service.startService()
        self.clock.advance(0)


class StartTests(ServiceTestCase):
    """How it opens."""

    def test_in_the_next_turn(self) -> None:
        """Nothing is opened before those that start after it could register handlers."""
        self.service.startService()
        self.assertEqual([], self.sources.told)
        self.assertEqual("the ledger is not open yet", self.service.health.problem)
        self.clock.advance(0)
        self.assertEqual(["start"], self.sources.told)
        self.assertEqual((1, ""), (self.opened, self.service.health.problem))
        self.assertEqual({"pending": 3, "dead": 1}, self.service.watch.counts)

    def test_open_is_open(self) -> None:
        """It is open when it is open, also if the first look at it takes long."""
        self.sources.ledger.count = Deferred  # type: ignore[method-assign]
        self.start()
        self.assertTrue(self.service.health.was_opened)

    def test_threads_that_wait(self) -> None:
        """Whoever waits for it in a thread is told before handlers run."""
        service = SourcesService(
            self.sources,  # type: ignore[arg-type]
            LedgerSettings(),
            self.clock,
            10.0,
            opened=lambda: self.sources.told.append("opened"),
        )
        service.startService()
        self.clock.advance(0)
        self.assertEqual(["start", "opened"], self.sources.told)

    def test_a_database_that_is_away(self) -> None:
        """It is tried again, later each time, until it is there; nobody is told it has failed."""
        self.sources.starts = [LedgerUnavailableError("refused")] * 3
        self.start()
        self.assertFalse(self.service.health.was_opened)
        for wait, starts in ((0.4, 1), (0.1, 2), (0.9, 2), (0.1, 3), (2.0, 4)):
            self.clock.advance(wait)
            self.assertEqual(starts, len(self.sources.told), wait)
        self.assertEqual((1, True), (self.opened, self.service.health.was_opened))
        self.assertEqual([], self.failures)

    def test_not_too_late(self) -> None:
        """However long it is away, it is looked for every two seconds."""
        self.sources.starts = [LedgerUnavailableError("refused")] * 400
        self.start()
        self.clock.pump([0.5] * 300)
        before = len(self.sources.told)
        self.clock.pump([0.5] * 40)
        self.assertEqual(before + 10, len(self.sources.told))

    def test_what_never_gets_better(self) -> None:
        """A ledger that cannot keep its promise is told of, and not tried again."""
        self.sources.starts = [UnsafeLedgerError(["no"])]
        self.start()
        self.assertEqual(1, len(self.failures))
        self.assertTrue(self.failures[0].check(UnsafeLedgerError))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_without_anybody_who_hears_it(self) -> None:
        """Where nobody asked to be told it is logged."""
        service = SourcesService(
            self.sources,  # type: ignore[arg-type]
            LedgerSettings(),
            self.clock,
            10.0,
        )
        self.sources.starts = [ZeroDivisionError()]
        service.startService()
        self.clock.advance(0)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_handlers_that_nobody_has(self) -> None:
        """Deliveries that wait for a handler which is not registered here are told of."""
        self.sources.ledger.pending = [
            Delivery("mail", "a"),
            Delivery("sms", "a"),
            Delivery("sms", "b"),
        ]
        with capturedLogs() as logged:
            self.start()
        (told,) = [formatEvent(each) for each in logged if each["log_level"].name == "warn"]
        self.assertIn("2 deliveries wait for the handler sms,", told or "")

    def test_a_ledger_that_goes_at_once(self) -> None:
        """That question may fail without harm."""
        self.sources.ledger.deliveries = lambda *_: (  # type: ignore[method-assign]
            Deferred.fromCoroutine(_fail(LedgerUnavailableError("gone")))
        )
        self.start()
        self.assertEqual([], self.failures)
        self.assertEqual("the ledger does not answer", self.service.health.problem)

    def test_pruning(self) -> None:
        """Keys are forgotten only where the settings say so."""
        self.start()
        self.assertEqual(0, self.sources.ledger.pruned)
        self.service = self.make(prune_after=60.0)
        self.start()
        self.assertEqual(1, self.sources.ledger.pruned)

    def test_relays(self) -> None:
        """They begin after the ledger is open; one that fails keeps nothing from working."""
        relay = SomeRelay(self.sources.told)
        relay.failures = [LedgerUnavailableError("refused")]
        self.service = self.make([relay])
        self.start()
        self.assertEqual((["start", "relay"], 1), (self.sources.told, self.opened))
        self.assertEqual("", self.service.health.problem)
        self.clock.advance(1)
        self.assertEqual(["start", "relay", "relay"], self.sources.told)

    def test_relays_do_not_wait_for_each_other(self) -> None:
        """An outbox that is away keeps no other one waiting; that it is away is told once."""
        away, there = SomeRelay([]), SomeRelay(self.sources.told)
        away.failures = [LedgerUnavailableError("refused")] * 3
        self.service = self.make([away, there])
        with capturedLogs() as logged:
            self.start()
            self.assertEqual(["start", "relay"], self.sources.told)
            self.clock.pump([0.5] * 8)
        told = [formatEvent(each) for each in logged]
        self.assertEqual([], away.failures)
        self.assertEqual(
            ["an outbox is not open yet, and is tried again: refused", "the outbox is open"], told
        )

    def test_an_outbox_that_never_gets_better(self) -> None:
        """It is told of once, and nothing is tried any more."""
        relays = [SomeRelay([]) for _ in range(3)]
        relays[0].failures = [LedgerUnavailableError("refused")] * 9
        for each in relays[1:]:
            each.failures = [UnsafeLedgerError(["no"])]
        self.service = self.make(relays)
        self.start()
        self.assertEqual([UnsafeLedgerError], [each.type for each in self.failures])
        self.service.watch.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_an_outbox_that_is_away_at_the_end(self) -> None:
        """The stop waits for none that could not be opened."""
        relay = SomeRelay([])
        relay.failures = [LedgerUnavailableError("refused")] * 9
        self.service = self.make([relay, SomeRelay([])])
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertEqual(([], []), (self.failures, self.clock.getDelayedCalls()))

    def test_backlog(self) -> None:
        """What waits in all outboxes is one number; without any there is none."""
        self.assertEqual({}, self.service.backlog)
        relays = [
            SomeRelay([], looks=3, backlog=2, aside=1, age=5),
            SomeRelay([], looks=1, backlog=3, aside=0, age=9),
        ]
        self.service = self.make(relays)
        self.assertEqual({"backlog": 5, "aside": 1, "age": 9}, self.service.backlog)

    def test_backlog_of_an_outbox_nobody_has_seen(self) -> None:
        """Nothing is told of outboxes while one of them could not be opened: 0 would be a lie."""
        unseen = SomeRelay([], looks=0, backlog=0, aside=0, age=0)
        self.service = self.make([SomeRelay([], looks=1, backlog=2, aside=1, age=5), unseen])
        self.assertEqual({}, self.service.backlog)


class StopTests(ServiceTestCase):
    """How it stops."""

    def test_in_time(self) -> None:
        """Its handlers have the time that there is, but for a second in which it closes."""
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertEqual(["start", ("stop", 9.0)], self.sources.told)
        self.assertFalse(self.service.gave_up)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_is_left_of_the_time(self) -> None:
        """Where others have used some of it up, only the rest is left."""
        self.start()
        self.service.end_by(self.clock.seconds() + 10)
        self.clock.advance(7)
        self.successResultOf(self.service.stopService())
        self.assertEqual(("stop", 2.0), self.sources.told[-1])

    def test_nothing_left(self) -> None:
        """Where nothing is left of it handlers are given up almost at once."""
        self.start()
        self.service.end_by(self.clock.seconds())
        self.successResultOf(self.service.stopService())
        self.assertEqual(("stop", 0.1), self.sources.told[-1])

    def test_given_up(self) -> None:
        """Handlers that did not end are told of; the next life knows nothing of it."""
        self.start()
        self.sources.stopped = StopTimeoutError(9.0, [])
        self.successResultOf(self.service.stopService())
        self.assertTrue(self.service.gave_up)
        self.start()
        self.assertFalse(self.service.gave_up)

    def test_threads_that_hang(self) -> None:
        """That no thread is left is told once it runs, and not when it is about to end anyway."""
        told: list[bool] = []
        self.service.on_exhausted = lambda: told.append(True)
        self.start()
        self.service.exhausted()
        self.assertEqual([True], told)
        self.service.end_by(self.clock.seconds() + 5)
        self.service.exhausted()
        self.successResultOf(self.service.stopService())
        self.service.exhausted()
        self.assertEqual([True], told)

    def test_a_failure_while_it_stops(self) -> None:
        """What fails while it is about to end is logged, and ends nothing a second time."""
        opening: Deferred[None] = Deferred(lambda _: opening.errback(ZeroDivisionError()))
        self.patch(self.sources, "start", lambda: opening)
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertEqual([], self.failures)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_before_it_is_open(self) -> None:
        """While the database is away it stops at once, and tries no more."""
        self.sources.starts = [LedgerUnavailableError("refused")] * 9
        self.sources.stopped = NotRunningError("never started")
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.failures)

    def test_a_relay_that_fails(self) -> None:
        """One that fails to stop keeps the handlers from nothing."""
        relay = SomeRelay(self.sources.told)
        self.service = self.make([relay])
        self.start()
        self.patch(relay, "stop", lambda: 1 / 0)
        self.successResultOf(self.service.stopService())
        self.assertEqual(("stop", 9.0), self.sources.told[-1])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_relays_first(self) -> None:
        """Relays end before the ledger that they admit into."""
        self.service = self.make([SomeRelay(self.sources.told)])
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertEqual(["start", "relay", "relay stops", ("stop", 9.0)], self.sources.told)


async def _fail(error: Exception) -> None:
    raise error
