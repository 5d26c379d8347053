"""Events that wait for themselves: proven cycles are ended, and nothing else is."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    gatherResults,
    inlineCallbacks,
    succeed,
)

from oni.dispatcher import _cycles, _twisted_private, _watch
from oni.errors import EventCycleError, HandlerTimeoutError
from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.running import RunningCase


class CycleCase(RunningCase):
    """A test with an outer event, whose handler waits for what it fires in a plain callback."""

    def setUp(self) -> None:
        """Make the Deferred whose callbacks fire."""
        super().setUp()
        self.gate: Deferred[Any] = Deferred()
        self.fired_later: list[Deferred[Any]] = []

    def inner(self, _: Any = None, **details: Any) -> Deferred[Any]:
        """Fire an inner event that is queued, for nothing tells where it comes from."""
        fired = self.start("inner", user="inner", **details)
        self.fired_later.append(fired)
        return fired

    def look(self, seconds: float = 2.0) -> None:
        """Let the clock run for a while."""
        self.clock.pump([0.01] * int(seconds * 100))

    def assert_cycle(self, event: Any = "inner") -> EventCycleError:
        """Assert that the cycle is found, and the inner event has failed for it."""
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assertNoResult(done)
        self.look()
        result = self.successResultOf(done)
        [failure] = result.failures
        error = failure.value
        while not isinstance(error, EventCycleError):
            error = error.subFailure.value
        self.assertEqual(error.event, event)
        self.assertEqual(self.dispatcher.statistics()["event_cycles"], 1)
        self.flush(Exception)
        return error

    def assert_no_cycle(self) -> None:
        """Assert that no alarm is given."""
        self.look()
        self.assertEqual(self.dispatcher.statistics()["event_cycles"], 0)


class ProvenTests(CycleCase):
    """All ways to wait for a queued event in a handler of the event that has the turn."""

    def test_callback_chain(self) -> None:
        """A plain callback that returns what it fires."""
        self.add(lambda event: self.gate.addCallback(self.inner), user="outer")
        error = self.assert_cycle()
        self.assertEqual(error.chain[0], error.chain[-1])
        self.assertEqual(len(error.chain), 3)
        self.assertIn("which waits for event", str(error))
        self.assertIn("inside(event)", str(error))

    def test_chain_of_chains(self) -> None:
        """Through several Deferreds that wait for each other."""

        def chain(_: Any) -> Deferred[Any]:
            return succeed(None).addCallback(lambda _: succeed(None).addCallback(self.inner))

        self.add(lambda event: self.gate.addCallback(chain), user="outer")
        self.assert_cycle()

    def test_chain_deferred(self) -> None:
        """Through chainDeferred."""
        outer: Deferred[Any] = Deferred()
        self.gate.addCallback(lambda _: self.inner().chainDeferred(outer) and None)
        self.add(lambda event: outer, user="outer")
        self.assert_cycle()

    def test_gather_results(self) -> None:
        """Through gatherResults, whose others have ended."""
        self.add(
            lambda event: self.gate.addCallback(
                lambda _: gatherResults([self.inner(), succeed(1)], consumeErrors=True)
            ),
            user="outer",
        )
        self.assert_cycle()

    def test_gather_results_of_two(self) -> None:
        """Through gatherResults of two queued events: the newer one fails, so the list does."""
        self.add(
            lambda event: self.gate.addCallback(
                lambda _: gatherResults([self.inner(), self.inner()], consumeErrors=True)
            ),
            user="outer",
        )
        self.note(user="inner")
        self.assert_cycle()
        self.assertEqual(self.heard, ["inner"])

    def test_list_of_all(self) -> None:
        """Through a DeferredList that needs all: another that is pending makes no difference."""
        never: Deferred[None] = Deferred()

        def wait(_: Any) -> Deferred[Any]:
            fired = self.inner()
            return DeferredList([fired, never], consumeErrors=True).addCallback(
                lambda results: results[0][1]
            )

        self.add(lambda event: self.gate.addCallback(wait), user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.look()
        self.assertEqual(self.dispatcher.statistics()["event_cycles"], 1)
        never.callback(None)
        [failure] = self.successResultOf(done).failures
        self.assertIsInstance(failure.value, EventCycleError)
        self.flush(EventCycleError)

    def test_list_of_first_callback(self) -> None:
        """Through one that fires on the first result, when only queued events are left."""
        self.add(
            lambda event: self.gate.addCallback(
                lambda _: DeferredList(
                    [self.inner(), self.inner()], fireOnOneCallback=True, consumeErrors=True
                )
            ),
            user="outer",
        )
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.look(5)
        # One after the other is found: only then can the list know that none succeeds.
        self.successResultOf(done)
        self.assertEqual(self.dispatcher.statistics()["event_cycles"], 2)

    def test_coroutine_started_in_a_callback(self) -> None:
        """A coroutine that a plain callback started, and the handler waits for."""

        async def later() -> None:
            await self.inner()

        self.add(
            lambda event: self.gate.addCallback(lambda _: Deferred.fromCoroutine(later())),
            user="outer",
        )
        self.assert_cycle()

    def test_inline_callbacks(self) -> None:
        """A generator under inlineCallbacks."""

        @inlineCallbacks
        def later(_: Any) -> Any:
            yield self.inner()

        self.add(lambda event: self.gate.addCallback(later), user="outer")
        self.assert_cycle()

    def test_coroutine_handler(self) -> None:
        """A coroutine handler that awaits what somebody else has fired."""

        async def handler(event: Any) -> None:
            await self.gate
            await self.fired_later[0]

        self.gate.addCallback(lambda _: self.inner() and None)
        self.add(handler, user="outer")
        self.assert_cycle()

    def test_deferred_waited_on_later(self) -> None:
        """A queued event that is only waited for long after it was fired."""
        gates = self.wait("gate", user="outer")
        done = self.start("outer", user="outer")
        fired = self.inner()
        self.look(30)
        self.assertNoResult(fired)
        later: Deferred[Any] = Deferred()
        later.callback(None)
        later.addCallback(lambda _: fired)
        later.chainDeferred(gates[0])
        self.look()
        [failure] = self.successResultOf(done).failures
        self.assertIsInstance(failure.value, EventCycleError)
        self.flush(EventCycleError)

    def test_in_a_sequential_phase(self) -> None:
        """A handler of a sequential phase."""
        self.use(phases=[Phase("during", concurrent=False)])
        self.hear("first", user="outer")
        self.add(lambda event: self.gate.addCallback(self.inner), user="outer")
        self.assert_cycle()

    def test_nested_event_waits_for_a_queued_one(self) -> None:
        """The outer event waits for a nested one, which waits for the queued one."""

        async def handler(event: Any) -> Any:
            result = await self.dispatcher.fire_event("nested", user="nested")
            return result.failures[0]

        self.add(handler, user="outer")
        self.add(lambda event: self.gate.addCallback(self.inner), user="nested")
        self.assert_cycle()

    def test_nested_event_that_nobody_waits_for(self) -> None:
        """Where the outer event does not wait for the nested one, there is no cycle."""
        self.add(lambda event: self.gate.addCallback(self.inner), user="nested")
        gates = self.wait("gate", user="outer")

        def fire_nested(event: Any) -> None:
            self.dispatcher.fire_event("nested", user="nested")

        self.add(fire_nested, user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_no_cycle()
        gates[0].callback(None)
        self.successResultOf(done)
        self.successResultOf(self.fired_later[0])

    def test_bystanders(self) -> None:
        """The newest queued event of the cycle fails, never one that is queued beside it."""
        self.note(user="bystander")
        self.note(user="inner")
        self.add(lambda event: self.gate.addCallback(self.inner), user="outer")
        done = self.start("outer", user="outer")
        before = self.start("before", user="bystander")
        self.gate.callback(None)
        after = self.start("after", user="bystander")
        self.look()
        [failure] = self.successResultOf(done).failures
        self.assertEqual(failure.value.event, "inner")
        self.successResultOf(before)
        self.successResultOf(after)
        self.assertEqual(self.heard, ["before", "after"])
        self.flush(EventCycleError)

    def test_queued_event_waits_for_a_newer_one(self) -> None:
        """Behind the outer event's own turn a whole chain may hang; its newest one fails."""
        self.note(user="inner")

        def wait(_: Any) -> Deferred[Any]:
            first, second = self.inner(), self.inner()
            return first.addCallback(lambda _: second)

        self.add(lambda event: self.gate.addCallback(wait), user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.look()
        # Only the first is waited for as yet.
        self.assertEqual(len(self.successResultOf(done).failures), 1)
        self.assertEqual(self.heard, ["inner"])
        self.flush(EventCycleError)

    def test_time_limit(self) -> None:
        """A cycle that only a time limit would end is one; its error comes first."""
        self.add(lambda event: self.gate.addCallback(self.inner), user="outer", timeout=60)
        self.assert_cycle()

    def test_found_soon(self) -> None:
        """A cycle is found within some hundredths of a second."""
        self.add(lambda event: self.gate.addCallback(self.inner), user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.look(0.05)
        self.successResultOf(done)
        self.flush(EventCycleError)

    def test_next_cycle_is_found_too(self) -> None:
        """One after the other: the watch goes on while anybody waits."""

        async def twice() -> None:
            for _ in range(2):
                try:
                    await self.inner()
                except EventCycleError:
                    self.heard.append("cycle")

        self.add(
            lambda event: self.gate.addCallback(lambda _: Deferred.fromCoroutine(twice())),
            user="outer",
        )
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.look()
        self.successResultOf(done)
        self.assertEqual(self.heard, ["cycle", "cycle"])


class LanesTests(CycleCase):
    """Cycles over several turns."""

    def ring(self, size: int) -> list[Deferred[Any]]:
        """Let the event of each lane wait for a queued one of the next; give the holders."""
        self.use(order_by=("user",))
        queued: dict[int, Deferred[Any]] = {}
        gates = [Deferred[Any]() for _ in range(size)]

        def handler(event: Any) -> Any:
            kind, n = event
            if kind == "holds":
                return gates[n].addCallback(lambda _: queued[n])
            self.heard.append(event)
            return None

        self.add(handler)
        holders = [self.start(("holds", n), user=n) for n in range(size)]
        for n in range(size):
            queued[n] = self.start(("queued", (n + 1) % size), user=(n + 1) % size)
            gates[n].callback(None)
        return holders

    def check(self, size: int) -> None:
        """Assert that the newest queued event fails, and all others end well."""
        holders = self.ring(size)
        self.look()
        failures = [f for done in holders for f in self.successResultOf(done).failures]
        self.assertEqual([f.value.event for f in failures], [("queued", 0)])
        self.assertEqual(len(failures[0].value.chain), 2 * size + 1)
        self.assertEqual(sorted(self.heard), [("queued", n) for n in range(1, size)])
        self.assertEqual(self.dispatcher.statistics()["event_cycles"], 1)
        self.flush(EventCycleError)

    def test_two(self) -> None:
        """Two lanes that wait for each other."""
        self.check(2)

    def test_three(self) -> None:
        """Three lanes in a ring."""
        self.check(3)

    def test_many(self) -> None:
        """Fifty lanes in a ring."""
        self.check(50)

    def test_chain_without_a_ring(self) -> None:
        """Lanes that wait for each other in a row end by themselves."""
        self.use(order_by=("user",))
        gates = self.wait("gate", "before")
        last = self.start("last", user=2)
        queued = self.start("queued", user=2)
        self.add(lambda event: queued, user=1)
        first = self.start("first", user=1)
        gates[1].callback(None)
        self.assert_no_cycle()
        gates[0].callback(None)
        gates[2].callback(None)
        for done in (first, last, queued):
            self.successResultOf(done)

    def test_two_dispatchers(self) -> None:
        """Events of two dispatchers that wait for queued ones of each other."""
        other = self.make()
        waited_for: list[Deferred[Any]] = []
        self.add(lambda event: self.gate.addCallback(lambda _: waited_for[0]), user="holds")
        gate: Deferred[Any] = Deferred()
        other.add_event_handler(
            lambda event: gate.addCallback(lambda _: waited_for[1]), "during", False, user="holds"
        )
        first = self.start("holds", user="holds")
        second = other.fire_event("holds", user="holds")
        waited_for.append(other.fire_event("queued"))
        waited_for.append(self.start("queued"))
        self.gate.callback(None)
        gate.callback(None)
        self.look()
        [failure] = self.successResultOf(second).failures
        self.assertIsInstance(failure.value, EventCycleError)
        self.assertEqual(self.successResultOf(first).failures, ())
        cycles = [each.statistics()["event_cycles"] for each in (self.dispatcher, other)]
        self.assertEqual(cycles, [1, 0])
        self.flush(EventCycleError)


class HopelessTests(CycleCase):
    """An event that waits for itself alone: the queue behind it is not to blame."""

    outer: Deferred[Any]

    def assert_named(self, *chain: str) -> None:
        """Assert that the stall warning names the cycle, and that queued events go on waiting."""
        queued = self.start("queued", user="queued")
        self.look(7)
        [text] = self.warnings()
        self.assertRegex(
            text, r"waits for itself \(event .*, which waits for event .*\), in .*\.handler"
        )
        for name in chain:
            self.assertIn(name, text)
        self.assertNoResult(queued)
        self.assertEqual(self.dispatcher.statistics()["event_cycles"], 0)
        self.outer.cancel()
        self.assertTrue(self.outer.called)
        self.outer.addErrback(lambda failure: None)  # unless a handler has taken it
        self.successResultOf(queued)
        self.flush(CancelledError)

    def test_its_own_deferred(self) -> None:
        """A handler waits for what its own event's fire returned."""

        async def handler(event: Any) -> None:
            await self.gate
            await self.outer

        self.add(handler, user="outer")
        self.outer = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_named("(str)")

    def test_through_a_nested_event(self) -> None:
        """A handler of a nested event does."""

        async def handler(event: Any) -> None:
            await self.dispatcher.fire_event(5, user="inner")

        async def inner(event: Any) -> None:
            await self.gate
            await self.outer

        self.add(handler, user="outer")
        self.add(inner, user="inner")
        self.outer = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_named("(str)", "(int)")

    def test_together_with_a_queued_event(self) -> None:
        """Nor is a queued event that is waited for together with it."""

        async def handler(event: Any) -> None:
            await self.gate
            behind = self.start("behind", user="queued")
            waits = [self.outer, behind]
            await DeferredList(waits, fireOnOneCallback=True)

        self.add(handler, user="outer")
        self.outer = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_named("(str)")


class NoFalseAlarmTests(CycleCase):
    """What can still end is left alone."""

    def test_fire_and_forget(self) -> None:
        """A handler that does not wait for what it fires."""
        gates = self.wait("gate", user="outer")
        self.gate.addCallback(lambda _: self.inner() and None)
        self.add(lambda event: self.gate, user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_no_cycle()
        gates[0].callback(None)
        self.successResultOf(done)
        self.successResultOf(self.fired_later[0])

    def test_background_coroutine(self) -> None:
        """A background coroutine that outlives its event, and waits for a queued one."""

        async def later() -> None:
            await self.gate
            await self.inner()
            self.heard.append("background")

        self.add(lambda event: Deferred.fromCoroutine(later()) and None, user="outer")
        gates = self.wait("gate", user="holds")
        self.fire("outer", user="outer")
        self.start("holds", user="holds")
        self.gate.callback(None)
        self.assert_no_cycle()
        gates[0].callback(None)
        self.assertEqual(self.heard, ["gate", "background"])

    def test_handler_that_was_given_up(self) -> None:
        """A handler that timed out is not waited for any more."""

        async def stubborn() -> None:
            while not self.fired_later:
                try:
                    await Deferred()
                except BaseException:  # noqa: BLE001 - it does not want to end
                    self.inner()
            await self.fired_later[0]
            self.heard.append("late")

        gates = self.wait("gate", user="outer")
        self.add(lambda event: Deferred.fromCoroutine(stubborn()), user="outer", timeout=1)
        done = self.start("outer", user="outer")
        self.clock.advance(1)
        self.assert_no_cycle()
        gates[0].callback(None)
        [failure] = self.successResultOf(done).failures
        self.assertIsInstance(failure.value, HandlerTimeoutError)
        self.flush(HandlerTimeoutError)

    def test_gather_results_with_another_that_may_fail(self) -> None:
        """The list of gatherResults ends as soon as one fails: while another may, all is well."""
        other: Deferred[None] = Deferred()
        self.add(
            lambda event: self.gate.addCallback(
                lambda _: gatherResults([self.inner(), other], consumeErrors=True)
            ),
            user="outer",
        )
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_no_cycle()
        other.errback(ValueError("that frees it"))
        self.assertEqual(len(self.successResultOf(done).failures), 1)
        self.successResultOf(self.fired_later[0])
        self.flush(Exception)

    def test_list_with_another_that_may_succeed(self) -> None:
        """So with a list that fires on its first result."""
        other: Deferred[None] = Deferred()
        self.add(
            lambda event: self.gate.addCallback(
                lambda _: DeferredList([self.inner(), other], fireOnOneCallback=True)
            ),
            user="outer",
        )
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.assert_no_cycle()
        other.callback(None)
        self.successResultOf(done)

    def test_list_that_has_fired_and_waits_for_something_else(self) -> None:
        """A list that another's failure has fired does not wait for the queued event."""
        other: Deferred[None] = Deferred()
        sleep: Deferred[None] = Deferred()

        def wait(_: Any) -> Deferred[Any]:
            both = gatherResults([self.inner(), other], consumeErrors=True)
            return both.addErrback(lambda _: sleep)

        self.add(lambda event: self.gate.addCallback(wait), user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        other.errback(ValueError())
        self.assert_no_cycle()
        sleep.callback(None)
        self.assertEqual(self.successResultOf(done).failures, ())

    def test_cancelled_chain_that_waits_for_something_else(self) -> None:
        """So with a Deferred that gave up waiting by a cancellation."""
        sleep: Deferred[None] = Deferred()
        chained: Deferred[Any] = Deferred()
        chained.addErrback(lambda _: sleep)
        self.gate.addCallback(lambda _: self.inner().chainDeferred(chained) and None)
        self.add(lambda event: chained, user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        chained.cancel()
        self.assert_no_cycle()
        sleep.callback(None)
        self.assertEqual(self.successResultOf(done).failures, ())

    def test_lock(self) -> None:
        """Locks cannot be seen through: that is for the stall warning."""
        lock = DeferredLock()
        self.successResultOf(lock.acquire())
        gates = self.wait("gate", user="outer")
        self.add(lambda event: lock.acquire(), user="outer")
        done = self.start("outer", user="outer")
        self.inner()
        self.assert_no_cycle()
        lock.release()
        gates[0].callback(None)
        self.successResultOf(done)

    def test_long_healthy_queue_is_not_searched(self) -> None:
        """A queue that gets on is never searched, however long it is."""
        gates = self.wait("gate")
        for number in range(200):
            self.start(number)
        with mock.patch.object(_watch, "find_cycle") as search:
            for number in range(200):
                self.clock.advance(0.05)
                gates[number].callback(None)
        self.assertLessEqual(search.call_count, 10)

    def test_slow_queue_is_searched_seldom(self) -> None:
        """Behind a slow event the searches become rare."""
        gates = self.wait("gate")
        self.start("slow")
        self.start("queued")
        with mock.patch.object(_watch, "find_cycle", return_value=None) as search:
            self.look(60)
        self.assertLess(search.call_count, 70)
        gates[0].callback(None)
        gates[1].callback(None)

    def test_growing_queue_is_searched_seldom(self) -> None:
        """New events do not make a long queue be searched again and again."""
        self.use(max_pending=None)
        gates = self.wait("gate", times=1)
        for number in range(10_000):
            self.start(number)
        with mock.patch.object(_watch, "find_cycle", return_value=None) as search:
            for number in range(1_000):
                self.clock.advance(0.01)
                self.start(number)
        self.assertLess(search.call_count, 12)
        gates[0].callback(None)

    def test_search_of_a_long_queue(self) -> None:
        """A search is linear in what waits."""
        gates = self.wait("gate", times=1)
        for number in range(5_000):
            self.start(number)
        lane = self.dispatcher._engine.turns.only
        assert lane is not None
        with mock.patch.object(_cycles, "waiters", wraps=_cycles.waiters) as looks:
            self.assertIsNone(_cycles.find_cycle(lane))
        self.assertEqual(looks.call_count, 4_999)
        gates[0].callback(None)


class WithoutPrivateFieldsTests(CycleCase):
    """With a Twisted that hides its fields, only the warning remains."""

    def test_only_the_warning_remains(self) -> None:
        """No cycle is found; the stall is warned of."""
        self.patch(_twisted_private, "AVAILABLE", False)
        self.add(lambda event: self.gate.addCallback(self.inner), user="outer")
        done = self.start("outer", user="outer")
        self.gate.callback(None)
        self.look(7)
        self.assertNoResult(done)
        self.assertEqual(len(self.warnings()), 1)
        self.fired_later[0].cancel()
        self.assertEqual(len(self.successResultOf(done).failures), 1)
        self.flush(Exception)


class SeveralLanesTests(CycleCase):
    """The watch looks at all lanes in one go."""

    def test_end_of_one_cycle_empties_another_lane(self) -> None:
        """The end of a cycle may cancel what waits in other lanes; the watch goes on."""
        self.use(order_by=("user",))
        gates: list[Deferred[Any]] = []
        self.add(lambda event: self.gate.addCallback(lambda _: queued), user="outer")

        def handler(event: Any) -> Deferred[Any]:
            gates.append(Deferred())
            return gates[-1]

        self.add(handler, user="other")
        outer, other = self.start("outer", user="outer"), self.start("other", user="other")
        queued = self.start("queued", user="outer")
        bystander = self.start("bystander", user="other")
        queued.addErrback(lambda failure: bystander.cancel() or failure)
        self.gate.callback(None)
        self.look()
        self.successResultOf(outer)
        self.failureResultOf(bystander)
        gates[0].callback(None)
        self.successResultOf(other)
        self.flush(EventCycleError)
