"""An event's way from phase to phase, and the context it runs in."""

from __future__ import annotations

import gc
import weakref
from contextvars import Context, ContextVar, copy_context
from typing import Any

from twisted.internet.defer import Deferred

from oni.twisted_event_dispatcher import EventResult, Phase
from tests.dispatcher.running import RunningCase

colour: ContextVar[str] = ContextVar("colour", default="none")


class PhasesTests(RunningCase):
    """Phases run in order; the next one starts when all handlers of this one have ended."""

    def test_in_order_of_the_phases(self) -> None:
        """The order of the phases counts, not that of registration."""
        for phase in ("after", "before", "during"):
            self.hear(phase, phase)
        self.fire()
        self.assertEqual(self.heard, ["before", "during", "after"])

    def test_next_phase_waits_for_every_deferred(self) -> None:
        """A phase starts when the last Deferred of the one before has fired."""
        one, two = self.wait("one", "before"), self.wait("two", "before")
        three = self.wait("three")
        self.hear("four", "after")
        done = self.start()
        one[0].callback(None)
        self.assertEqual(self.heard, ["one", "two"])
        two[0].callback(None)
        self.assertEqual(self.heard, ["one", "two", "three"])
        three[0].callback(None)
        self.assertEqual(self.heard, ["one", "two", "three", "four"])
        self.successResultOf(done)

    def test_next_phase_waits_for_coroutines(self) -> None:
        """A coroutine is waited for to its end, over all its awaits."""
        gates: list[Deferred[None]] = [Deferred(), Deferred()]

        async def handler(event: Any) -> str:
            for gate in gates:
                await gate
            return "ended"

        self.add(handler, "before")
        self.hear("during")
        done = self.start()
        gates[0].callback(None)
        self.assertEqual(self.heard, [])
        gates[1].callback(None)
        self.assertEqual(self.heard, ["during"])
        self.assertEqual(self.successResultOf(done).values, ("ended", None))

    def test_any_number_of_phases(self) -> None:
        """A dispatcher may have one phase, or many."""
        names = [f"phase{number}" for number in range(50)]
        self.use(phases=names)
        for name in reversed(names):
            self.hear(name, name)
        self.fire()
        self.assertEqual(self.heard, names)

    def test_result_holds_all_phases(self) -> None:
        """The result has the event, its details, and each outcome with its phase."""
        self.add(lambda event: "b", "before")
        gates = self.wait("d")
        self.add(lambda event: "a", "after")
        done = self.start("event", user="bob")
        gates[0].callback("d")
        result: EventResult = self.successResultOf(done)
        self.assertEqual((result.event, result.details), ("event", {"user": "bob"}))
        self.assertEqual(
            [(o.handler_id, o.phase, o.value) for o in result],
            [(1, "before", "b"), (2, "during", "d"), (3, "after", "a")],
        )
        self.assertTrue(result.dispatched)

    def test_changes_do_not_reach_a_running_event(self) -> None:
        """A running event keeps its phases and handlers; only removals are heeded at once."""
        gates = self.wait("gate", "before")
        removed = self.hear("removed")
        self.hear("kept")
        done = self.start()
        self.hear("added")
        self.remove(removed)
        self.dispatcher.add_phase("between", after="before")
        self.hear("between", "between")
        gates[0].callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["gate", "kept"])
        self.heard.clear()
        self.start()
        gates[1].callback(None)
        self.assertEqual(self.heard, ["gate", "between", "kept", "added"])

    def test_phase_removed_while_an_event_runs(self) -> None:
        """Handlers may be moved out of a phase, and it may be removed, while an event runs."""
        gates = self.wait("gate", "before")
        last = self.hear("last", "after")
        done = self.start()
        self.remove(last)
        self.dispatcher.remove_phase("after")
        gates[0].callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["gate"])

    def test_added_in_an_earlier_phase(self) -> None:
        """A handler that is added for a later phase of a running event hears the next event."""
        self.add(lambda event: self.hear("late", "after"), "before", times=1)
        self.fire()
        self.assertEqual(self.heard, [])
        self.fire()
        self.assertEqual(self.heard, ["late"])


