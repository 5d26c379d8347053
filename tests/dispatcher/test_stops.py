"""Stopping: what it waits for, what it refuses, and what it does to those that hang."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel

from oni.errors import InvalidTimeoutError, StopTimeoutError
from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.running import RunningCase


class WaitingTests(RunningCase):
    """Stop waits for queued, nested and running events."""

    def test_idle(self) -> None:
        """A dispatcher without events stops at once."""
        self.assertIsNone(self.successResultOf(self.dispatcher.stop()))
        self.assertEqual(self.dispatcher.state, "stopped")

    def test_running_and_queued(self) -> None:
        """Running events go through all their phases, queued ones still run."""
        gates = self.wait()
        self.hear("after", "after")
        first, second = self.start("first"), self.start("second")
        stop = self.dispatcher.stop()
        self.assertEqual(self.dispatcher.state, "stopping")
        gates[0].callback(None)
        self.successResultOf(first)
        self.assertNoResult(stop)
        gates[1].callback(None)
        self.successResultOf(second)
        self.assertIsNone(self.successResultOf(stop))
        self.assertEqual(self.heard, ["first", "after", "second", "after"])
        self.assertEqual(self.dispatcher.state, "stopped")

    def test_nested(self) -> None:
        """While stopping, running events may still fire nested ones, which are waited for."""
        gate: Deferred[None] = Deferred()
        gates = self.wait("inner", user="inner")

        async def handler(event: Any) -> None:
            await gate
            self.dispatcher.fire_event("inner", user="inner").addCallback(self.heard.append)

        self.add(handler, user="outer")
        outer = self.start("outer", user="outer")
        stop = self.dispatcher.stop()
        gate.callback(None)
        self.successResultOf(outer)
        self.assertNoResult(stop)
        gates[0].callback(None)
        self.successResultOf(stop)
        self.assertEqual(self.heard[0], "inner")

    def test_those_that_gave_their_turn_away(self) -> None:
        """Events that hold no turn any more are waited for."""
        self.use(phases=[Phase("during", holds_turn=False)])
        gates = self.wait()
        self.start("first")
        self.start("second")
        stop = self.dispatcher.stop()
        gates[1].callback(None)
        self.assertNoResult(stop)
        gates[0].callback(None)
        self.successResultOf(stop)

    def test_without_order_and_by_keyword(self) -> None:
        """So are all events of a dispatcher without order, or with several."""
        for order_by in (None, ("user",)):
            self.use(order_by=order_by)
            gates = self.wait()
            self.start(1, user="bob")
            self.start(2, user="eve")
            stop = self.dispatcher.stop()
            gates[0].callback(None)
            self.assertNoResult(stop)
            gates[1].callback(None)
            self.successResultOf(stop)

    def test_event_that_is_being_called(self) -> None:
        """Called where nothing tells of the event that is being called, it waits for that one."""
        stops: list[Deferred[None]] = []

        def handler(event: Any) -> None:
            stops.append(Context().run(self.dispatcher.stop))
            self.heard.append(self.dispatcher.state)

        self.add(handler)
        self.fire()
        self.successResultOf(stops[0])
        self.assertEqual(self.heard, ["stopping"])

    def test_cancelled_queue(self) -> None:
        """A cancelled event is not waited for."""
        gates = self.wait()
        first = self.start("first")
        queued = self.start("queued")
        stop = self.dispatcher.stop()
        gates[0].callback(None)
        self.successResultOf(first)
        gates[1].addErrback(lambda f: f.trap(CancelledError) and None)
        queued.cancel()
        self.failureResultOf(queued, CancelledError)
        self.successResultOf(stop)

    def test_two_stops(self) -> None:
        """Each stop fires when nothing runs."""
        gates = self.wait()
        self.start()
        stops = [self.dispatcher.stop(), self.dispatcher.stop()]
        gates[0].callback(None)
        for stop in stops:
            self.assertIsNone(self.successResultOf(stop))

    def test_callback_stops_again(self) -> None:
        """The callback of one stop may stop again while another one waits."""
        gates = self.wait()
        self.start()
        first = self.dispatcher.stop().addCallback(lambda _: self.dispatcher.stop())
        second = self.dispatcher.stop()
        gates[0].callback(None)
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))

    def test_cancelled_stop(self) -> None:
        """Cancelling the Deferred of stop ends that wait; the dispatcher stops anyway."""
        gates = self.wait()
        self.start()
        stop = self.dispatcher.stop(10)
        stop.cancel()
        self.failureResultOf(stop, CancelledError)
        self.assertEqual(self.dispatcher.state, "stopping")
        gates[0].callback(None)
        self.assertEqual(self.dispatcher.state, "stopped")

    def test_callback_of_stop(self) -> None:
        """What is called when the stop is over finds it stopped, and may start it."""
        stop = self.dispatcher.stop().addCallback(lambda _: self.dispatcher.state)
        self.assertEqual(self.successResultOf(stop), "stopped")
        gates = self.wait()
        self.dispatcher.start()
        self.start()
        again = self.dispatcher.stop().addCallback(lambda _: self.dispatcher.start())
        gates[0].callback(None)
        self.successResultOf(again)
        self.assertEqual(self.dispatcher.state, "started")


class InsideTests(RunningCase):
    """A stop that is called inside a handler waits for all but the events it is called from."""

    def test_waits_for_others(self) -> None:
        """A handler may wait for a stop that waits for others."""
        self.use(order_by=None)
        gates = self.wait("gate", user="other")
        seen: list[str] = []

        async def handler(event: Any) -> None:
            await self.dispatcher.stop()
            seen.append(self.dispatcher.state)

        self.add(handler, user="stops")
        other = self.start("other", user="other")
        stops = self.start("stops", user="stops")
        self.assertEqual(seen, [])
        gates[0].callback(None)
        self.assertEqual(seen, ["stopped"])
        self.successResultOf(stops)
        self.successResultOf(other)

    def test_alone(self) -> None:
        """Where nothing else runs, it is over at once; the event goes on to its end."""

        async def handler(event: Any) -> None:
            await self.dispatcher.stop()

        self.add(handler)
        self.hear("after", "after")
        self.fire()
        self.assertEqual((self.heard, self.dispatcher.state), (["after"], "stopped"))

    def test_nested(self) -> None:
        """It waits neither for the nested event it is called from, nor for that one's parents."""

        async def outer(event: Any) -> None:
            await self.dispatcher.fire_event("inner", user="inner")

        async def inner(event: Any) -> None:
            await self.dispatcher.stop()

        self.add(outer, user="outer")
        self.add(inner, user="inner")
        self.fire("outer", user="outer")
        self.assertEqual(self.dispatcher.state, "stopped")

    def check_queue(self, handler: Any) -> None:
        """Let a handler stop while others are queued; they still run, before the stop is over."""
        self.add(handler, user="stops")
        gates = self.wait(role="waits")
        first = self.start("stops", user="stops")
        queued = [self.start(n, role="waits") for n in range(2)]
        self.go.callback(None)
        self.assertEqual(self.heard, [0])
        gates[0].callback(None)
        self.assertEqual(self.heard, [0, 1])
        gates[1].callback(None)
        self.assertEqual(self.heard, [0, 1, "stopped"])
        for done in (first, *queued):
            self.successResultOf(done)
        self.assertEqual(self.dispatcher.state, "stopped")

    def test_lets_queued_events_run(self) -> None:
        """A coroutine that stops gives its turn away, or it would wait for ever."""
        self.go: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await self.go
            await self.dispatcher.stop()
            self.heard.append("stopped")

        self.check_queue(handler)

    def test_lets_queued_events_run_nested(self) -> None:
        """So does the event that the one which stops is nested in."""
        self.go = Deferred()

        async def inner(event: Any) -> None:
            await self.dispatcher.stop()
            self.heard.append("stopped")

        async def handler(event: Any) -> None:
            await self.go
            await self.dispatcher.fire_event("inner", user="inner")

        self.add(inner, user="inner")
        self.check_queue(handler)

    def test_lets_queued_events_run_from_a_first_step(self) -> None:
        """So does a handler that returns the stop's Deferred when it is called."""

        def handler(event: Any) -> Deferred[None]:
            queued.append(self.start("queued"))
            stop = self.dispatcher.stop()
            self.heard.append(self.dispatcher.state)
            return stop

        queued: list[Deferred[Any]] = []
        self.add(handler, user="stops")
        self.note(role=None)
        done = self.start("stops", user="stops")
        self.successResultOf(done)
        self.successResultOf(queued[0])
        self.assertEqual(self.heard, ["stopping", "stops", "queued"])

    def test_lets_queued_events_run_beyond_the_bound(self) -> None:
        """The bound of events that gave their turn away does not keep a stop from its end."""
        self.use(phases=["during", Phase("after", holds_turn=False)], max_pending=1)
        go: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await go
            await self.dispatcher.stop()

        self.add(handler, user="stops")
        gates = self.wait(phase="after", role="trails")
        trails = self.start("trails", role="trails")
        stops = self.start("stops", user="stops")
        queued = self.start("queued")
        go.callback(None)
        self.successResultOf(queued)
        gates[0].callback(None)
        self.successResultOf(trails)
        self.successResultOf(stops)

    def test_another_stop_waits_for_the_one_that_stops(self) -> None:
        """A second stop, from outside, waits for the event that the first was called from."""
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await self.dispatcher.stop()
            await gate

        self.add(handler)
        done = self.start()
        self.assertEqual(self.dispatcher.state, "stopped")
        second = self.dispatcher.stop()
        self.assertNoResult(second)
        gate.callback(None)
        self.successResultOf(second)
        self.successResultOf(done)

    def test_two_events_that_stop(self) -> None:
        """Events that both stop do not wait for each other for ever, queued or side by side."""
        for order_by in ((), None):
            self.use(order_by=order_by)
            go: Deferred[None] = Deferred()

            async def handler(event: Any, go: Deferred[None] = go) -> None:
                await go
                await self.dispatcher.stop()
                self.heard.append(event)

            self.add(handler)
            events = [self.start(n) for n in range(3)]
            outside = Context().run(self.dispatcher.stop)
            outside.addCallback(lambda _: self.heard.append("outside"))
            go.callback(None)
            for event in events:
                self.assertEqual(self.successResultOf(event).failures, ())
            self.successResultOf(outside)
            self.assertEqual(self.heard, [0, 1, 2, "outside"])
            self.heard.clear()

    def test_two_events_that_stop_and_one_goes_on(self) -> None:
        """What an event does after its stop, another event that stopped too waits for."""
        self.use(order_by=None)
        go, gate = Deferred[None](), Deferred[None]()

        async def first(event: Any) -> None:
            await self.dispatcher.stop()
            await gate

        async def second(event: Any) -> None:
            await go
            await self.dispatcher.stop()

        self.add(first, user="first")
        self.add(second, user="second")
        ends = self.start(user="second")
        goes_on = self.start(user="first")
        go.callback(None)
        self.assertNoResult(ends)
        gate.callback(None)
        self.successResultOf(ends)
        self.successResultOf(goes_on)

    def test_started_again_meanwhile(self) -> None:
        """A stop that still waits does not stop what was started again meanwhile."""
        gate: Deferred[None] = Deferred()
        outside: list[Deferred[None]] = []

        async def handler(event: Any) -> None:
            await self.dispatcher.stop()
            outside.append(Context().run(self.dispatcher.stop))
            self.dispatcher.start()
            await gate

        self.add(handler)
        done = self.start()
        self.assertNoResult(outside[0])
        gate.callback(None)
        self.successResultOf(outside[0])
        self.successResultOf(done)
        self.assertEqual(self.dispatcher.state, "started")


