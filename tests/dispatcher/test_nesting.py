"""Handlers that fire, add, remove and wait: nested events run inside their parent's turn."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from oni.dispatcher._engine import MAX_NESTING
from oni.dispatcher._frames import current_frame
from oni.dispatcher._run import EventRun
from oni.errors import EventNestingError
from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.running import RunningCase


class NestedTests(RunningCase):
    """What a handler fires while it is called runs at once and takes no place in the queue."""

    def setUp(self) -> None:
        """Note every event whose user is 'inner'."""
        super().setUp()
        self.note(user="inner")

    def inner(self) -> Deferred[Any]:
        """Fire the inner event."""
        return self.dispatcher.fire_event("inner", user="inner")

    def test_in_a_plain_handler(self) -> None:
        """The inner event has ended when fire_event returns."""

        def handler(event: Any) -> None:
            self.successResultOf(self.inner())
            self.heard.append("outer")

        self.add(handler, user="outer")
        self.fire(user="outer")
        self.assertEqual(self.heard, ["inner", "outer"])

    def test_returned_by_a_plain_handler(self) -> None:
        """A handler may return the Deferred of what it fired."""
        self.add(lambda event: self.inner(), user="outer")
        result = self.fire(user="outer")
        self.assertEqual([o.value.event for o in result], ["inner"])

    def test_in_a_coroutine(self) -> None:
        """A coroutine may fire and wait, also after it had to wait for something else."""
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await self.inner()
            await gate
            await self.inner()
            self.heard.append("outer")

        self.add(handler, user="outer")
        done = self.start(user="outer")
        gate.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["inner", "inner", "outer"])

    def test_in_inline_callbacks(self) -> None:
        """So may a generator under inlineCallbacks."""
        gate: Deferred[None] = Deferred()

        @inlineCallbacks
        def handler(event: Any) -> Any:
            yield gate
            result = yield self.inner()
            self.heard.append(result.event)

        self.add(handler, user="outer")
        done = self.start(user="outer")
        gate.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["inner", "inner"])

    def test_in_a_coroutine_that_a_function_returned(self) -> None:
        """So may a coroutine that a plain function made."""
        gate: Deferred[None] = Deferred()

        async def later() -> None:
            await gate
            await self.inner()

        self.add(lambda event: later(), user="outer")
        done = self.start(user="outer")
        gate.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["inner"])

    def test_inner_waits(self) -> None:
        """The outer event waits for an inner one that waits, if its handler does."""
        gates = self.wait("gate", user="inner")

        async def handler(event: Any) -> None:
            await self.inner()
            self.heard.append("outer")

        self.add(handler, user="outer")
        done = self.start(user="outer")
        self.assertEqual(self.states(), [("event", "running"), ("inner", "nested")])
        gates[0].callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["inner", "gate", "outer"])

    def test_overtakes_the_queue(self) -> None:
        """A nested event does not wait behind events that are queued."""
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await gate
            await self.inner()

        self.add(handler, user="outer")
        self.note(user="queued")
        first = self.start(user="outer")
        second = self.start("queued", user="queued")
        gate.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.heard, ["inner", "queued"])

    def test_deep(self) -> None:
        """Events may be nested in nested events."""
        depths: list[str] = []

        async def handler(event: int) -> None:
            if event:
                await self.dispatcher.fire_event(event - 1)
            else:
                depths.extend(state for _, state in self.states())

        self.add(handler)
        self.fire(20)
        self.assertEqual(depths.count("running"), 1)
        self.assertEqual(depths.count("nested"), 20)

    def test_in_later_phases_and_queued_events(self) -> None:
        """Handlers of later phases and of queued events are inside their event too."""
        gates = self.wait("gate", "before", user="outer")
        self.add(lambda event: self.inner(), user="outer")
        first = self.start("first", user="outer")
        second = self.start("second", user="outer")
        gates[0].callback(None)
        self.successResultOf(first)
        gates[1].callback(None)
        self.successResultOf(second)
        self.assertEqual(self.heard, ["gate", "inner", "gate", "inner"])

    def test_ordered_by_details(self) -> None:
        """A nested event belongs to its parent's turn, whatever its own details."""
        self.use(order_by=("user",))
        gates = self.wait()
        self.start("eve's", user="eve")

        async def handler(event: Any) -> None:
            await self.dispatcher.fire_event("nested", user="eve", role="nested")

        self.add(handler, user="bob")
        done = self.start("bob's", user="bob")
        self.assertEqual(self.heard, ["eve's", "bob's", "nested"])
        for gate in gates:
            gate.callback(None)
        self.successResultOf(done)

    def test_outlives_its_parent(self) -> None:
        """A nested event that nobody waits for goes on after its parent, without its turn."""
        gates = self.wait("gate", user="inner")
        self.add(lambda event: self.inner() and None, user="outer")
        self.successResultOf(self.start(user="outer"))
        self.assertEqual(self.states(), [("inner", "running")])
        self.fire("next", user="inner ")
        gates[0].callback(None)

    def test_two_dispatchers(self) -> None:
        """A handler may fire at another dispatcher, whose handler fires at the first: nested."""
        other = self.make()
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await other.fire_event("there")

        async def there(event: Any) -> None:
            await gate
            await self.inner()

        self.add(handler, user="outer")
        other.add_event_handler(there, "during", False)
        done = self.start(user="outer")
        queued = self.start("queued")
        gate.callback(None)
        self.successResultOf(done)
        self.successResultOf(queued)
        self.assertEqual(self.heard, ["inner"])

    def test_other_dispatchers_event_is_not_nested(self) -> None:
        """An event of another dispatcher is in that one's order."""
        other = self.make()
        other_gate: Deferred[None] = Deferred()
        other.add_event_handler(lambda event: other_gate, "during", False)
        other.fire_event("holds")
        self.add(lambda event: other.fire_event("there"), user="outer")
        done = self.start(user="outer")
        self.assertEqual([p.state for p in other.pending()], ["running", "queued"])
        other_gate.callback(None)
        self.successResultOf(done)


