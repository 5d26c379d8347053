"""What ``pending()`` shows of the events that have not ended."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.running import RunningCase


class PendingTests(RunningCase):
    """Each event with its state, its phase, its age and what it waits for."""

    def test_nothing(self) -> None:
        """Nothing is pending before the first event and after the last."""
        self.assertEqual(self.dispatcher.pending(), [])
        self.note()
        self.fire()
        self.assertEqual(self.dispatcher.pending(), [])

    def test_running(self) -> None:
        """A running event shows its details, its phase and the handlers it waits for."""
        before, during = self.wait("before", "before"), self.wait("during")
        self.wait("other", "before")[:] = []
        done = self.start("event", user="bob")
        [pending] = self.dispatcher.pending()
        self.assertEqual((pending.event, pending.details), ("event", {"user": "bob"}))
        self.assertEqual((pending.state, pending.phase), ("running", "before"))
        self.assertEqual(len(pending.waits_for), 2)
        self.assertIn("RunningCase.wait.<locals>.handler", pending.waits_for[0])
        before[0].callback(None)
        self.assertEqual(len(self.dispatcher.pending()[0].waits_for), 1)
        done.cancel()
        self.failureResultOf(done)
        self.assertEqual(during, [])

    def test_later_phase(self) -> None:
        """The phase is the one it is in now."""
        gates = self.wait("gate")
        self.use(phases=[Phase("one by one", concurrent=False)])
        gates = self.wait("first", "one by one")
        self.start()
        self.assertEqual(self.dispatcher.pending()[0].phase, "one by one")
        gates[0].callback(None)

    def test_queued(self) -> None:
        """A queued event names the event ahead, and no phase."""
        gates = self.wait()
        self.start("first")
        self.start("second")
        first, second = self.dispatcher.pending()
        self.assertEqual((second.state, second.phase), ("queued", ""))
        self.assertRegex(second.waits_for[0], r"^event \d+ \(str\)$")
        self.assertIn("'second' (queued, waits for event", str(second))
        self.assertIn("'first' (running in phase 'during', waits for", str(first))
        gates[0].callback(None)
        gates[1].callback(None)

    def test_age(self) -> None:
        """The age counts from the fire of a queued event, and from the first wait of others."""
        gates = self.wait()
        self.start("first")
        self.clock.advance(3)
        self.start("second")
        self.clock.advance(4)
        self.assertEqual([p.age for p in self.dispatcher.pending()], [7, 4])
        gates[0].callback(None)
        self.assertEqual([p.age for p in self.dispatcher.pending()], [4])
        gates[1].callback(None)

    def test_being_called(self) -> None:
        """An event that is being called right now is listed too, without an age."""
        seen: list[Any] = []
        self.add(lambda event: seen.extend(self.dispatcher.pending()))
        self.fire("event", user="bob")
        [pending] = seen
        self.assertEqual((pending.event, pending.details), ("event", {"user": "bob"}))
        self.assertEqual((pending.state, pending.age, pending.waits_for), ("running", None, ()))

    def test_nested(self) -> None:
        """Nested events follow the one that they are nested in."""
        gates = self.wait("inner", user="inner")

        async def handler(event: Any) -> None:
            await self.dispatcher.fire_event("inner", user="inner")

        self.add(handler, user="outer")
        self.start("outer", user="outer")
        self.assertEqual(self.states(), [("outer", "running"), ("inner", "nested")])
        gates[0].callback(None)

    def test_oldest_first(self) -> None:
        """Queued and running events of all lanes are given oldest first."""
        self.use(order_by=("user",))
        gates = self.wait()
        for event, user in (("a", 1), ("b", 1), ("c", 2), ("d", 1), ("e", 2)):
            self.start(event, user=user)
            self.clock.advance(0.01)
        self.assertEqual([event for event, _ in self.states()], ["a", "b", "c", "d", "e"])
        for gate in gates:
            gate.callback(None)

    def test_cancelled_and_cleaning(self) -> None:
        """A cancelled event is listed until its last phase has ended."""
        self.use(phases=["during", Phase("always", always=True)])
        self.wait()
        gates = self.wait("cleans", "always")
        done = self.start()
        done.cancel()
        self.failureResultOf(done)
        [pending] = self.dispatcher.pending()
        self.assertEqual((pending.state, pending.phase), ("running", "always"))
        gates[0].callback(None)

    def test_is_a_copy(self) -> None:
        """What was given does not change with the event."""
        gates = self.wait("gate", "before")
        after: list[Deferred[Any]] = self.wait("after", "after")
        self.start()
        [pending] = self.dispatcher.pending()
        gates[0].callback(None)
        self.assertEqual(pending.phase, "before")
        after[0].callback(None)
