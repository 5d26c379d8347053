"""How handlers are called, in which order, and with what."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from oni.errors import InvalidHandlerError
from oni.sources import EventSources, event
from oni.values import Event, Handling, LedgerEvent, Phase
from tests.sources.house import Challenge, References, SourcesTestCase, Table


class WayTests(SourcesTestCase):
    """Event sources that know the rows of a table."""

    def setUp(self) -> None:
        """Start."""
        super().setUp()
        self.table = Table()
        self.sources = self.start(self.make(references=[References(self.table)]))

    def test_what_a_handler_is_given(self) -> None:
        """The event, with the attempt and the idempotency key."""
        given: list[Event] = []
        self.sources.register_group_handler("", given.append, name="n")
        self.get(self.sources.process_events([event("g", 1, {"a": 1}, title="t")]))
        (heard,) = given
        self.assertEqual(
            dict(heard), {"group": "g", "key": "1:g1", "context": {"a": 1}, "title": "t"}
        )
        self.assertEqual((heard.attempt, heard.idempotency_key), (1, "oni/n/1:g1"))

    def test_records(self) -> None:
        """Who processes events is told what became of each key, in order, each once."""
        self.sources.register_group_handler("", self.note(), name="n")
        events = [event("g", id) for id in range(130, 0, -1)]
        records = self.get(self.sources.process_events([*events, events[0]]))
        self.assertEqual([r.event.key for r in records], [made.key for made in events])
        self.assertEqual({d.state for r in records for d in r.deliveries}, {"done"})
        self.assertEqual(len(self.called), 130)

    def test_kinds_of_handlers(self) -> None:
        """Plain ones, coroutines, Deferreds, awaitables: the delivery is done when they are."""
        waiting: Deferred[None] = Deferred()

        async def coroutine(event: Event) -> None:
            await waiting

        @inlineCallbacks
        def generator(event: Event) -> Any:
            yield waiting

        class Awaitable:
            def __await__(self) -> Any:
                return (yield from waiting.__await__())

        handlers: dict[str, Any] = {
            "coroutine": coroutine,
            "deferred": lambda event: waiting,
            "generator": generator,
            "awaitable": lambda event: Awaitable(),
            "coroutine that a function gave": lambda event: coroutine(event),
            "partial": functools.partial(coroutine),
        }
        for name, function in handlers.items():
            self.sources.register_group_handler("", function, name=name)
        processed = self.sources.process_events([event("g", 1)])
        self.clock.settle()
        self.assertNoResult(processed)
        self.assertEqual(set(self.states("1:g1").values()), {"running"})
        waiting.callback(None)
        self.get(processed)
        self.assertEqual(set(self.states("1:g1").values()), {"done"})

    def test_threaded(self) -> None:
        """A handler that blocks is called in a thread; what it returns is waited for here."""
        waiting: Deferred[None] = Deferred()

        async def coroutine() -> None:
            await waiting

        self.pool.is_free = False
        register = self.sources.register_group_handler
        register("", self.note("plain"), name="plain", threaded=True)
        register("", lambda event: waiting, name="deferred", threaded=True)
        register("", lambda event: coroutine(), name="coroutine", threaded=True)
        processed = self.sources.process_events([event("g", 1)])
        self.clock.settle()
        self.assertEqual(sorted(self.pool.names), ["coroutine", "deferred", "plain"])
        self.pool.go()
        self.clock.settle()
        self.assertEqual(self.called, [("plain", "1:g1")])
        self.assertEqual(self.states("1:g1")["plain"], "done")
        self.assertNoResult(processed)
        waiting.callback(None)
        self.get(processed)

    def test_threaded_by_default(self) -> None:
        """What is said for all holds where nothing else is said, and not for coroutines."""
        sources = self.make(threaded=True)

        async def coroutine(event: Event) -> None:
            pass

        sources.register_group_handler("", self.note(), name="plain")
        sources.register_group_handler("", self.note(), name="here", threaded=False)
        sources.register_group_handler("", coroutine, name="coroutine")
        sources.register_group_handler("", self.note(), name="within", on_crash="transaction")
        threaded = [handler.name for handler in sources.handlers() if handler.threaded]
        self.assertEqual(threaded, ["plain"])

    def test_transaction(self) -> None:
        """Effects and completion are one."""

        def work(event: Event, transaction: Any) -> None:
            transaction.put(event["context"]["name"], event.attempt)
            if event.attempt == 1:
                raise ZeroDivisionError

        self.sources.register_group_handler("", work, name="n", on_crash="transaction")
        self.get(self.sources.process_events([event("g", 1, {"name": "a"})]))
        self.assertEqual((self.store.notes, self.states("1:g1")), ({}, {"n": "pending"}))
        self.clock.pass_time(5)
        self.assertEqual((self.store.notes, self.states("1:g1")), ({"a": 2}, {"n": "done"}))
        self.assertEqual(self.sources.ledger.statistics()["stale"], 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_transaction_in_a_thread(self) -> None:
        """What belongs to a thread of the ledger's is given back, after a failure, too."""
        given_back: list[str] = []
        sources = self.start(self.make(after_call=lambda: given_back.append("here")))

        def work(event: Event, transaction: Any) -> None:
            if event["context"]:
                raise ZeroDivisionError

        sources.register_group_handler("", work, name="n", on_crash="transaction")
        self.get(sources.process_events([event("g", 1)]))
        self.assertEqual(given_back, ["here"])
        self.get(sources.process_events([event("g", 2, {"fails": True})]))
        self.assertEqual(given_back, ["here"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_transaction_must_be_over(self) -> None:
        """Who returns something to wait for from within a transaction has failed."""

        async def coroutine() -> None:
            pass

        def failing(name: str, result: Any) -> None:
            def work(event: Event, transaction: Any) -> Any:
                transaction.put(name, 1)
                return result

            self.sources.register_group_handler(
                f"^{name}", work, name=name, on_crash="transaction"
            )

        failing("deferred", Deferred())
        never_begun = coroutine()
        failing("coroutine", never_begun)
        for name in ("deferred", "coroutine"):
            (record,) = self.get(self.sources.process_events([event(name, 1)]))
            self.assertIn("it must be done when it returns", record.deliveries[0].last_error)
        self.assertEqual(self.store.notes, {})
        self.assertEqual(inspect.getcoroutinestate(never_begun), inspect.CORO_CLOSED)
        self.assertEqual(len(self.flushLoggedErrors(InvalidHandlerError)), 2)

    def test_each_handler_has_its_own_instance(self) -> None:
        """Instances are loaded for each handler, in a thread, when it runs."""
        row = Challenge(self.table, 1, n=0)
        self.table.save(row)
        seen: list[Any] = []

        def look(event: Event, transaction: Any = None) -> None:
            seen.append(event["context"]["row"])

        register = self.sources.register_group_handler
        register("", look, name="here")
        register("", look, name="thread", threaded=True)
        register("", look, name="within", on_crash="transaction")
        self.pool.is_free = False
        processed = self.sources.process_events([event("g", 1, {"row": row})])
        self.clock.settle()
        self.assertEqual((seen, len(self.pool.names)), ([], 3))
        self.pool.go()
        self.get(processed)
        self.assertEqual(len(set(map(id, [row, *seen]))), 4)
        self.assertEqual({each.pk for each in seen}, {1})

    def test_left_to_workers(self) -> None:
        """Where deliveries are left to workers, events are only admitted."""
        here = self.start(self.make(deliver="worker"))
        for sources in (here, self.sources):
            sources.register_group_handler("", self.note(), name="n")
        self.clock.settle()
        (record,) = self.get(here.process_events([event("g", 1)]))
        self.assertEqual(record.deliveries[0].state, "pending")
        here.wake()
        self.clock.settle()
        self.assertEqual((self.called, here.statistics()["looks"]), ([], 0))
        self.clock.pass_time(2)
        self.assertEqual(self.called, ["1:g1"])

    def test_a_handler_may_process(self) -> None:
        """A handler may process other events and wait, and even its own: no deadlock."""
        self.sources.register_group_handler("^inner", self.note("inner"), name="inner")

        async def outer(event_: Event) -> None:
            records = await self.sources.process_events([event("inner", 1), event_])
            self.called.append([r.event.key for r in records])

        self.sources.register_group_handler("^outer", outer, name="outer")
        self.get(self.sources.process_events([event("outer", 1)]))
        self.assertEqual(self.called, [("inner", "5:inner1"), ["5:inner1", "5:outer1"]])
        self.assertEqual(self.states("5:outer1"), {"outer": "done"})

    def test_handlers_that_wait_for_each_other(self) -> None:
        """Handlers may process each other's events: none waits for who waits for it."""
        following = {"1:g1": "2", "1:g2": "3", "1:g3": "1"}
        gates: dict[str, Deferred[None]] = {key: Deferred() for key in following}

        async def follow(event_: Event) -> None:
            await gates[event_.key]
            await self.sources.process_events([event("g", following[event_.key])])
            self.called.append(event_.key)

        self.sources.register_group_handler("", follow, name="follow")
        processed = self.sources.process_events([event("g", id) for id in (1, 2, 3)])
        for gate in gates.values():
            self.clock.settle()
            self.assertEqual(self.called, [])
            gate.callback(None)
        self.get(processed)
        self.assertEqual(self.called, ["1:g3", "1:g2", "1:g1"])

    def test_a_handler_that_waited_for_its_instance_may_process(self) -> None:
        """So may one that is called later, as its instance was loaded first."""
        row = Challenge(self.table, 1)
        self.table.save(row)
        self.pool.is_free = False

        async def outer(event_: Event) -> None:
            await self.sources.process_events([event("outer", 1, event_["context"])])

        self.sources.register_group_handler("", outer, name="outer")
        processed = self.sources.process_events([event("outer", 1, {"row": row})])
        self.clock.settle()
        self.pool.go()
        self.get(processed)
        self.assertEqual(self.states("5:outer1"), {"outer": "done"})

    def test_forgotten(self) -> None:
        """Who cancels the Deferred waits no more; the deliveries go on."""
        waiting: Deferred[None] = Deferred()
        self.sources.register_group_handler("", lambda event: waiting, name="n")
        processed = self.sources.process_events([event("g", 1)])
        self.clock.settle()
        processed.cancel()
        self.failureResultOf(processed)
        self.assertEqual(self.states("1:g1"), {"n": "running"})
        waiting.callback(None)
        self.clock.settle()
        self.assertEqual(self.states("1:g1"), {"n": "done"})
        self.assertEqual(self.sources.statistics()["under_way"], 0)


class PhaseTests(SourcesTestCase):
    """The order of handlers."""

    def run_phases(
        self, phases: list[str | Phase], fail: str = "", **options: Any
    ) -> EventSources:
        """Register a handler in each phase, and process an event."""
        sources = self.start(self.make(phases=phases))
        for phase in reversed(sources.phases):
            for name in (f"{phase.name} 1", f"{phase.name} 2"):
                wanted = options if name == fail else {}
                sources.register_group_handler(
                    "", functools.partial(self.call, name, name == fail), name=name,
                    phase=phase.name, **wanted,
                )  # fmt: skip
        self.get(sources.process_events([event("g", 1)]))
        return sources

    def call(self, name: str, fails: bool, event: Event) -> None:
        """Note it, and fail if so."""
        self.called.append((name, event.attempt))
        if fails:
            raise ZeroDivisionError

    def test_one_after_another(self) -> None:
        """Phases follow each other, in their order."""
        self.run_phases(["a", "b", "c"])
        self.assertEqual([name[0] for name, _ in self.called], ["a", "a", "b", "b", "c", "c"])

    def test_a_later_one_waits(self) -> None:
        """As long as a handler of an earlier phase has not ended, no later one begins."""
        waiting: Deferred[None] = Deferred()
        self.start()
        self.sources.register_group_handler("", self.note("late"), name="late", phase="after")
        self.sources.register_group_handler("", lambda event: waiting, name="x", phase="before")
        processed = self.sources.process_events([event("g", 1)])
        self.clock.pass_time(10)
        self.assertEqual(self.called, [])
        waiting.callback(None)
        self.get(processed)
        self.assertEqual(self.called, [("late", "1:g1")])

    def test_another_attempt_is_waited_for(self) -> None:
        """A failure is no end while there are attempts left; then the rest runs."""
        self.run_phases(["a", "b"], fail="a 1", max_attempts=2)
        self.assertEqual(self.called, [("a 1", 1), ("a 2", 1)])
        self.clock.pass_time(5)
        self.assertEqual(self.called[2:], [("a 1", 2), ("b 1", 1), ("b 2", 1)])
        self.assertEqual(self.states("1:g1")["a 1"], "dead")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_abort(self) -> None:
        """A phase that aborts keeps the later ones from running, except those that always do."""
        phases: list[Any] = [Phase("a", on_error="abort"), "b", Phase("c", always=True)]
        self.run_phases(phases, fail="a 1", max_attempts=1)
        self.assertEqual([name[0] for name, _ in self.called], ["a", "a", "c", "c"])
        record = self.get(self.sources_of(phases).ledger.show("1:g1"))
        for delivery in record.deliveries:
            if delivery.handler.startswith("b"):
                self.assertEqual((delivery.state, delivery.attempts), ("dead", 1))
                self.assertIn("phase 'a' aborts the event: its handler 'a 1'", delivery.last_error)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def sources_of(self, phases: list[Any]) -> EventSources:
        """Give others on the same store."""
        return self.start(self.make(phases=phases))

    def test_abort_of_what_is_parked(self) -> None:
        """So does one whose delivery is in doubt; who never began is not in doubt itself."""
        sources = self.start(self.make(phases=[Phase("a", on_error="abort"), "b"]))
        fail = functools.partial(self.call, "a", True)
        sources.register_group_handler("", fail, name="a", phase="a", on_crash="park")
        sources.register_group_handler("", self.note(), name="b", phase="b", on_crash="park")
        self.get(sources.process_events([event("g", 1)]))
        self.assertEqual(self.states("1:g1"), {"a": "uncertain", "b": "dead"})
        self.flushLoggedErrors(ZeroDivisionError)

    def test_abort_with_other_phases(self) -> None:
        """What was admitted when there were fewer phases is aborted by the one that it is in."""
        before = self.start(
            self.make(phases=[Phase("a", on_error="abort"), "b"], deliver="worker")
        )
        for sources in (before, self.sources_of(["0", Phase("a", on_error="abort"), "b"])):
            fail = functools.partial(self.call, "a", True)
            sources.register_group_handler("", fail, name="a", phase="a", max_attempts=1)
            sources.register_group_handler("", self.note(), name="b", phase="b")
            self.get(sources.process_events([event("g", 1)]))
        self.clock.pass_time(2)
        self.assertEqual(self.states("1:g1"), {"a": "dead", "b": "dead"})
        self.flushLoggedErrors(ZeroDivisionError)

    def test_no_abort_while_attempts_are_left(self) -> None:
        """What succeeds in the end aborts nothing."""

        def fail_once(event: Event) -> None:
            if event.attempt == 1:
                raise ZeroDivisionError

        sources = self.start(self.make(phases=[Phase("a", on_error="abort"), "b"]))
        sources.register_group_handler("", fail_once, name="a", phase="a")
        sources.register_group_handler("", self.note(), name="b", phase="b")
        self.get(sources.process_events([event("g", 1)]))
        self.clock.pass_time(5)
        self.assertEqual(self.states("1:g1"), {"a": "done", "b": "done"})
        self.flushLoggedErrors(ZeroDivisionError)

    def test_abort_concerns_later_phases_only(self) -> None:
        """Who is in the same phase as the failure is tried again as ever."""

        def fail(event: Event) -> None:
            raise ZeroDivisionError

        def fail_once(event: Event) -> None:
            if event.attempt == 1:
                raise ZeroDivisionError

        sources = self.start(self.make(phases=[Phase("a", on_error="abort")]))
        sources.register_group_handler("", fail, name="1", phase="a", max_attempts=1)
        sources.register_group_handler("", fail_once, name="2", phase="a")
        self.get(sources.process_events([event("g", 1)]))
        self.clock.pass_time(5)
        self.assertEqual(self.states("1:g1"), {"1": "dead", "2": "done"})
        self.flushLoggedErrors(ZeroDivisionError)

    def test_failures_of_other_phases_abort_nothing(self) -> None:
        """Where one phase aborts, a failure of another one still does not."""

        def fail(event: Event) -> None:
            raise ZeroDivisionError

        sources = self.start(self.make(phases=["a", Phase("b", on_error="abort"), "c"]))
        sources.register_group_handler("", fail, name="a", phase="a", max_attempts=1)
        sources.register_group_handler("", self.note(), name="c", phase="c")
        self.get(sources.process_events([event("g", 1)]))
        self.assertEqual(self.states("1:g1"), {"a": "dead", "c": "done"})
        self.flushLoggedErrors(ZeroDivisionError)

    def test_one_by_one(self) -> None:
        """Handlers of a phase that is not concurrent follow each other, also across processes."""
        waiting: Deferred[None] = Deferred()
        phases = [Phase("a", concurrent=False), Phase("b")]
        both = [self.start(self.make(phases=phases)) for _ in range(2)]
        for sources in both:
            sources.register_group_handler("", lambda event: waiting, name="first", phase="a")
            sources.register_group_handler("", self.note("2nd"), name="second", phase="a")
            sources.register_group_handler("", self.note("3rd"), name="third", phase="b")
        processed = both[0].process_events([event("g", 1)])
        self.clock.pass_time(3)
        self.assertEqual(self.called, [])
        waiting.callback(None)
        self.get(processed)
        self.assertEqual(self.called, [("2nd", "1:g1"), ("3rd", "1:g1")])

    def test_phase_time_limit(self) -> None:
        """A phase's time limit ends what runs of it: that attempt has failed."""
        sources = self.start(self.make(phases=[Phase("a", timeout=3.0)]))
        sources.register_group_handler("", lambda event: Deferred(), name="n", phase="a")
        processed = sources.process_events([event("g", 1)])
        self.clock.pass_time(2.5)
        self.assertEqual(self.states("1:g1"), {"n": "running"})
        self.clock.pass_time(0.5)
        (record,) = self.get(processed)
        self.assertEqual(record.deliveries[0].state, "pending")
        self.assertIn("given up before it ended", record.deliveries[0].last_error)
        self.flushLoggedErrors()


class StrangersTests(SourcesTestCase):
    """Deliveries that other programs left in the ledger."""

    def admit(self, key: str, payload: bytes, *names: str, **options: Any) -> None:
        """Admit something past everything that checks it."""
        handlings = tuple(Handling(name, **options) for name in names)
        self.get(self.sources.ledger.admit([LedgerEvent(key, "g", payload, handlings)]))

    def test_unknown_handlers(self) -> None:
        """What nobody here knows is left alone, for as long as it takes."""
        self.start()
        self.admit("k", b'{"v":1,"context":{},"data":{}}', "stranger", "n")
        self.sources.register_group_handler("", self.note(), name="n")
        self.clock.pass_time(100)
        self.assertEqual(self.states("k"), {"stranger": "pending", "n": "done"})
        self.assertEqual(self.called, ["k"])

    def test_poison(self) -> None:
        """What cannot be read is dead at once, with its bytes, and the next one proceeds."""
        self.start()
        self.sources.register_group_handler("", self.note(), name="n")
        self.sources.register_group_handler("", self.note(), name="p")
        self.admit("a", b"\xff{", "n")
        self.admit("b", b"{}", "n", "p", on_crash="park")
        self.admit("c", b'{"v":1,"context":{},"data":{}}', "n")
        self.sources.wake()
        self.clock.settle()
        self.assertEqual((self.states("a"), self.states("c")), ({"n": "dead"}, {"n": "done"}))
        self.assertEqual(self.states("b"), {"n": "dead", "p": "dead"})
        record = self.get(self.sources.ledger.show("a"))
        self.assertEqual(record.event.payload, b"\xff{")
        self.assertIn("cannot be read", record.deliveries[0].last_error)
        self.assertEqual(self.called, ["c"])

    def test_newer(self) -> None:
        """What a newer program wrote is left alone, and holds up nobody."""
        self.start()
        self.sources.register_group_handler("", self.note(), name="n")
        for number in range(100):
            self.admit(f"new {number}", b'{"v":2}', "n")
        for number in range(100):
            self.admit(f"old {number}", b'{"v":1,"context":{},"data":{}}', "n")
        self.clock.pass_time(5)
        self.assertEqual(len(self.called), 100)
        newer = [row for row in self.store.rows.values() if row.key.startswith("new")]
        self.assertEqual({(row.state, row.attempts) for row in newer}, {("pending", 0)})
        self.assertLess(self.sources.statistics()["looks"], 30)
        self.get(self.sources.process_events([Event(group="g", key="new 1")]))
        self.assertEqual(self.states("new 1"), {"n": "pending"})

    def test_registered_anew(self) -> None:
        """Of a name that was registered twice, one after the other, only the second counts."""
        self.start()
        self.sources.register_group_handler("^g", self.note("first"), name="n")
        self.get(self.sources.process_events([event("g", 1)]))
        self.sources.unregister_group_handler("n")
        self.sources.register_group_handler("^other", self.note("second"), name="n")
        self.admit("k", b'{"v":1,"context":{},"data":{}}', "n")
        self.get(self.sources.process_events([event("other", 1)]))
        self.assertEqual(self.called, [("first", "1:g1"), ("second", "5:other1")])
        self.assertEqual(self.states("k"), {"n": "pending"})

    def test_other_pattern(self) -> None:
        """An event for whose group a handler is not any more fails, and says so."""
        self.start()
        self.sources.register_group_handler("^other", self.note(), name="n")
        self.sources.register_group_handler("^other", self.note(), name="p", on_crash="park")
        self.admit("a", b'{"v":1,"context":{},"data":{}}', "n")
        self.admit("b", b'{"v":1,"context":{},"data":{}}', "p", on_crash="park")
        self.sources.wake()
        self.clock.settle()
        record = self.get(self.sources.ledger.show("a"))
        self.assertEqual(record.deliveries[0].state, "pending")
        self.assertIn("is registered for '^other' by now", record.deliveries[0].last_error)
        self.assertEqual(self.states("b"), {"p": "dead"})
        self.assertEqual(self.called, [])
