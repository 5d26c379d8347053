"""Stalls that nobody can prove: warned of once, listed, and ended where that is asked for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from oni.errors import EventWaitTimeoutError, InvalidTimeoutError
from oni.twisted_event_dispatcher import EventDispatcher
from tests.dispatcher.running import RunningCase


class StallTests(RunningCase):
    """A queue that does not get on for stall_warning seconds."""

    def stall(self, count: int = 1) -> list[Deferred[Any]]:
        """Let events wait behind one; give the gates of its handlers."""
        gates = self.wait("gate")
        for number in range(count + 1):
            self.start(number)
        return gates

    def end(self, gates: list[Deferred[Any]]) -> None:
        """Let everything end."""
        for gate in gates:
            if not gate.called:
                gate.callback(None)

    def pass_time(self, seconds: int) -> None:
        """Let the clock run, in steps."""
        self.clock.pump([0.1] * seconds * 10)

    def test_warns_once(self) -> None:
        """The log names what holds the others up, after five seconds, once."""
        gates = self.stall(3)
        self.pass_time(4)
        self.assertEqual(self.warnings(), [])
        self.pass_time(3)
        [text] = self.warnings()
        self.assertIn("3 event(s) have waited over 5.0 s", text)
        self.assertIn("RunningCase.wait.<locals>.handler", text)
        self.assertIn("(int)", text)
        self.pass_time(60)
        self.assertEqual(self.warnings(), [])
        self.end(gates)

    def test_warns_again_of_another(self) -> None:
        """The next event that holds the queue up is warned of by itself."""
        gates = self.stall(2)
        self.pass_time(7)
        self.assertEqual(len(self.warnings()), 1)
        gates[0].callback(None)
        self.pass_time(7)
        self.assertEqual(len(self.warnings()), 1)
        self.end(gates)

    def test_seconds_by_choice(self) -> None:
        """stall_warning says after how many seconds."""
        self.use(stall_warning=20)
        gates = self.stall()
        self.pass_time(19)
        self.assertEqual(self.warnings(), [])
        self.pass_time(3)
        self.assertEqual(len(self.warnings()), 1)
        self.end(gates)

    def test_none(self) -> None:
        """None is no warning."""
        self.use(stall_warning=None)
        gates = self.stall()
        self.pass_time(60)
        self.assertEqual(self.warnings(), [])
        self.end(gates)

    def test_no_warning_for_a_queue_that_gets_on(self) -> None:
        """Events that wait long behind many are not stalled."""
        gates = self.stall(100)
        for number in range(100):
            self.pass_time(1)
            gates[number].callback(None)
        self.assertEqual(self.warnings(), [])
        self.end(gates)

    def test_no_warning_without_a_queue(self) -> None:
        """A slow event behind which nobody waits is nobody's concern; no timer runs for it."""
        gates = self.wait("gate")
        done = self.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end(gates)
        self.successResultOf(done)

    def test_no_payload_in_the_log(self) -> None:
        """The log names the events' types, not the events."""
        gates = self.wait("gate")
        self.start("secret")
        self.start("secret")
        self.pass_time(7)
        [text] = self.warnings()
        self.assertNotIn("secret", text)
        self.end(gates)

    def test_each_lane(self) -> None:
        """Each lane that is stalled is warned of."""
        self.use(order_by=("user",))
        gates = self.wait("gate")
        for user in ("bob", "eve", "bob", "eve"):
            self.start(user, user=user)
        self.pass_time(7)
        self.assertEqual(len(self.warnings()), 2)
        self.end(gates)

    def test_timer_ends_with_the_queue(self) -> None:
        """When nobody waits any more, no timer is left, though an event still runs."""
        gates = self.stall()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        gates[0].callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end(gates)

    def test_timer_ends_with_a_cancelled_queue(self) -> None:
        """So when the last one that waits is cancelled."""
        gates = self.wait("gate")
        self.start()
        queued = self.start()
        self.pass_time(1)
        queued.cancel()
        self.failureResultOf(queued)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end(gates)

    def test_one_timer_whatever_is_queued(self) -> None:
        """There is one timer for all that wait, and it is set seldom."""
        gates = self.stall()
        self.pass_time(3)
        calls: list[IDelayedCall] = []
        later = self.clock.callLater
        self.patch(self.clock, "callLater", lambda *args: calls.append(later(*args)) or calls[-1])
        for number in range(100):
            self.start(number)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(calls), 1)
        self.end(gates)


class MaxWaitTests(RunningCase):
    """max_wait takes a queued event out that did not get its turn."""

    def test_gives_up(self) -> None:
        """After max_wait seconds the event fails, and is never run."""
        self.use(max_wait=10)
        gates = self.wait()
        first = self.start("first")
        queued = self.start("queued")
        self.clock.advance(9.9)
        self.assertNoResult(queued)
        self.clock.advance(0.2)
        error = self.failing(queued, EventWaitTimeoutError)
        self.assertEqual((error.event, error.seconds), ("queued", 10))
        self.assertIsInstance(error, TimeoutError)
        self.assertNoResult(first)
        gates[0].callback(None)
        self.successResultOf(first)
        self.assertEqual(self.heard, ["first"])

    def test_counts_the_wait_alone(self) -> None:
        """Once it runs, an event may take longer."""
        self.use(max_wait=10)
        gates = self.wait()
        self.start("first")
        queued = self.start("second")
        self.clock.advance(9)
        gates[0].callback(None)
        self.clock.advance(100)
        gates[1].callback(None)
        self.successResultOf(queued)

    def test_off_by_default(self) -> None:
        """Nothing is given up if nothing is said."""
        gates = self.wait()
        self.start("first")
        queued = self.start("second")
        self.clock.pump([1] * 1_000)
        self.assertNoResult(queued)
        gates[0].callback(None)
        gates[1].callback(None)
        self.successResultOf(queued)

    def test_cancelled(self) -> None:
        """A queued event that is cancelled leaves no timer."""
        self.use(max_wait=10)
        gates = self.wait()
        self.start("first")
        queued = self.start("second")
        queued.cancel()
        self.failureResultOf(queued)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        gates[0].callback(None)

    def test_bad_limits(self) -> None:
        """Limits are positive numbers of seconds, or None."""
        for bad in (0, -1, "5", True, float("nan"), float("inf")):
            with self.assertRaises(InvalidTimeoutError):
                EventDispatcher(max_wait=bad)  # type: ignore[arg-type]
            with self.assertRaises(InvalidTimeoutError):
                EventDispatcher(stall_warning=bad)  # type: ignore[arg-type]