class StalledTests(RunningCase):
    """A stop that waits for longer than stall_warning says once what it waits for."""

    def test_callback_of_a_handler(self) -> None:
        """It is called where nothing tells of the event that waits for it."""
        gate: Deferred[None] = Deferred()
        self.add(lambda event: gate.addCallback(lambda _: Context().run(self.dispatcher.stop, 60)))
        done = self.start("secret")
        gate.callback(None)
        self.clock.advance(4.9)
        self.assertEqual(self.warnings(), [])
        self.clock.advance(0.2)
        [text] = self.warnings()
        self.assertIn("stop has waited over 5.0 s for 1 event(s): event", text)
        self.assertIn("(str) waits for StalledTests.test_callback_of_a_handler", text)
        self.assertNotIn("secret", text)
        self.clock.advance(20)
        self.assertEqual(self.warnings(), [])
        self.clock.advance(60)
        self.failureResultOf(done, CancelledError)

    def test_not_its_own_events(self) -> None:
        """The events that it is called from are none of those."""
        self.use(order_by=None, stall_warning=1)
        gates = self.wait(user="waits")

        async def handler(event: Any) -> None:
            await self.dispatcher.stop()

        self.add(handler, user="stops")
        self.start(1, user="stops")
        self.assertEqual(self.dispatcher.state, "stopped")
        self.dispatcher.start()
        self.start("waits", user="waits")
        self.start(1, user="stops")
        self.clock.advance(1)
        [text] = self.warnings()
        self.assertIn("stop has waited over 1 s for 1 event(s)", text)
        self.assertIn("(str) waits for", text)
        self.assertNotIn("(int)", text)
        gates[0].callback(None)

    def test_off(self) -> None:
        """Without stall_warning nothing is said, and no timer is set."""
        self.use(stall_warning=None)
        gates = self.wait()
        self.start()
        self.dispatcher.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        gates[0].callback(None)