class EndlessTests(RunningCase):
    """Handlers that fire what they hear, again and again."""

    def innermost(self, result: Any) -> Any:
        """Give the failure of the innermost event, whose handlers all return the inner result."""
        while not result.failures:
            [result] = result.values
        [failure] = result.failures
        return failure.value

    def check(self, start: int = 0) -> None:
        """Assert that what was started ends with the named error, and the dispatcher goes on."""
        error = self.innermost(self.successResultOf(self.start(start)))
        self.assertIsInstance(error, EventNestingError)
        self.assertIsInstance(error, RecursionError)
        self.assertEqual((error.event, error.limit), (MAX_NESTING, MAX_NESTING))
        self.assertIn("100", str(error))
        self.flush(EventNestingError)
        self.assert_idle()
        self.assertIsNone(self.successResultOf(self.dispatcher.stop()))

    def test_function(self) -> None:
        """Beyond the limit a fire fails; every event around it ends."""
        self.add(lambda event: self.dispatcher.fire_event(event + 1))
        self.check()

    def test_coroutine(self) -> None:
        """So it does where every event waits for the one in it."""

        async def handler(event: Any) -> Any:
            return await self.dispatcher.fire_event(event + 1)

        self.add(handler)
        self.check()

    def test_as_deep_as_allowed(self) -> None:
        """The limit itself is allowed."""

        def handler(event: int) -> Any:
            self.heard.append(event)
            return self.dispatcher.fire_event(event + 1) if event < MAX_NESTING - 1 else None

        self.add(handler)
        self.fire(0)
        self.assertEqual(len(self.heard), MAX_NESTING)

    def test_two_dispatchers(self) -> None:
        """Dispatchers that fire at each other find it out as well."""
        first, second = self.dispatcher, self.make()
        self.add(lambda event: second.fire_event(event + 1))
        second.add_event_handler(lambda e: first.fire_event(e + 1), "during", use_weakref=False)
        self.check()
        self.successResultOf(second.stop())

    def test_one_after_the_other(self) -> None:
        """A chain of events, each fired at the end of the one before, has no limit."""

        async def handler(event: int) -> None:
            await go[0]
            self.heard.append(event)
            if event < 3 * MAX_NESTING:
                self.dispatcher.fire_event(event + 1)

        go: list[Deferred[None]] = [Deferred()]
        self.add(handler)
        self.start(0)
        while not go[0].called:
            last, go[0] = go[0], Deferred()
            last.callback(None)
            if self.heard[-1] == 3 * MAX_NESTING:
                break
        self.assertEqual(len(self.heard), 3 * MAX_NESTING + 1)

    def test_end_of_the_stack(self) -> None:
        """Where Python's stack ends first, no event is left behind either."""

        def deeper(levels: int, event: Any) -> Any:
            return deeper(levels - 1, event) if levels else self.dispatcher.fire_event(event)

        async def handler(event: Any) -> Any:
            return await deeper(levels, event)

        for levels in range(40, 60):
            self.use()
            self.add(lambda event, levels=levels: deeper(levels, event), user="function")
            self.add(handler)
            self.start()
            self.start(user="function")
            self.flush(RecursionError)
            self.assert_idle()
            self.assertIsNone(self.successResultOf(self.dispatcher.stop()))