class ContextTests(RunningCase):
    """Later phases and queued events run in the context variables of their fire."""

    def see(self, event: Any) -> None:
        """Note the colour."""
        self.heard.append(colour.get())

    def red(self, call: Any, *args: Any) -> Any:
        """Call something where the colour is red."""

        def run() -> Any:
            colour.set("red")
            return call(*args)

        return Context().run(run)

    def test_later_phases(self) -> None:
        """Phases after a wait see the fire's variables, not those of who ends the wait."""
        gates = self.wait("gate")
        self.add(self.see, "after")
        done = self.red(self.dispatcher.fire_event, "event")
        colour.set("blue")
        self.addCleanup(colour.set, "none")
        gates[0].callback(None)
        self.successResultOf(done)
        self.assertEqual(self.heard, ["gate", "red"])

    def test_queued_event(self) -> None:
        """A queued event sees its own fire's variables, in every phase."""
        gates = self.wait("gate")
        self.add(self.see, "after")
        self.start("first")
        second = self.red(self.dispatcher.fire_event, "second")
        gates[0].callback(None)
        gates[1].callback(None)
        self.successResultOf(second)
        self.assertEqual(self.heard, ["gate", "none", "gate", "red"])

    def test_after_a_timeout_and_a_cancel(self) -> None:
        """A phase that a timer or a cancellation lets in sees them too."""
        self.use(phases=["during", Phase("after", always=True)])
        self.wait("gate", timeout=1)
        self.add(self.see, "after")
        self.red(self.dispatcher.fire_event, "timed out")
        self.clock.advance(1)
        cancelled = self.red(self.dispatcher.fire_event, "cancelled")
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.assertEqual(self.heard, ["gate", "red", "gate", "red"])
        self.assertEqual(len(self.flush(TimeoutError)), 1)

    def test_coroutines_have_copies(self) -> None:
        """What a coroutine handler sets is seen by nobody else."""

        async def paint(event: Any) -> None:
            colour.set("green")

        self.add(paint)
        self.add(self.see)
        self.red(self.dispatcher.fire_event, "event")
        self.assertEqual(self.heard, ["red"])

    def test_callers_context_stays(self) -> None:
        """After a fire the caller's own variables are as before, its event not nested in any."""
        before = dict(copy_context().items())
        self.wait()
        self.dispatcher.fire_event("waits")
        self.end_all()
        self.assertEqual(dict(copy_context().items()), before)

    def end_all(self) -> None:
        """End whatever runs."""
        self.dispatcher.stop(1)
        self.clock.advance(1)
        self.flush(Exception)


class CallbackTests(RunningCase):
    """What the callbacks of fire_event's Deferred may do: everything."""

    def test_fires_again(self) -> None:
        """A callback may fire the next event, which is a top-level one."""
        gates = self.wait()
        states: list[Any] = []
        again = self.start("first").addCallback(
            lambda _: (self.dispatcher.fire_event("again"), states.extend(self.states()))[0]
        )
        gates[0].callback(None)
        self.assertEqual(states, [("again", "running")])
        gates[1].callback(None)
        self.assertEqual(self.successResultOf(again).event, "again")

    def test_fires_behind_those_that_are_queued(self) -> None:
        """What a callback fires is queued behind what was queued before."""
        gates = self.wait()
        self.start("first").addCallback(lambda _: self.dispatcher.fire_event("third"))
        self.start("second")
        gates[0].callback(None)
        self.assertEqual(self.states(), [("second", "running"), ("third", "queued")])
        gates[1].callback(None)
        gates[2].callback(None)
        self.assertEqual(self.heard, ["first", "second", "third"])

    def test_raises(self) -> None:
        """A callback that raises harms nobody."""
        gates = self.wait()
        first = self.start("first").addCallback(lambda _: 1 / 0)
        second = self.start("second")
        gates[0].callback(None)
        gates[1].callback(None)
        self.successResultOf(second)
        self.failureResultOf(first, ZeroDivisionError)

    def test_stops(self) -> None:
        """A callback may stop the dispatcher; what is queued still runs."""
        gates = self.wait()
        stops: list[Deferred[None]] = []
        self.start("first").addCallback(lambda _: stops.append(self.dispatcher.stop()))
        self.start("second")
        gates[0].callback(None)
        self.assertNoResult(stops[0])
        gates[1].callback(None)
        self.successResultOf(stops[0])

    def test_removes_handlers(self) -> None:
        """A callback may remove handlers; the queued event does not call them."""
        gates = self.wait()
        other = self.hear("other")
        self.start("first").addCallback(lambda _: self.remove(other))
        self.start("second")
        gates[0].callback(None)
        gates[1].callback(None)
        self.assertEqual(self.heard, ["first", "other", "second"])


class GarbageTests(RunningCase):
    """An event that has ended is kept by nobody but the caller's result."""

    def test_ended_event_dies(self) -> None:
        """After its end nothing refers to an event, not even a cycle for the collector."""

        class Event:
            pass

        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        gates = self.wait("gate")
        for _ in range(2):
            event = Event()
            dies = weakref.ref(event)
            done = self.start(event)
            gates.pop().callback(None)
            self.successResultOf(done)
            del event, done
            self.assertIsNone(dies())
