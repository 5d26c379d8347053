"""How attempts end: failures of every kind, time limits, and a ledger that is away then."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent

from oni.errors import HandlerTimeoutError, LedgerUnavailableError
from oni.sources import event
from oni.values import Event
from tests.sources.house import Challenge, References, SourcesTestCase, Table


class Odd(BaseException):
    """No Exception, and nobody's business."""


class EndsTests(SourcesTestCase):
    """Handlers that fail, hang, or cannot tell."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.start()

    def process(self, group: str = "g", id: int = 1, **context: Any) -> Any:
        """Process an event, and give how the first handler's delivery stands."""
        (record,) = self.get(self.sources.process_events([event(group, id, context)]))
        return record.deliveries[0]

    def test_failures_of_every_kind(self) -> None:
        """Whatever a handler raises is that delivery's failure, and nothing else ends."""
        kinds: list[BaseException] = [
            ValueError("no {luck}"),
            SystemExit(3),
            KeyboardInterrupt(),
            GeneratorExit(),
            MemoryError(),
            RecursionError(),
            CancelledError(),
            StopIteration(),
            Odd("odd"),
        ]

        def plain(event: Event) -> None:
            raise kinds[event["number"]]

        async def coroutine(event: Event) -> None:
            raise kinds[event["number"]]

        async def later(event: Event) -> None:
            await self.soon()
            raise kinds[event["number"]]

        def within(event: Event, transaction: Any) -> None:
            raise kinds[event["number"]]

        handlers: list[tuple[str, Any, dict[str, Any]]] = [
            ("plain", plain, {}),
            ("coroutine", coroutine, {}),
            ("later", later, {}),
            ("threaded", plain, {"threaded": True}),
            ("within", within, {"on_crash": "transaction"}),
        ]
        for name, function, options in handlers:
            self.sources.register_group_handler(f"^{name}$", function, name=name, **options)
        for name, _, _ in handlers:
            for number, kind in enumerate(kinds):
                made = event(name, number, number=number)
                (record,) = self.get(self.sources.process_events([made]))
                (delivery,) = record.deliveries
                self.assertEqual((delivery.state, delivery.attempts), ("pending", 1), made)
                if not (isinstance(kind, StopIteration) and name in ("coroutine", "later")):
                    self.assertTrue(
                        delivery.last_error.startswith(type(kind).__qualname__), delivery
                    )
        self.assertEqual(self.sources.statistics()["under_way"], 0)
        self.sources.register_group_handler("^good", self.note(), name="good")
        self.process("good")
        self.assertEqual(self.called, ["4:good1"])
        self.flushLoggedErrors()

    def soon(self) -> Deferred[None]:
        """Give a Deferred that fires in the next turn."""
        soon: Deferred[None] = Deferred()
        self.clock.callLater(0, soon.callback, None)
        return soon

    def test_logged_once(self) -> None:
        """A failure is logged once, with where the handler was registered and what comes of it."""

        def fail(event: Event) -> None:
            raise ZeroDivisionError

        self.sources.register_group_handler("", fail, name="n", max_attempts=2)
        with capturedLogs() as logs:
            self.process()
            self.clock.pass_time(3)
        failures = [log for log in logs if "log_failure" in log]
        self.assertEqual(len(failures), 2)
        self.assertIn("n (registered at", str(failures[0]["handler"]))
        (again,) = [formatEvent(log) or "" for log in logs if "most" in log]
        self.assertIn("with 1:g1 in attempt 1 of 2, and is tried again: ZeroDivision", again)
        (end,) = [log for log in logs if "has failed for good" in log["log_format"]]
        self.assertEqual((end["state"], end["attempts"], end["key"]), ("dead", 2, "1:g1"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        counted = self.sources.statistics()
        self.assertEqual((counted["failed"], counted["dead"]), (2, 1))

    def test_parked(self) -> None:
        """A failure of who is parked is in doubt, and is not tried again."""

        def fail(event: Event) -> None:
            self.called.append(event.attempt)
            raise ZeroDivisionError

        self.sources.register_group_handler("", fail, name="n", on_crash="park")
        self.assertEqual(self.process().state, "uncertain")
        self.clock.pass_time(500, step=10)
        self.assertEqual(self.called, [1])
        self.assertEqual(self.sources.statistics()["uncertain"], 1)
        self.flushLoggedErrors(ZeroDivisionError)

    # --- Time limits

    def test_time_limit(self) -> None:
        """At its time limit a handler is cancelled and has failed, and is tried again."""
        hung: list[Deferred[None]] = []

        def hang(event: Event) -> Deferred[None]:
            hung.append(Deferred(lambda _: self.called.append("cancelled")))
            return hung[-1]

        self.sources.register_group_handler("", hang, name="n", timeout=3, max_attempts=2)
        processed = self.sources.process_events([event("g", 1)])
        self.clock.pass_time(2.75)
        self.assertNoResult(processed)
        self.clock.pass_time(0.25)
        (record,) = self.get(processed)
        self.assertEqual(record.deliveries[0].state, "pending")
        self.assertIn("HandlerTimeoutError: n in phase", record.deliveries[0].last_error)
        self.clock.pass_time(10)
        self.assertEqual((self.called, len(hung)), (["cancelled"] * 2, 2))
        self.assertEqual(self.states("1:g1"), {"n": "dead"})
        self.assertEqual(self.sources.statistics()["timed_out"], 2)
        self.assertEqual(len(self.flushLoggedErrors(HandlerTimeoutError)), 2)

    def test_in_time(self) -> None:
        """Who ends in time is not cancelled later, and no timer is left behind."""
        self.sources.register_group_handler("", lambda event: self.soon(), name="n", timeout=3)
        self.assertEqual(self.process().state, "done")
        self.get(self.sources.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_coroutine_that_goes_on(self) -> None:
        """What is cancelled and goes on all the same is not waited for; its failure is logged."""
        waiting: Deferred[None] = Deferred()

        async def stubborn(event: Event) -> None:
            try:
                await Deferred()
            except CancelledError:
                await waiting
                raise ZeroDivisionError from None

        self.sources.register_group_handler("", stubborn, name="n", timeout=1, max_attempts=1)
        processed = self.sources.process_events([event("g", 1)])
        self.clock.pass_time(2)
        (record,) = self.get(processed)
        self.assertEqual(record.deliveries[0].state, "dead")
        self.assertEqual(self.flushLoggedErrors(ZeroDivisionError), [])
        waiting.callback(None)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.flushLoggedErrors(HandlerTimeoutError)

    def test_time_limit_of_a_thread(self) -> None:
        """It counts from when a thread takes the call, not while it waits for one."""
        self.pool.is_free = False
        self.sources.register_group_handler(
            "", self.note(), name="n", timeout=3, threaded=True, max_attempts=1
        )
        processed = self.sources.process_events([event("g", 1)])
        self.clock.pass_time(10)
        self.assertEqual(self.states("1:g1"), {"n": "running"})
        self.pool.begin()
        self.clock.pass_time(3)
        (record,) = self.get(processed)
        self.assertEqual(record.deliveries[0].state, "dead")
        self.flushLoggedErrors(HandlerTimeoutError)

    def test_time_limit_counts_loading(self) -> None:
        """The loading of its instances is a part of it."""
        table = Table()
        row = Challenge(table, 1)
        table.save(row)
        self.sources.add_references(References(table))
        self.pool.is_free = False
        self.sources.register_group_handler("", self.note(), name="n", timeout=3)
        processed = self.sources.process_events([event("g", 1, {"row": row})])
        self.clock.settle()
        self.pool.begin()
        self.clock.pass_time(3)
        (record,) = self.get(processed)
        self.assertIn("HandlerTimeoutError", record.deliveries[0].last_error)
        self.assertEqual(self.called, [])
        self.flushLoggedErrors(HandlerTimeoutError)

    # --- A ledger that is away

    def test_completion_is_told_again(self) -> None:
        """Who is done while the ledger is away says so until it is heard."""
        waiting: Deferred[None] = Deferred()
        self.sources.register_group_handler("", lambda event: waiting, name="n")
        processed = self.sources.process_events([event("g", 1)])
        self.clock.settle()
        self.store.is_away = True
        with capturedLogs() as logs:
            waiting.callback(None)
            self.clock.pass_time(20)
            self.store.is_away = False
            self.clock.pass_time(40)
        self.assertEqual(self.get(processed)[0].deliveries[0].state, "done")
        texts = [log["log_format"] for log in logs]
        self.assertEqual(len([t for t in texts if t.startswith("The ledger cannot be used")]), 1)
        self.assertEqual(texts.count("The ledger can be used again"), 1)

    def test_taken_away(self) -> None:
        """Who is told that the claim is another's by now ends, and changes nothing."""
        waiting: Deferred[None] = Deferred()
        self.sources.register_group_handler("", lambda event: waiting, name="n")
        processed = self.sources.process_events([event("g", 1)])
        self.clock.settle()
        with self.store.transaction() as transaction:
            (delivery,) = transaction.running()
            self.assertTrue(transaction.rescue(delivery))
            (other,) = transaction.claim(["n"], 1, "somebody else", 10.0)
        waiting.callback(None)
        self.clock.settle()
        self.assertEqual(self.states("1:g1"), {"n": "running"})
        counted = self.sources.statistics()
        self.assertEqual((counted["under_way"], counted["completed"]), (0, 0))
        with self.store.transaction() as transaction:
            transaction.complete(other)
        self.get(processed)

    def test_transaction_that_cannot_begin(self) -> None:
        """It has failed, and is tried again when the ledger is back."""
        self.sources.register_group_handler(
            "",
            lambda event, transaction: self.called.append("work"),
            name="n",
            on_crash="transaction",
        )
        table = Table()
        row = Challenge(table, 1)
        table.save(row)
        self.sources.add_references(References(table))
        self.pool.is_free = False
        processed = self.sources.process_events([event("g", 1, {"row": row})])
        self.clock.settle()
        self.store.is_away = True
        self.pool.go()
        self.clock.pass_time(5)
        self.store.is_away = False
        self.pool.is_free = True
        self.clock.pass_time(60)
        self.assertEqual((self.called, self.states("1:g1")), (["work"], {"n": "done"}))
        self.get(processed)
        self.flushLoggedErrors(LedgerUnavailableError)
