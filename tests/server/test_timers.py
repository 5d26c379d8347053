"""Many timers on one delayed call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server._timers import MAX_CALLS, Timers


class TimersTests(SynchronousTestCase):
    """Tests of :class:`oni.server._timers.Timers`."""

    def setUp(self) -> None:
        """Make some of ten seconds."""
        self.clock = Clock()
        self.timers = Timers(self.clock, 10)
        self.ended: list[int] = []

    def test_order(self) -> None:
        """Each ends after its time, and there is one delayed call for all of them."""
        for number in range(3):
            self.timers.add(lambda number=number: self.ended.append(number))
            self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(6.9)
        self.assertEqual(self.ended, [])
        self.clock.advance(0.2)
        self.assertEqual(self.ended, [0])
        self.clock.pump([1, 1])
        self.assertEqual(self.ended, [0, 1, 2])
        self.assertEqual((len(self.timers), self.clock.getDelayedCalls()), (0, []))

    def test_cancel(self) -> None:
        """A cancelled one does nothing, twice is once, and the last one stops the clock."""
        first = self.timers.add(lambda: self.ended.append(1))
        second = self.timers.add(lambda: self.ended.append(2))
        second.cancel()
        second.cancel()
        self.clock.advance(5)
        third = self.timers.add(lambda: self.ended.append(3))
        first.cancel()
        self.assertTrue(first.is_over)
        self.assertEqual(len(self.timers), 1)
        third.cancel()
        self.assertEqual((len(self.timers), self.clock.getDelayedCalls()), (0, []))
        self.assertEqual(self.ended, [])

    def test_many(self) -> None:
        """No reactor turn ends more than so many."""
        for number in range(2 * MAX_CALLS + 1):
            self.timers.add(lambda number=number: self.ended.append(number))
        turns = []
        later = self.clock.callLater
        self.clock.callLater = lambda *args: turns.append(len(self.ended)) or later(*args)
        self.clock.advance(10)
        self.assertEqual(turns, [MAX_CALLS, 2 * MAX_CALLS])
        self.assertEqual(self.ended, list(range(2 * MAX_CALLS + 1)))

    def test_fault(self) -> None:
        """One that raises does not keep the others from ending."""
        self.timers.add(lambda: 1 / 0)
        self.timers.add(lambda: self.ended.append(1))
        self.assertRaises(ZeroDivisionError, self.clock.advance, 10)
        self.clock.advance(0)
        self.assertEqual(self.ended, [1])

    def test_within(self) -> None:
        """One that begins or cancels others while it ends changes nothing for the rest."""

        def again() -> None:
            self.ended.append(1)
            other.cancel()
            self.timers.add(lambda: self.ended.append(3))

        self.timers.add(again)
        other = self.timers.add(lambda: self.ended.append(2))
        self.clock.advance(10)
        self.assertEqual(self.ended, [1])
        self.clock.advance(10)
        self.assertEqual(self.ended, [1, 3])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=20))
    def test_any(self, steps: list[tuple[float, bool]]) -> None:
        """Whatever is begun and cancelled when: the rest ends in order, not before its time."""
        clock = Clock()
        timers = Timers(clock, 10)
        ended: list[tuple[float, float]] = []
        cancelled = 0
        for wait, cancel in steps:
            clock.advance(wait)
            begun = clock.seconds()
            timer = timers.add(lambda begun=begun: ended.append((begun, clock.seconds())))
            if cancel:
                timer.cancel()
                cancelled += 1
        for _ in range(200):
            clock.advance(0.1)
        self.assertEqual(len(ended), len(steps) - cancelled)
        self.assertEqual(ended, sorted(ended))
        for begun, at in ended:
            self.assertGreaterEqual(at, begun + 10 - 1e-6)
            self.assertLessEqual(at, begun + 15.3)
        self.assertEqual(clock.getDelayedCalls(), [])
