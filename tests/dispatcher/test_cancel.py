"""Cancelling events: queued, running, in any phase, and handlers that do not care."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel

from oni.errors import EventAbortedError
from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.running import RunningCase


class CancelCase(RunningCase):
    """A test that cancels."""

    def cancel(self, deferred: Deferred[Any]) -> None:
        """Cancel an event, and see that its Deferred fails at once."""
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)


class QueuedTests(CancelCase):
    """Cancelling a queued event removes it."""

    def test_is_never_run(self) -> None:
        """Its handlers are not called, those of the next one are."""
        gates = self.wait()
        self.start("first")
        cancelled = self.start("cancelled")
        last = self.start("last")
        self.cancel(cancelled)
        self.assertEqual(self.states(), [("first", "running"), ("last", "queued")])
        gates[0].callback(None)
        gates[1].callback(None)
        self.successResultOf(last)
        self.assertEqual(self.heard, ["first", "last"])

    def test_always_phases_are_not_run(self) -> None:
        """An event that never began has nothing to clean up."""
        self.use(phases=["during", Phase("always", always=True)])
        gates = self.wait(user="waits")
        self.note("always")
        self.start("first", user="waits")
        self.cancel(self.start("cancelled"))
        gates[0].callback(None)
        self.assertEqual(self.heard, ["first", "first"])

    def test_by_keyword_leaves_no_lane(self) -> None:
        """A queued event of a lane leaves it."""
        self.use(order_by=("user",))
        gates = self.wait()
        self.start("first", user="bob")
        cancelled = self.start("cancelled", user="bob")
        gates[0].addCallback(lambda _: self.cancel(cancelled))
        gates[0].callback(None)

    def test_all_at_once(self) -> None:
        """A whole queue may be cancelled, in any order."""
        gates = self.wait()
        self.start("first")
        queued = [self.start(number) for number in range(100)]
        for done in queued[::2] + queued[1::2]:
            self.cancel(done)
        gates[0].callback(None)
        self.assertEqual(self.heard, ["first"])

    def test_cancelled_by_the_callback_before(self) -> None:
        """The callback of one event may cancel the next one before it starts."""
        gates = self.wait()
        first = self.start("first")
        second = self.start("second")
        first.addCallback(lambda _: second.cancel())
        gates[0].callback(None)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.heard, ["first"])


class RunningTests(CancelCase):
    """Cancelling a running event cancels its handlers."""

    def test_handlers_are_cancelled(self) -> None:
        """Deferreds and coroutines are cancelled; later phases are skipped; the turn goes on."""
        cancelled: list[str] = []
        self.add(lambda event: Deferred(lambda _: cancelled.append("deferred")), times=1)

        async def coroutine(event: Any) -> None:
            try:
                await Deferred()
            except CancelledError:
                cancelled.append("coroutine")
                raise

        self.add(coroutine, times=1)
        self.note("after")
        first, second = self.start("first"), self.start("second")
        self.cancel(first)
        self.assertEqual(cancelled, ["deferred", "coroutine"])
        self.successResultOf(second)
        self.assertEqual(self.heard, ["second"])

    def test_is_not_logged(self) -> None:
        """A cancellation that was asked for is no error."""
        self.wait()
        self.cancel(self.start())
        self.assertEqual(self.logs(LogLevel.critical), [])

    def test_other_failures_are_logged(self) -> None:
        """What fails for another reason when it is cancelled is logged, and dropped."""

        async def handler(event: Any) -> None:
            try:
                await Deferred()
            except CancelledError:
                raise ValueError("while cleaning") from None

        self.add(handler)
        self.cancel(self.start())
        [text] = self.logs(LogLevel.critical)
        self.assertIn("failed after it was given up", text)
        self.assertEqual(self.flush(ValueError), ["while cleaning"])

    def test_canceller_that_raises(self) -> None:
        """A Deferred whose canceller raises harms nobody, and is logged."""

        def canceller(deferred: Deferred[Any]) -> None:
            raise ValueError("cannot cancel")

        self.add(lambda event: Deferred(canceller))
        gates = self.wait("other")
        self.cancel(self.start())
        self.assertTrue(gates[0].called)
        self.assertEqual(self.flush(ValueError), ["cannot cancel"])

    def test_always_phases_run(self) -> None:
        """Phases that always run are called and waited for, and keep the turn until then."""
        self.use(phases=["during", "after", Phase("always", always=True)])
        self.wait("gate", times=1)
        self.note("after")
        gates = self.wait("cleans", "always")
        first = self.start("first")
        second = self.start("second")
        self.cancel(first)
        self.assertEqual(self.heard, ["gate", "cleans"])
        self.assertNoResult(second)
        gates[0].callback(None)
        gates[1].callback(None)
        self.successResultOf(second)
        self.assertEqual(self.heard, ["gate", "cleans", "second", "cleans"])

    def test_always_phase_sees_who_was_cancelled(self) -> None:
        """The result so far has a CancelledError for each handler that was cancelled."""
        self.use(phases=["during", Phase("always", always=True)])
        self.wait()
        self.add(lambda event: "ended")

        def see(event: Any) -> None:
            now = self.dispatcher.result_so_far()
            self.heard.append([o.failed for o in now][:2])
            self.heard.append(now.failures[0].type)

        self.add(see, "always")
        self.cancel(self.start())
        self.assertEqual(self.heard[1:], [[True, False], CancelledError])

    def test_failure_in_an_always_phase_is_logged(self) -> None:
        """No error carries it, for the caller is told of the cancellation."""
        self.use(phases=["during", Phase("always", always=True, on_error="abort")])
        self.wait()
        self.add(self.raising(ValueError("cleaning")), "always")
        self.cancel(self.start())
        self.assertEqual(self.flush(ValueError), ["cleaning"])

    def test_twice(self) -> None:
        """Cancelling again changes nothing."""
        self.use(phases=["during", Phase("always", always=True)])
        self.wait()
        gates = self.wait("cleans", "always")
        done = self.start()
        self.cancel(done)
        done.cancel()
        self.assertFalse(gates[0].called)
        gates[0].callback(None)

    def test_after_the_end(self) -> None:
        """Cancelling an event that has ended changes nothing."""
        gates = self.wait()
        done = self.start()
        gates[0].callback("value")
        done.cancel()
        self.assertEqual(self.successResultOf(done).values, ("value",))

    def test_in_an_aborting_phase(self) -> None:
        """A cancelled event fails with CancelledError, not with that of an abort."""
        self.use(phases=[Phase("during", on_error="abort")])
        self.wait()
        self.add(self.raising(ValueError("bad")))
        self.cancel(self.start())
        self.flush(ValueError)

    def test_aborted_before(self) -> None:
        """An aborted event whose last phase is cancelled has been cancelled."""
        self.use(phases=[Phase("during", on_error="abort"), Phase("always", always=True)])
        self.add(self.raising(ValueError("bad")))
        gates = self.wait("cleans", "always")
        done = self.start()
        done.cancel()
        self.assertIsNone(self.failureResultOf(done).check(EventAbortedError))
        self.assertTrue(gates[0].called)
        self.flush(ValueError)

    def test_nested(self) -> None:
        """A coroutine that awaits a nested event cancels it with itself."""
        gates = self.wait("inner", user="inner")

        async def handler(event: Any) -> None:
            await self.dispatcher.fire_event("inner", user="inner")

        self.add(handler, user="outer")
        self.cancel(self.start("outer", user="outer"))
        self.assertTrue(gates[0].called)

    def test_trailing(self) -> None:
        """An event that gave its turn away may be cancelled, and frees its place."""
        self.use(phases=[Phase("during", holds_turn=False)], max_pending=1)
        gates = self.wait()
        first = self.start("first")
        second = self.start("second")
        self.cancel(first)
        third = self.start("third")
        self.assertEqual(self.heard, ["first", "second"])
        gates[1].callback(None)
        self.successResultOf(second)
        gates[2].callback(None)
        self.successResultOf(third)


class SequentialTests(CancelCase):
    """Cancelling in a sequential phase."""

    def test_rest_is_not_called(self) -> None:
        """The handler that runs is cancelled, the next ones are not called."""
        self.use(phases=[Phase("during", concurrent=False), "after"])
        gates = self.wait("first")
        self.hear("second")
        self.hear("after", "after")
        self.cancel(self.start())
        self.assertTrue(gates[0].called)
        self.assertEqual(self.heard, ["first"])
        self.assertEqual([h.calls for h in self.dispatcher.handlers()], [1, 0, 0])

    def test_while_a_handler_is_called(self) -> None:
        """A handler may cancel its own event: it ends itself, and no other is called."""
        self.use(phases=[Phase("during", concurrent=False), "after"])
        gates = self.wait("first")
        done: list[Deferred[Any]] = []
        self.add(lambda event: done[0].cancel())
        self.hear("third")
        self.hear("after", "after")
        done.append(self.start())
        gates[0].callback(None)
        self.failureResultOf(done[0], CancelledError)
        self.assertEqual(self.heard, ["first"])


class WhileCalledTests(CancelCase):
    """Cancelling an event while one of its handlers is being called."""

    def test_in_a_later_phase(self) -> None:
        """Handlers of that phase that have to wait are cancelled when all were called."""
        gates = self.wait("before", "before")
        cancelled: list[Any] = []
        done: list[Deferred[Any]] = []
        self.add(lambda event: done[0].cancel())
        self.add(lambda event: Deferred(cancelled.append))
        self.hear("after", "after")
        done.append(self.start())
        gates[0].callback(None)
        self.failureResultOf(done[0], CancelledError)
        self.assertEqual((len(cancelled), self.heard), (1, ["before"]))

    def test_queued_one_when_its_turn_comes(self) -> None:
        """A queued event's first handler may cancel it as well."""
        gates = self.wait("gate", user="first")
        self.start("first", user="first")
        self.add(lambda event: done.cancel(), user="second")
        self.hear("after", "after", user="second")
        done = self.start("second", user="second")
        gates[0].callback(None)
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.heard, ["gate"])

    def test_by_an_ended_handler(self) -> None:
        """The callback of a handler's Deferred may cancel the event it belongs to."""
        gates = self.wait()
        other = self.wait("other")
        done = self.start()
        gates[0].addCallback(lambda _: done.cancel())
        gates[0].callback(None)
        self.failureResultOf(done, CancelledError)
        self.assertTrue(other[0].called)