class HostileType(type):
    """A class that cannot be looked up."""

    def __hash__(cls) -> int:
        """Refuse."""
        raise ZeroDivisionError


class HostileTests(RunningCase):
    """What raises where no handler is being called."""

    def check(self) -> None:
        """Assert that an event fails, and those behind it are called."""

        class Hostile(metaclass=HostileType):
            pass

        def handler(event: Any) -> Any:
            queued.append(self.start("queued", user="queued"))
            return Hostile()

        queued: list[Deferred[Any]] = []
        self.add(handler, user="hostile")
        self.note(user="queued")
        self.failing(self.start("hostile", user="hostile"), ZeroDivisionError)
        self.successResultOf(queued[0])
        self.assertEqual(self.heard, ["queued"])
        self.assertIsNone(self.successResultOf(self.dispatcher.stop()))

    def test_one_phase(self) -> None:
        """An event of one phase ends."""
        self.check()

    def test_more_phases(self) -> None:
        """An event of more phases ends."""
        self.add(lambda event: None, "after", user="hostile")
        self.check()

    def test_phase_with_a_limit(self) -> None:
        """An event with something to watch over ends."""
        self.use(phases=[Phase("during", timeout=5)])
        self.check()

    def test_after_a_wait(self) -> None:
        """An event that had to wait ends."""
        gate: Deferred[None] = Deferred()
        self.add(lambda event: gate, user="hostile")
        self.add(lambda event: None, "after", user="hostile")
        self.patch(EventRun, "_enter_next_phase", lambda run: 1 // 0 if run.phase else real(run))
        done = self.start(user="hostile")
        queued = self.start(user="queued")
        gate.callback(None)
        self.failing(done, ZeroDivisionError)
        self.assertTrue(self.successResultOf(queued).dispatched)


real = EventRun._enter_next_phase


class ChangeTests(RunningCase):
    """A handler may add and remove handlers, and wait for it."""

    def test_add_and_remove_and_wait(self) -> None:
        """No deadlock; a handler that is added hears the next event."""

        async def handler(event: Any) -> None:
            handler_id = await self.dispatcher.add_event_handler(
                self.heard.append, "after", use_weakref=False
            )
            await self.dispatcher.fire_event("inner", user="inner")
            await self.dispatcher.remove_event_handler(handler_id)

        self.add(handler, user="outer")
        self.fire("outer", user="outer")
        self.assertEqual(self.heard, ["inner"])

    def test_removed_by_an_earlier_handler(self) -> None:
        """A handler that is removed by one before it in its phase is not called."""
        self.add(lambda event: self.remove(removed))
        removed = self.hear("removed")
        self.hear("kept")
        result = self.fire()
        self.assertEqual(self.heard, ["kept"])
        self.assertEqual([o.handler_id for o in result], [1, 3])

    def test_removed_by_a_nested_event(self) -> None:
        """So it is when a handler of a nested event removes it."""

        def handler(event: Any) -> None:
            self.dispatcher.fire_event("inner", user="inner")

        self.add(handler, role="outer")
        removed = self.hear("removed", role="outer")
        self.add(lambda event: self.remove(removed), user="inner")
        self.assertEqual(len(self.fire(role="outer")), 1)
        self.assertEqual(self.heard, [])


class BackgroundTests(RunningCase):
    """A background coroutine that outlives its event is not nested in it any more."""

    def background(self, gate: Deferred[None], **details: Any) -> None:
        """Let a handler start a coroutine that fires later, and not wait for it."""

        async def later() -> None:
            await gate
            await self.dispatcher.fire_event("late", **details)

        def handler(event: Any) -> None:
            Deferred.fromCoroutine(later())

        self.add(handler, user="outer")

    def test_is_queued(self) -> None:
        """What it fires later is a top-level event with a place in the queue."""
        gate: Deferred[None] = Deferred()
        self.background(gate)
        gates = self.wait("gate", role="holds")
        self.fire(user="outer")
        self.start("holds", role="holds")
        gate.callback(None)
        self.assertEqual(self.states(), [("holds", "running"), ("late", "queued")])
        gates[0].callback(None)

    def test_is_nested_while_its_event_runs(self) -> None:
        """While its event runs, it is inside."""
        gate: Deferred[None] = Deferred()
        self.background(gate, role="late")
        gates = self.wait("gate", user="outer")
        late = self.wait("late", role="late")
        self.start(user="outer")
        gate.callback(None)
        self.assertEqual(self.states(), [("event", "running"), ("late", "nested")])
        gates[0].callback(None)
        late[0].callback(None)

    def test_is_inside_the_outer_event_still(self) -> None:
        """Started by a nested event that has ended, it is inside the outer one that runs."""
        gate: Deferred[None] = Deferred()
        self.background(gate)

        async def handler(event: Any) -> None:
            await self.dispatcher.fire_event("middle", user="outer")
            await hold

        hold: Deferred[None] = Deferred()
        late = self.wait("late", "after")
        self.add(handler, "before", role="outermost")
        done = self.start("outermost", role="outermost")
        late.pop().callback(None)
        gate.callback(None)
        self.assertEqual(self.states(), [("outermost", "running"), ("late", "nested")])
        late.pop().callback(None)
        hold.callback(None)
        late.pop().callback(None)
        self.successResultOf(done)

    def test_keeps_no_event_alive(self) -> None:
        """The event dies although the coroutine, and its context, live on."""

        class Event:
            pass

        gate: Deferred[None] = Deferred()
        self.background(gate)
        waits = self.wait("gate", role="waits")
        for details in ({}, {"role": "waits"}):
            event = Event()
            dies = weakref.ref(event)
            done = self.start(event, user="outer", **details)
            if waits:
                waits[0].callback(None)
            self.successResultOf(done)
            self.heard.clear()
            del event, done
            gc.collect()
            self.assertIsNone(dies())
        gate.callback(None)


class InsideTests(RunningCase):
    """``with dispatcher.inside(event)`` marks what a plain callback fires as nested."""

    def test_marks(self) -> None:
        """Within the block fires are nested; after it they are not."""
        gates = self.wait()
        event = object()
        done = self.start(event)
        with self.dispatcher.inside(event):
            self.dispatcher.fire_event("nested")
        self.dispatcher.fire_event("queued")
        self.assertEqual(
            self.states(), [(event, "running"), ("nested", "nested"), ("queued", "queued")]
        )
        for gate in gates:
            gate.callback(None)
        self.successResultOf(done)

    def test_chain_waits_for_it(self) -> None:
        """A callback chain may wait for what it fires inside: no cycle."""
        gate: Deferred[None] = Deferred()

        def more(event: Any) -> Deferred[Any]:
            with self.dispatcher.inside(event):
                return self.dispatcher.fire_event("inner", user="inner")

        self.add(lambda event: gate.addCallback(lambda _: more(event)), user="outer")
        self.note(user="inner")
        done = self.start(user="outer")
        gate.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["inner"])

    def test_while_being_called(self) -> None:
        """An event that never has to wait may be named while its handlers are called."""

        def handler(event: Any) -> None:
            with self.dispatcher.inside(event):
                self.heard.extend(state for _, state in self.states())

        self.add(handler)
        self.fire()
        self.assertEqual(self.heard, ["running"])

    def test_unknown_event(self) -> None:
        """An event that does not run, or only equals one that does, is refused."""
        gates = self.wait()
        self.start([1])
        with self.assertRaises(LookupError), self.dispatcher.inside([1]):
            self.fail("not reached")
        gates[0].callback(None)
        self.assertIsNone(current_frame.get())

    def test_ends_with_an_error(self) -> None:
        """The mark goes when the block raises."""
        gates = self.wait()
        done = self.start("event")
        with self.assertRaises(ZeroDivisionError), self.dispatcher.inside("event"):
            raise ZeroDivisionError
        self.assertIsNone(current_frame.get())
        gates[0].callback(None)
        self.successResultOf(done)


class ResultSoFarTests(RunningCase):
    """``result_so_far()`` shows a handler what was done before it."""

    def test_gives_earlier_phases(self) -> None:
        """A handler sees the outcomes of the phases before, those of its event only."""
        self.add(lambda event: "first", "before")
        gates = self.wait("gate")
        seen: list[Any] = []
        self.add(lambda event: seen.append(self.dispatcher.result_so_far()), "after")
        done = self.start("event")
        gates[0].callback("second")
        self.assertEqual([(r.event, r.values[:2]) for r in seen], [("event", ("first", "second"))])
        self.successResultOf(done)

    def test_is_a_copy(self) -> None:
        """What was given does not change when the event goes on."""
        seen: list[Any] = []
        self.add(lambda event: "first", "before")
        self.add(lambda event: seen.append(self.dispatcher.result_so_far()))
        self.add(lambda event: "last", "after")
        self.fire()
        self.assertEqual(seen[0].values, ("first",))

    def test_outside(self) -> None:
        """Where no event of this dispatcher is handled, there is none."""
        other = self.make()
        self.assertRaises(LookupError, self.dispatcher.result_so_far)
        self.add(lambda event: self.assertRaises(LookupError, other.result_so_far) and None)
        self.assertEqual(self.fire().failures, ())
