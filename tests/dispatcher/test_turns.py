"""Lanes and the bounds of queues, by themselves."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher._turns import Lane, Turns
from oni.errors import QueueFullError, UnhashableDetailError


class LaneTests(SynchronousTestCase):
    """Which lane an event waits in."""

    def lane(self, turns: Turns, **details: Any) -> Lane:
        """Give an event's lane."""
        lane = turns.lane(details)
        assert lane is not None
        return lane

    def test_one_for_all(self) -> None:
        """Without keywords there is one lane."""
        turns = Turns((), None, None)
        self.assertIs(turns.lane({"user": "bob"}), turns.lane({"user": "eve"}))

    def test_none(self) -> None:
        """None is no order: no lanes."""
        self.assertIsNone(Turns(None, None, None).lane({"user": "bob"}))

    def test_by_details(self) -> None:
        """Equal details share a lane; what is not there counts as None."""
        turns = Turns(("user", "role"), None, None)
        bob = self.lane(turns, user="bob", role=1)
        self.assertIs(bob, self.lane(turns, role=1.0, user="bob", other=2))
        self.assertIsNot(bob, self.lane(turns, user="bob"))
        self.assertIs(self.lane(turns), self.lane(turns, user=None, role=None))

    def test_unhashable(self) -> None:
        """A detail that cannot be ordered by is named."""
        turns = Turns(("user", "role"), None, None)
        with self.assertRaises(UnhashableDetailError) as caught:
            turns.lane({"user": "bob", "role": ["admin"]})
        self.assertEqual(caught.exception.keyword, "role")
        self.assertIsInstance(caught.exception, TypeError)

    def test_hash_that_raises(self) -> None:
        """So is one whose hash raises, whatever it raises."""

        class Hostile:
            def __hash__(self) -> int:
                raise ZeroDivisionError

        with self.assertRaises(UnhashableDetailError) as caught:
            Turns(("user", "role"), None, None).lane({"role": Hostile()})
        self.assertEqual(caught.exception.keyword, "role")
        self.assertIsInstance(caught.exception.__cause__, ZeroDivisionError)

    def test_comparison_that_raises(self) -> None:
        """Its own error comes out of a detail that cannot be compared with another."""

        class Hostile:
            def __hash__(self) -> int:
                return 1

            def __eq__(self, other: object) -> bool:
                raise TypeError("not with me")

        turns = Turns(("user",), None, None)
        self.lane(turns, user=Hostile()).active = "somebody"
        with self.assertRaisesRegex(TypeError, "not with me"):
            turns.lane({"user": Hostile()})

    def test_empty_lanes_are_forgotten(self) -> None:
        """A lane is kept while somebody has its turn, waits or is being started."""
        turns = Turns(("user",), None, None)
        lane = self.lane(turns, user="bob")
        lane.active = object()
        turns.leave(lane)
        self.assertIs(self.lane(turns, user="bob"), lane)
        lane.active = None
        turns.put(lane, "run")
        turns.leave(lane)
        self.assertIs(self.lane(turns, user="bob"), lane)
        self.assertEqual(turns.take(lane), "run")
        lane.draining = True
        turns.leave(lane)
        self.assertIs(self.lane(turns, user="bob"), lane)
        lane.draining = False
        turns.leave(lane)
        self.assertIsNot(self.lane(turns, user="bob"), lane)


class QueueTests(SynchronousTestCase):
    """The queues of the lanes."""

    def setUp(self) -> None:
        """Make two lanes with bounds."""
        self.turns = Turns(("user",), 3, 2)
        self.bob = self.turns.lane({"user": "bob"})
        self.eve = self.turns.lane({"user": "eve"})

    def put(self, lane: Any, *runs: str) -> None:
        """Queue some."""
        for run in runs:
            self.turns.put(lane, run)

    def test_first_in_first_out(self) -> None:
        """The oldest goes first."""
        self.put(self.bob, "one", "two")
        self.assertEqual([self.turns.take(self.bob), self.turns.take(self.bob)], ["one", "two"])

    def test_bound_of_one_lane(self) -> None:
        """max_pending_per_key bounds each lane, and its error names the details."""
        self.put(self.bob, "one", "two")
        with self.assertRaises(QueueFullError) as caught:
            self.put(self.bob, "three")
        self.assertIn("user='bob'", str(caught.exception))
        self.assertIn("max_pending_per_key", str(caught.exception))
        self.assertEqual(caught.exception.limit, 2)
        self.put(self.eve, "three")

    def test_bound_of_all(self) -> None:
        """max_pending bounds all lanes together."""
        self.put(self.bob, "one", "two")
        self.put(self.eve, "three")
        with self.assertRaises(QueueFullError) as caught:
            self.put(self.eve, "four")
        self.assertIn("max_pending)", str(caught.exception))
        self.assertEqual((caught.exception.limit, self.turns.waiting), (3, 3))

    def test_room_again(self) -> None:
        """Who leaves the queue makes room, from wherever it stood, and only once."""
        self.put(self.bob, "one", "two")
        for _ in range(2):
            self.turns.discard(self.bob, "one")  # type: ignore[arg-type]
        self.assertEqual(self.turns.waiting, 1)
        self.put(self.bob, "three")
        self.assertEqual(self.turns.take(self.bob), "two")

    def test_crowded(self) -> None:
        """Only lanes in which somebody waits are given."""
        self.put(self.eve, "one")
        self.assertEqual(list(self.turns.crowded()), [self.eve])
