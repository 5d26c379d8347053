"""The states of a dispatcher: new, started, stopping, stopped."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from oni.errors import DispatcherStateError, DispatcherStoppedError
from oni.twisted_event_dispatcher import EventDispatcher
from tests.dispatcher.running import RunningCase


class StatesTests(RunningCase):
    """What each state allows."""

    def setUp(self) -> None:
        """Make a dispatcher that is new."""
        super().setUp()
        self.dispatcher = EventDispatcher(("user",), reactor=self.clock)
        self.dispatchers = [self.dispatcher]

    def assert_refused(self, state: str) -> None:
        """Assert that events are refused in this state, which is warned of once."""
        self.logged.clear()
        for _ in range(3):
            result = self.fire("event", user="bob")
            self.assertEqual((result.state, result.dispatched), (state, False))
            self.assertEqual((result.event, result.details), ("event", {"user": "bob"}))
            self.assertEqual(result.outcomes, ())
        [text] = self.warnings()
        self.assertIn(f"a dispatcher that is {state}", text)
        self.assertEqual(self.heard, [])

    def test_new(self) -> None:
        """A new dispatcher takes handlers and refuses events."""
        self.assertEqual(self.dispatcher.state, "new")
        self.note()
        self.assert_refused("new")
        self.assertEqual(self.dispatcher.statistics()["events_refused"], 3)
        self.dispatcher.start()
        self.assertEqual(self.fire("heard").state, "started")
        self.assertEqual(self.heard, ["heard"])

    def test_stopped(self) -> None:
        """A stopped one too, and may be started again; it warns anew after each change."""
        self.note()
        for _ in range(2):
            self.dispatcher.start()
            self.successResultOf(self.dispatcher.stop())
            self.assertEqual(self.dispatcher.state, "stopped")
            self.assert_refused("stopped")
        self.dispatcher.start()
        self.fire("heard")
        self.assertEqual(self.heard, ["heard"])

    def test_stopping(self) -> None:
        """While stopping, new top-level events are refused."""
        self.dispatcher.start()
        gates = self.wait("gate")
        self.start()
        stop = self.dispatcher.stop()
        self.heard.clear()
        self.logged.clear()
        result = self.successResultOf(self.start())
        self.assertEqual((result.state, result.dispatched), ("stopping", False))
        self.assertEqual(len(self.warnings()), 1)
        self.assertEqual(self.heard, [])
        gates[0].callback(None)
        self.successResultOf(stop)

    def test_start_returns_none(self) -> None:
        """Start returns nothing; the second time nothing changes."""
        self.assertIsNone(self.dispatcher.start())  # type: ignore[func-returns-value]
        self.dispatcher.start()
        self.assertEqual(self.dispatcher.state, "started")

    def test_start_while_stopping(self) -> None:
        """A dispatcher that is stopping cannot be started; the error names the way out."""
        self.dispatcher.start()
        gates = self.wait()
        self.start()
        stop = self.dispatcher.stop()
        with self.assertRaises(DispatcherStateError) as caught:
            self.dispatcher.start()
        self.assertEqual(caught.exception.state, "stopping")
        gates[0].callback(None)
        self.successResultOf(stop)
        self.dispatcher.start()

    def test_stop_when_new_or_stopped(self) -> None:
        """Stopping what is not started changes nothing."""
        self.successResultOf(self.dispatcher.stop())
        self.assertEqual(self.dispatcher.state, "new")
        self.dispatcher.start()
        self.successResultOf(self.dispatcher.stop())
        self.successResultOf(self.dispatcher.stop())
        self.assertEqual(self.dispatcher.state, "stopped")

    def test_handlers_stay(self) -> None:
        """Handlers survive a stop, and may be added and removed in every state."""
        handler_id = self.note()
        self.dispatcher.start()
        self.successResultOf(self.dispatcher.stop())
        self.hear("second")
        self.remove(handler_id)
        self.dispatcher.start()
        self.fire()
        self.assertEqual(self.heard, ["second"])

    def test_bad_details_of_a_refused_event(self) -> None:
        """An event that is refused is not looked at."""
        self.assertEqual(self.fire("event", colour="red").state, "new")

    def test_statistics(self) -> None:
        """Counters and gauges say what happened and what is."""
        self.dispatcher.start()
        gates = self.wait()
        self.start()
        self.start()
        self.assertEqual(
            self.dispatcher.statistics(),
            {
                "events_fired": 1,
                "events_refused": 0,
                "events_queued": 1,
                "events_running": 1,
                "event_cycles": 0,
                "handler_failures": 0,
                "handlers": 1,
                "handlers_died": 0,
            },
        )
        gates[0].callback(None)
        gates[1].errback(ValueError("bad"))
        numbers = self.dispatcher.statistics()
        self.assertEqual([numbers[k] for k in ("events_fired", "handler_failures")], [2, 1])
        self.flush(ValueError)


class NextEventTests(RunningCase):
    """Those who wait for an event learn of the stop."""

    def test_fails_when_it_stops(self) -> None:
        """Each waiting Deferred fails when the dispatcher has stopped."""
        waiting = [self.dispatcher.next_event(), self.dispatcher.next_event(user="bob")]
        gates = self.wait("gate", "before", role="slow")
        self.start("last", role="slow", user="eve")
        stop = self.dispatcher.stop()
        self.assertNoResult(waiting[1])
        gates[0].callback(None)
        self.successResultOf(stop)
        self.assertEqual(self.successResultOf(waiting[0]), "last")
        self.failing(waiting[1], DispatcherStoppedError)
        self.assertEqual(len(self.dispatcher.handlers()), 1)

    def test_fails_at_a_stop_with_timeout(self) -> None:
        """So do they when the stop gives up."""
        self.wait()
        done = self.start()
        waiting = self.dispatcher.next_event()
        stop = self.dispatcher.stop(1)
        self.clock.advance(1)
        self.failureResultOf(stop)
        self.failureResultOf(done, CancelledError)
        self.failing(waiting, DispatcherStoppedError)

    def test_cancelled_one_is_left_alone(self) -> None:
        """A wait that was cancelled before fails once."""
        waiting = self.dispatcher.next_event()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.successResultOf(self.dispatcher.stop())

    def test_waits_over_a_start(self) -> None:
        """A wait that began while the dispatcher was stopped goes on until it stops again."""
        self.successResultOf(self.dispatcher.stop())
        waiting = self.dispatcher.next_event()
        self.dispatcher.start()
        self.fire("heard")
        self.assertEqual(self.successResultOf(waiting), "heard")

    def test_callback_starts_again(self) -> None:
        """What hears of the stop may start the dispatcher: it stays started."""
        waiting = self.dispatcher.next_event()
        waiting.addErrback(lambda failure: self.dispatcher.start())
        seen: list[Any] = []
        stop = self.dispatcher.stop()
        stop.addCallback(lambda _: seen.append(self.dispatcher.state))
        self.successResultOf(stop)
        self.assertEqual(seen, ["started"])
