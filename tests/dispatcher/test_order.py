"""The order between top-level events, and the bounds of the queues."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed

from oni.errors import (
    QueueFullError,
    UnhashableDetailError,
    UnknownKeywordError,
)
from oni.twisted_event_dispatcher import EventDispatcher, Phase
from tests.dispatcher.running import RunningCase

TRAILING = ("before", "during", Phase("after", holds_turn=False))


class OneAtATimeTests(RunningCase):
    """By default one top-level event runs at a time, first in first out."""

    def test_first_in_first_out(self) -> None:
        """Each event starts when the one before has ended its last phase."""
        gates = self.wait("gate", "after")
        self.note("before")
        done = [self.start(number) for number in range(3)]
        for number in range(3):
            self.assertEqual(self.heard, [x for n in range(number + 1) for x in (n, "gate")])
            gates[number].callback(None)
            self.successResultOf(done[number])

    def test_waits_whatever_the_details(self) -> None:
        """Details make no difference."""
        gates = self.wait()
        self.start("bob's", user="bob")
        self.start("eve's", user="eve")
        self.assertEqual(self.heard, ["bob's"])
        gates[0].callback(None)
        gates[1].callback(None)
        self.assertEqual(self.heard, ["bob's", "eve's"])

    def test_waits_without_handlers(self) -> None:
        """An event that nobody wants waits for its turn too."""
        gates = self.wait(user="bob")
        self.start("bob's", user="bob")
        other = self.start("eve's", user="eve")
        self.assertNoResult(other)
        gates[0].callback(None)
        self.assertEqual(self.successResultOf(other).outcomes, ())

    def test_fires_while_a_synchronous_handler_is_called(self) -> None:
        """A top-level fire from within a handler's call waits for the event's end."""
        self.note("after")
        self.add(lambda event: self.start("second") and None, times=1)
        self.fire("first")
        self.assertEqual(self.heard, ["first", "second"])

    def test_unknown_keyword_is_found_before_the_queue(self) -> None:
        """Details that are not allowed fail at once, not when the turn comes."""
        gates = self.wait()
        self.start()
        self.failing(self.start(colour="red"), UnknownKeywordError)
        gates[0].callback(None)
        self.failing(self.start(colour="red"), UnknownKeywordError)

    def test_keyword_removed_while_queued(self) -> None:
        """An event whose keyword was removed meanwhile fails, and its callbacks are not nested."""
        gates = self.wait()
        self.start("first")
        refused = self.start("second", role="admin")
        third = self.start("third")
        self.dispatcher.remove_match_spec_keyword("role")
        seen: list[Any] = []

        def fire_more(failure: Any) -> None:
            failure.trap(UnknownKeywordError)
            self.dispatcher.fire_event("more")
            seen.extend(self.states())

        refused.addErrback(fire_more)
        gates[0].callback(None)
        self.assertEqual(seen, [("third", "queued"), ("more", "queued")])
        gates[1].callback(None)
        self.successResultOf(third)
        gates[2].callback(None)

    def test_handler_removed_while_queued(self) -> None:
        """A queued event calls the handlers that are there when its turn comes."""
        gates = self.wait("gate")
        removed = self.hear("removed")
        self.start("first")
        self.start("second")
        self.remove(removed)
        self.hear("added")
        gates[0].callback(None)
        gates[1].callback(None)
        self.assertEqual(self.heard, ["gate", "removed", "gate", "added"])

    def test_long_queue_drains_without_recursion(self) -> None:
        """Ten thousand synchronous events drain in one go, in order."""
        gates = self.wait("gate", times=1)
        self.note("after")
        self.start(0)
        done = [self.start(number) for number in range(1, 10_001)]
        deepest = sys.getrecursionlimit()
        self.assertLess(deepest, 10_000)
        gates[0].callback(None)
        self.assertEqual(self.heard, ["gate", *range(10_001)])
        for deferred in done:
            self.successResultOf(deferred)

    def test_long_queue_of_fired_deferreds(self) -> None:
        """So do events whose handlers return Deferreds that have fired."""
        gates = self.wait("gate", times=1)
        self.add(lambda event: succeed(None))
        self.start()
        done = [self.start() for _ in range(2_000)]
        gates[0].callback(None)
        self.successResultOf(done[-1])


class AllAtOnceTests(RunningCase):
    """order_by=None: all events at once."""

    def test_no_order(self) -> None:
        """Events start at once and end in any order."""
        self.use(order_by=None)
        gates = self.wait()
        done = [self.start(number) for number in range(3)]
        self.assertEqual(self.heard, [0, 1, 2])
        for number in (2, 0, 1):
            gates[number].callback(None)
            self.successResultOf(done[number])

    def test_no_queue_no_bound(self) -> None:
        """Nobody waits for a turn, so no bound is reached."""
        self.use(order_by=None, max_pending=1)
        gates = self.wait()
        done = [self.start(number) for number in range(5)]
        self.assertNotIn("queued", dict(self.states()).values())
        for number in range(5):
            gates[number].callback(None)
            self.successResultOf(done[number])


class ByKeywordTests(RunningCase):
    """order_by keywords: events with equal details in these one at a time."""

    def setUp(self) -> None:
        """Order by user."""
        super().setUp()
        self.use(order_by=("user",))

    def test_equal_details_wait(self) -> None:
        """Only events of the same user wait for each other."""
        gates = self.wait()
        self.start("bob 1", user="bob")
        self.start("eve 1", user="eve")
        self.start("bob 2", user="bob", role="admin")
        self.assertEqual(self.heard, ["bob 1", "eve 1"])
        gates[0].callback(None)
        self.assertEqual(self.heard, ["bob 1", "eve 1", "bob 2"])
        for gate in gates[1:]:
            gate.callback(None)

    def test_without_the_detail(self) -> None:
        """Events without that detail are ordered among each other."""
        gates = self.wait()
        self.start("one")
        self.start("two", role="admin")
        self.start("bob", user="bob")
        self.assertEqual(self.heard, ["one", "bob"])
        gates[0].callback(None)
        self.assertEqual(self.heard, ["one", "bob", "two"])
        for gate in gates[1:]:
            gate.callback(None)

    def test_unhashable_detail_is_refused(self) -> None:
        """A detail that events are ordered by has to be hashable; others need not be."""
        self.note()
        error = self.failing(self.start(user=["bob"]), UnhashableDetailError)
        self.assertEqual(error.keyword, "user")
        self.fire("event", role=["admin"])
        self.assertEqual(self.heard, ["event"])

    def test_failing_fires_leave_nothing(self) -> None:
        """Neither an unknown keyword nor an event that nobody wants leaves a lane."""
        self.note(role="admin")
        self.failing(self.start(user="bob", colour="red"), UnknownKeywordError)
        self.fire(user="bob")
        self.fire(user="bob", role="admin")
        self.assert_idle()

    def test_order_by_must_be_allowed(self) -> None:
        """order_by names allowed keywords, and these cannot be removed."""
        with self.assertRaises(UnknownKeywordError):
            EventDispatcher(("user",), order_by=("colour",))

    def test_many_lanes(self) -> None:
        """Each of a thousand users has a lane of its own, which goes when it is idle."""
        gates = self.wait()
        done = [self.start((n, user), user=user) for n in range(2) for user in range(1_000)]
        self.assertEqual(len(self.heard), 1_000)
        for gate in gates:  # it grows
            gate.callback(None)
        for deferred in done:
            self.successResultOf(deferred)


class BoundTests(RunningCase):
    """max_pending and max_pending_per_key bound the queue and say so."""

    def test_max_pending(self) -> None:
        """One more than max_pending fails; the others are unharmed."""
        self.use(max_pending=2)
        gates = self.wait()
        done = [self.start(number) for number in range(3)]
        error = self.failing(self.start("too many"), QueueFullError)
        self.assertEqual(error.limit, 2)
        self.assertIn("max_pending", str(error))
        for number in range(3):
            gates[number].callback(None)
            self.successResultOf(done[number])
        self.assertEqual(self.heard, [0, 1, 2])

    def test_room_again(self) -> None:
        """When the queue has drained it takes events again."""
        self.use(max_pending=1)
        gates = self.wait()
        self.start("running")
        cancelled = self.start("queued")
        self.failing(self.start("too many"), QueueFullError)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        last = self.start("takes its place")
        gates[0].callback(None)
        gates[1].callback(None)
        self.successResultOf(last)

    def test_default(self) -> None:
        """Ten thousand may wait if nothing is said."""
        gates = self.wait("gate", times=1)
        self.start()
        for _ in range(10_000):
            self.start()
        error = self.failing(self.start(), QueueFullError)
        self.assertEqual(error.limit, 10_000)
        gates[0].callback(None)

    def test_none_by_choice(self) -> None:
        """None is no bound."""
        self.use(max_pending=None)
        gates = self.wait("gate", times=1)
        self.start()
        done = [self.start() for _ in range(10_001)]
        self.assertNoResult(done[-1])
        gates[0].callback(None)
        self.successResultOf(done[-1])

    def test_max_pending_per_key(self) -> None:
        """Behind one event only so many may wait; the error says behind which."""
        self.use(order_by=("user",), max_pending_per_key=1)
        gates = self.wait()
        for user in ("bob", "eve"):
            self.start(user, user=user)
            self.start(user, user=user)
        error = self.failing(self.start(user="eve"), QueueFullError)
        self.assertIn("user='eve'", str(error))
        for gate in gates:
            gate.callback(None)

    def test_nested_events_take_no_place(self) -> None:
        """A nested event is never refused for a full queue."""
        self.use(max_pending=1)
        gates = self.wait(user="waits")
        inner: list[Deferred[Any]] = []
        self.add(lambda event: inner.append(self.dispatcher.fire_event("inner")), role="outer")
        self.start("running", user="waits", role="outer")
        self.start("queued")
        self.successResultOf(inner[0])
        gates[0].callback(None)

    def test_bad_bounds(self) -> None:
        """A bound is a positive integer or None."""
        for bad in (0, -1, 1.5, True, "10"):
            with self.assertRaises(ValueError):
                EventDispatcher(max_pending=bad)  # type: ignore[arg-type]
            with self.assertRaises(ValueError):
                EventDispatcher(max_pending_per_key=bad)  # type: ignore[arg-type]


class GivenAwayTests(RunningCase):
    """From the first phase that does not hold the turn, the next event may start."""

    def test_next_event_starts(self) -> None:
        """The next event starts although the one before is still in that phase."""
        self.use(phases=TRAILING)
        self.note("before")
        gates = self.wait("after", "after")
        first, second = self.start(1), self.start(2)
        self.assertEqual(self.heard, [1, "after", 2, "after"])
        self.assertEqual(self.states(), [(1, "running"), (2, "running")])
        self.assertNoResult(first)
        gates[1].callback(None)
        self.successResultOf(second)
        gates[0].callback(None)
        self.successResultOf(first)

    def test_queued_event_starts(self) -> None:
        """An event that was queued starts when the turn is given away, not before."""
        self.use(phases=TRAILING)
        during, after = self.wait("during"), self.wait("after", "after")
        self.start(1)
        self.start(2)
        self.assertEqual(self.heard, ["during"])
        during[0].callback(None)
        self.assertEqual(self.heard, ["during", "after", "during"])
        during[1].callback(None)
        for gate in after:
            gate.callback(None)

    def test_sequential_phase(self) -> None:
        """A sequential phase may give the turn away too."""
        self.use(phases=["before", Phase("after", holds_turn=False, concurrent=False)])
        self.note("before")
        one, two = self.wait("one", "after"), self.wait("two", "after")
        self.start(1)
        self.start(2)
        self.assertEqual(self.heard, [1, "one", 2, "one"])
        for gate in one + two:
            gate.callback(None)
        for gate in two:
            gate.callback(None)

    def test_later_phases_do_not_take_it_back(self) -> None:
        """Once given away, the turn is gone, whatever later phases say."""
        self.use(phases=["during", Phase("audit", holds_turn=False), "after"])
        self.hear("audit", "audit")
        gates = self.wait("after", "after")
        self.start(1)
        self.start(2)
        self.assertEqual(self.heard, ["audit", "after", "audit", "after"])
        for gate in gates:
            gate.callback(None)

    def test_bound(self) -> None:
        """Beyond max_pending of events that go on so, the turn is held."""
        self.use(phases=TRAILING, max_pending=2)
        gates = self.wait(phase="after")
        for number in range(4):
            self.start(number)
        self.assertEqual(self.heard, [0, 1, 2])
        self.assertEqual(self.states()[-1], (3, "queued"))
        gates[0].callback(None)  # it holds no turn: that lets nobody in
        self.assertEqual(self.heard, [0, 1, 2])
        gates[2].callback(None)
        self.assertEqual(self.heard, [0, 1, 2, 3])
        gates[1].callback(None)
        gates[3].callback(None)

    def test_nested_event(self) -> None:
        """A nested event has no turn to give away."""
        self.use(phases=TRAILING)
        gates = self.wait(phase="after", user="inner")
        outer = self.wait("outer", user="outer")
        self.add(lambda event: self.dispatcher.fire_event("in", user="inner"), user="outer")
        first = self.start("out", user="outer")
        second = self.start("second")
        self.assertNoResult(second)
        gates[0].callback(None)
        outer[0].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_long_queue_without_recursion(self) -> None:
        """Thousands of queued events that all give their turn away start without recursion."""
        self.use(phases=TRAILING)
        gates = self.wait("gate", times=1)
        late = self.wait("late", "after")
        done = [self.start(number) for number in range(3_000)]
        gates[0].callback(None)
        self.assertEqual(len(late), 3_000)
        for gate in late:
            gate.callback(None)
        self.successResultOf(done[-1])

    def test_by_keyword(self) -> None:
        """Lanes by details are given away too, and leave nothing behind."""
        self.use(phases=TRAILING, order_by=("user",))
        gates = self.wait(phase="after")
        self.start(1, user="bob")
        self.assertEqual(self.dispatcher._engine.turns._lanes, {})
        self.start(2, user="bob")
        self.assertEqual(self.heard, [1, 2])
        for gate in gates:
            gate.callback(None)


class ShortWayTests(RunningCase):
    """While nothing waits, an event goes the short way; see the benchmark."""

    def test_idle_dispatcher_admits_without_a_look(self) -> None:
        """After waits, cancels and queues an idle dispatcher takes the short way again."""
        gates = self.wait(times=2)
        self.start("one")
        cancelled = self.start("two")
        cancelled.cancel()
        self.failureResultOf(cancelled)
        gates[0].callback(None)
        with mock.patch.object(self.dispatcher._engine, "admit") as admit:
            self.note()
            self.start("three")
        admit.assert_not_called()
        gates[1].callback(None)

    def test_cancelled_in_a_call(self) -> None:
        """So does one whose only queued event was cancelled while a handler was being called."""

        def handler(event: Any) -> None:
            queued = self.start("queued")
            queued.cancel()
            self.failureResultOf(queued)

        self.add(handler)
        self.fire()
        self.assert_idle()


class Hostile:
    """A detail that cannot be hashed, and says so in its own way."""

    def __hash__(self) -> int:
        """Refuse."""
        raise RuntimeError("not hashable, really")


class HostileTests(RunningCase):
    """Details that raise on their own."""

    def test_detail_that_cannot_be_ordered_by(self) -> None:
        """It is named through the Deferred, with what it raised, and leaves nothing behind."""
        self.use(order_by=("user",))
        self.note()
        error = self.failing(self.start(user=Hostile()), UnhashableDetailError)
        self.assertEqual(str(error.__cause__), "not hashable, really")
        self.fire("next", user="bob")
        self.assertEqual(self.heard, ["next"])