class StubbornTests(CancelCase):
    """Handlers that swallow the cancellation are given up: what they do later is dropped."""

    def start_stubborn(self, error: Exception | None = None) -> Deferred[None]:
        """Start an event with a handler that goes on after its cancellation."""
        again: Deferred[None] = Deferred()

        async def handler(event: Any) -> str:
            try:
                await Deferred()
            except CancelledError:
                await again
            self.heard.append("went on")
            if error is not None:
                raise error
            return "dropped"

        self.add(handler, user="stubborn")
        self.hear("after", "after")
        self.stubborn = self.start(user="stubborn")
        return again

    def test_is_not_waited_for(self) -> None:
        """The event ends at once, and the next one starts."""
        again = self.start_stubborn()
        second = self.start("second")
        self.cancel(self.stubborn)
        self.successResultOf(second)
        again.callback(None)
        self.assertEqual(self.heard, ["after", "went on"])

    def test_result_is_dropped(self) -> None:
        """What it returns is said at debug level, and in no result."""
        again = self.start_stubborn()
        self.cancel(self.stubborn)
        again.callback(None)
        texts = [text for text in self.logs(LogLevel.debug) if "given up" in text]
        self.assertEqual(len(texts), 1)
        self.assertIn("start_stubborn", texts[0])

    def test_failure_is_logged(self) -> None:
        """What it raises later is logged."""
        again = self.start_stubborn(ValueError("late"))
        self.cancel(self.stubborn)
        again.callback(None)
        self.assertEqual(self.flush(ValueError), ["late"])

    def test_fires_top_level_events(self) -> None:
        """What it fires later is not nested any more."""
        again: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            try:
                await Deferred()
            except CancelledError:
                await again
            self.dispatcher.fire_event("late")

        self.add(handler, user="stubborn")
        gates = self.wait("holds", user="holds")
        self.cancel(self.start(user="stubborn"))
        self.start("holds", user="holds")
        again.callback(None)
        self.assertEqual(self.states(), [("holds", "running"), ("late", "queued")])
        gates[0].callback(None)


class StoppingTests(CancelCase):
    """Cancelling while the dispatcher stops."""

    def test_last_one_that_a_stop_waits_for(self) -> None:
        """A handler may stop, cancel all that is queued, and wait for the stop."""

        async def handler(event: Any) -> None:
            queued.append(self.start("queued"))
            stop = self.dispatcher.stop()
            self.cancel(queued[0])
            await stop

        queued: list[Deferred[Any]] = []
        self.add(handler)
        self.successResultOf(self.start())
        self.assertEqual(self.dispatcher.state, "stopped")