class TimeoutTests(RunningCase):
    """After the timeout what still runs is cancelled and named."""

    def test_cancels_and_names(self) -> None:
        """Running and queued events are cancelled; the error and the log name what hung."""
        gates = self.wait("gate")
        self.hear("after", "after")
        running, queued = self.start("running"), self.start("queued")
        stop = self.dispatcher.stop(5)
        self.clock.advance(4.9)
        self.assertNoResult(stop)
        self.clock.advance(0.2)
        error = self.failing(stop, StopTimeoutError)
        self.assertEqual(
            [(p.event, p.state) for p in error.hung],
            [("running", "running"), ("queued", "queued")],
        )
        self.assertEqual(error.seconds, 5)
        self.assertIn("RunningCase.wait.<locals>.handler", str(error))
        self.assertIsInstance(error, TimeoutError)
        self.failureResultOf(running, CancelledError)
        self.failureResultOf(queued, CancelledError)
        self.assertTrue(gates[0].called)
        self.assertEqual(self.heard, ["gate"])
        self.assertEqual(self.dispatcher.state, "stopped")
        [text] = self.logs(LogLevel.error)
        self.assertIn("2 event(s) did not end within 5 s", text)

    def test_many(self) -> None:
        """Text and log name the first ten and say how many more; the error carries all."""
        self.use(order_by=None)
        for _ in range(15):
            self.wait()
        events = [self.start(f"secret {number}") for number in range(30)]
        stop = self.dispatcher.stop(1)
        self.clock.advance(1)
        error = self.failing(stop, StopTimeoutError)
        self.assertEqual([p.event for p in error.hung], [f"secret {n}" for n in range(30)])
        for event in events:
            self.failureResultOf(event, CancelledError)
        for text in (str(error), *self.logs(LogLevel.error)):
            self.assertIn("30 event(s) did not end", text)
            self.assertTrue(text.endswith("and 20 more"), text)
            self.assertEqual(text.count("and 5 more"), 10)
            self.assertNotIn("secret", text)

    def test_nothing_runs_after(self) -> None:
        """A coroutine that swallows the cancellation goes on alone: nothing is called for it."""
        again: Deferred[None] = Deferred()

        async def handler(event: Any) -> str:
            try:
                await Deferred()
            except CancelledError:
                await again
            result = await self.dispatcher.fire_event("late", user="late")
            self.heard.append(result.state)
            return "late"

        self.add(handler, user="hangs")
        self.note(user="late")
        self.hear("after", "after")
        hangs = self.start("hangs", user="hangs")
        stop = self.dispatcher.stop(1)
        self.clock.advance(1)
        self.failing(stop, StopTimeoutError)
        self.failureResultOf(hangs, CancelledError)
        again.callback(None)
        self.assertEqual(self.heard, ["stopped"])

    def test_always_phases(self) -> None:
        """They are called, as far as they get without a wait, but not for queued events."""
        self.use(
            phases=[
                "during",
                Phase("always", always=True),
                Phase("one by one", always=True, concurrent=False),
            ]
        )
        self.wait("gate")
        self.wait("hangs", "always")
        self.wait("hangs too", "one by one")
        self.hear("last", "one by one")
        done, queued = self.start(), self.start()
        stop = self.dispatcher.stop(1)
        self.clock.advance(1)
        self.failing(stop, StopTimeoutError)
        self.failureResultOf(done, CancelledError)
        self.failureResultOf(queued, CancelledError)
        self.assertEqual(self.heard, ["gate", "hangs", "hangs too", "last"])

    def test_cancelled_before(self) -> None:
        """An event that was cancelled before, and hangs in a phase that always runs, ends too."""
        self.use(phases=["during", Phase("always", always=True)])
        self.wait("gate")
        gates = self.wait("hangs", "always")
        done = self.start()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        stop = self.dispatcher.stop(1)
        self.assertNoResult(stop)
        self.clock.advance(1)
        self.assertEqual(len(self.failing(stop, StopTimeoutError).hung), 1)
        self.assertTrue(gates[0].called)

    def test_nested(self) -> None:
        """Nested events are named and cancelled too."""
        self.wait("gate", user="inner")

        async def handler(event: Any) -> None:
            await self.dispatcher.fire_event("inner", user="inner")

        self.add(handler, user="outer")
        done = self.start("outer", user="outer")
        stop = self.dispatcher.stop(1)
        self.clock.advance(1)
        error = self.failing(stop, StopTimeoutError)
        self.assertEqual({p.state for p in error.hung}, {"running", "nested"})
        self.failureResultOf(done, CancelledError)

    def test_in_time(self) -> None:
        """A stop that is over before its timeout leaves no timer."""
        gates = self.wait()
        self.start()
        stop = self.dispatcher.stop(5)
        gates[0].callback(None)
        self.successResultOf(stop)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_two_stops(self) -> None:
        """The shorter timeout ends the wait of both; only its own caller is told of a timeout."""
        self.wait()
        done = self.start()
        patient, hurried = self.dispatcher.stop(), self.dispatcher.stop(1)
        self.clock.advance(1)
        self.failing(hurried, StopTimeoutError)
        self.successResultOf(patient)
        self.failureResultOf(done, CancelledError)

    def test_inside_a_handler(self) -> None:
        """The event that it is called from is not cancelled."""
        self.use(order_by=None)
        self.wait("hangs", user="hangs")

        async def handler(event: Any) -> None:
            try:
                await self.dispatcher.stop(1)
            except StopTimeoutError as error:
                self.heard.extend(p.event for p in error.hung)

        self.add(handler, user="stops")
        hangs, stops = self.start("hung", user="hangs"), self.start(user="stops")
        self.clock.advance(1)
        self.failureResultOf(hangs, CancelledError)
        self.assertEqual(self.successResultOf(stops).failures, ())
        self.assertEqual(self.heard, ["hangs", "hung"])

    def test_bad_timeouts(self) -> None:
        """A timeout is a positive number of seconds; the dispatcher goes on."""
        for bad in (0, -1, "5", True, float("nan")):
            self.assertRaises(InvalidTimeoutError, self.dispatcher.stop, bad)
        self.assertEqual(self.dispatcher.state, "started")
