"""What happens within one phase: calls, waits, failures, and results in call order."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from oni.errors import EventAbortedError
from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.running import RunningCase

ONE_BY_ONE = (Phase("during", concurrent=False), "after")
ABORTING = (Phase("during", on_error="abort"), "after", Phase("always", always=True))


class ConcurrentTests(RunningCase):
    """Handlers of one phase start all at once, in registration order."""

    def test_all_start_at_once(self) -> None:
        """A handler that waits does not keep the next ones of its phase from being called."""
        first = self.wait("first")
        self.hear("second")
        third = self.wait("third")
        done = self.start()
        self.assertEqual(self.heard, ["first", "second", "third"])
        third[0].callback(None)
        self.assertNoResult(done)
        first[0].callback(None)
        self.successResultOf(done)

    def test_results_in_call_order(self) -> None:
        """Results stand in call order, however the Deferreds ended."""
        gates = [self.wait(str(number)) for number in range(3)]
        self.add(lambda event: "plain")
        done = self.start()
        for number in (2, 0, 1):
            gates[number][0].callback(number)
        result = self.successResultOf(done)
        self.assertEqual(result.values, (0, 1, 2, "plain"))
        self.assertEqual([outcome.handler_id for outcome in result], [1, 2, 3, 4])

    def test_fired_deferreds_are_not_waited_for(self) -> None:
        """Deferreds that have fired already end their handlers at once."""
        self.add(lambda event: succeed("given"))
        self.add(lambda event: fail(ValueError("refused")))
        result = self.fire()
        self.assertEqual(result.values, ("given",))
        self.assertEqual([f.getErrorMessage() for f in result.failures], ["refused"])
        self.assertEqual(self.flush(ValueError), ["refused"])

    def test_all_mixed(self) -> None:
        """Values, failures, coroutines, inlineCallbacks, Deferreds and futures in one phase."""
        gate: Deferred[str] = Deferred()
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        future = loop.create_future()

        async def quick(event: Any) -> str:
            return "quick"

        async def slow(event: Any) -> str:
            return "slow " + await gate

        @inlineCallbacks
        def generator(event: Any) -> Any:
            value = yield gate
            return "generator " + str(value)

        async def inner() -> str:
            return "inner " + str(await gate)

        self.add(lambda event: 1)
        self.add(self.raising(KeyError("two")))
        self.add(quick)
        self.add(slow)
        self.add(generator)
        self.add(lambda event: inner())
        self.add(lambda event: future)
        self.add(lambda event: None)
        done = self.start()
        # What awaits a Deferred passes None on, so the first to await it is given the value.
        gate.callback("value")
        self.assertNoResult(done)
        future.set_result("future")
        loop.call_soon(loop.stop)
        loop.run_forever()
        values = [outcome.value for outcome in self.successResultOf(done)]
        self.assertEqual(values[0], 1)
        self.assertIsInstance(values[1], Failure)
        self.assertEqual(
            values[2:], ["quick", "slow value", "generator None", "inner None", "future", None]
        )
        self.assertEqual(len(self.flush(KeyError)), 1)

    def test_coroutine_that_returns_a_deferred(self) -> None:
        """What a coroutine ends with is waited for as well, if it is a Deferred."""
        first: Deferred[None] = Deferred()
        second: Deferred[str] = Deferred()

        async def handler(event: Any) -> Any:
            await first
            return second

        self.add(handler)
        done = self.start()
        first.callback(None)
        self.assertNoResult(done)
        second.callback("at last")
        self.assertEqual(self.successResultOf(done).values, ("at last",))

    def test_deferred_with_a_callback_chain(self) -> None:
        """The chain of a handler's Deferred is waited for, as far as it was there."""
        outer: Deferred[Any] = Deferred()
        inner: Deferred[str] = Deferred()
        outer.addCallback(lambda _: inner)
        self.add(lambda event: outer)
        done = self.start()
        outer.callback(None)
        self.assertNoResult(done)
        inner.callback("inner")
        self.assertEqual(self.successResultOf(done).values, ("inner",))

    def test_handler_keeps_its_deferred(self) -> None:
        """Callbacks that are added to a handler's Deferred later see its result."""
        gates = self.wait()
        done = self.start()
        gates[0].callback("value")
        self.successResultOf(done)
        self.assertEqual(self.successResultOf(gates[0]), "value")

    def test_handler_fires_an_earlier_ones_deferred(self) -> None:
        """A handler may end an earlier handler of its own event, while it is being called."""
        gates = self.wait("waits")
        self.add(lambda event: gates[0].callback("ended"))
        self.hear("last")
        self.hear("after", "after")
        result = self.fire()
        self.assertEqual(result.values[0], "ended")
        self.assertEqual(self.heard, ["waits", "last", "after"])


class SequentialTests(RunningCase):
    """Handlers of a sequential phase run one after another."""

    def test_one_after_another(self) -> None:
        """A handler is called when the one before it has ended."""
        self.use(phases=ONE_BY_ONE)
        first, second = self.wait("first"), self.wait("second")
        self.hear("third")
        self.hear("after", "after")
        done = self.start()
        self.assertEqual(self.heard, ["first"])
        first[0].callback(1)
        self.assertEqual(self.heard, ["first", "second"])
        second[0].callback(2)
        self.assertEqual(self.heard, ["first", "second", "third", "after"])
        self.assertEqual(self.successResultOf(done).values, (1, 2, None, None))

    def test_goes_on_after_a_failure(self) -> None:
        """Where errors do not abort, the next handler is called after a failure."""
        self.use(phases=ONE_BY_ONE)
        self.add(self.raising(ValueError("bad")))
        self.hear("next")
        self.assertEqual(len(self.fire().failures), 1)
        self.assertEqual(self.heard, ["bad", "next"])
        self.flush(ValueError)

    def test_removed_meanwhile(self) -> None:
        """A handler that is removed before its turn is not called, and not in the result."""
        self.use(phases=ONE_BY_ONE)
        first = self.wait("first")
        removed = self.hear("removed")
        self.hear("last")
        done = self.start()
        self.remove(removed)
        first[0].callback(None)
        self.assertEqual(self.heard, ["first", "last"])
        self.assertEqual([o.handler_id for o in self.successResultOf(done)], [1, 3])

    def test_handler_ends_within_its_own_call(self) -> None:
        """A handler that removes itself and ends at once does not upset the order."""
        self.use(phases=ONE_BY_ONE)
        handler_id = self.add(lambda event: self.remove(handler_id))
        self.hear("next")
        self.fire()
        self.assertEqual(self.heard, ["next"])

    def test_a_thousand_without_recursion(self) -> None:
        """Many handlers with fired Deferreds run one after another without recursion."""
        self.use(phases=ONE_BY_ONE)
        for number in range(2_000):
            self.add(lambda event, number=number: succeed(number))
        self.assertEqual(self.fire().values, tuple(range(2_000)))

    def test_result_names_those_that_were_called(self) -> None:
        """While a sequential phase runs, only those that were called are in the result."""
        self.use(phases=ONE_BY_ONE)
        self.add(lambda event: "one")
        lengths: list[int] = []
        self.add(lambda event: lengths.append(len(self.dispatcher.result_so_far())))
        self.hear("third")
        self.fire()
        self.assertEqual(lengths, [2])


class ContinueTests(RunningCase):
    """By default a failure is logged once and kept in the result, and the rest runs."""

    def test_failures_of_every_kind(self) -> None:
        """Raised, in a coroutine, in a Deferred, late: each is in the result in its place."""
        gate: Deferred[None] = Deferred()

        async def late(event: Any) -> None:
            await gate
            raise ValueError("late")

        async def early(event: Any) -> None:
            raise ValueError("early")

        self.add(self.raising(ValueError("raised")))
        self.add(late)
        self.add(early)
        self.add(lambda event: fail(ValueError("deferred")))
        self.hear("rest")
        self.hear("after", "after")
        done = self.start()
        self.assertEqual(self.heard, ["raised", "rest"])
        gate.callback(None)
        failures = self.successResultOf(done).failures
        texts = ["raised", "late", "early", "deferred"]
        self.assertEqual([f.getErrorMessage() for f in failures], texts)
        self.assertEqual(self.heard, ["raised", "rest", "after"])
        self.assertEqual(sorted(self.flush(ValueError)), sorted(texts))
        self.assertEqual(self.dispatcher.statistics()["handler_failures"], 4)

    def test_log_names_handler_and_phase(self) -> None:
        """The log says which handler failed, where it was registered, and in which phase."""
        self.add(self.raising(ValueError("bad")), "after")
        self.fire()
        [text] = self.logs(LogLevel.critical)
        self.assertIn("RunningCase.raising.<locals>.handler", text)
        self.assertIn("in phase after", text)
        self.assertIn("cases.py:", text)
        self.flush(ValueError)

    def test_returned_failure_counts(self) -> None:
        """A handler that returns a Failure has failed."""
        self.add(lambda event: Failure(ValueError("returned")))
        self.assertEqual(len(self.fire().failures), 1)
        self.assertEqual(self.flush(ValueError), ["returned"])


class AbortTests(RunningCase):
    """A failure in a phase whose on_error is "abort" ends the event."""

    def setUp(self) -> None:
        """Use a phase that aborts, one after it, and one that always runs."""
        super().setUp()
        self.use(phases=ABORTING)

    def test_concurrent_phase_finishes(self) -> None:
        """The others of a concurrent phase are called and waited for; later phases are skipped."""
        self.add(self.raising(ValueError("bad")))
        gates = self.wait("slow")
        self.hear("after", "after")
        done = self.start()
        self.assertNoResult(done)
        gates[0].callback("slow value")
        error = self.failing(done, EventAbortedError)
        self.assertEqual(self.heard, ["bad", "slow"])
        self.assertEqual(error.result.values, ("slow value",))
        self.flush(ValueError)

    def test_error_carries_every_failure(self) -> None:
        """The error names event and phase, and carries each failure in call order."""
        gates = self.wait()
        self.add(self.raising(ValueError("second")))
        self.add(self.raising(KeyError("late")), "always")
        event = object()
        done = self.start(event)
        gates[0].errback(ZeroDivisionError("first"))
        error = self.failing(done, EventAbortedError)
        self.assertEqual(
            [f.type for f in error.failures], [ZeroDivisionError, ValueError, KeyError]
        )
        self.assertEqual(error.failures, error.result.failures)
        self.assertIs(error.event, event)
        self.assertEqual(error.phase, "during")
        self.assertIn("ZeroDivisionError: first; ValueError: second", str(error))
        self.flush(ZeroDivisionError, ValueError, KeyError)

    def test_sequential_phase_stops_at_its_first_failure(self) -> None:
        """The rest of a sequential phase is not called, and not in the result."""
        self.use(phases=[Phase("during", on_error="abort", concurrent=False), "after"])
        gates = self.wait("first")
        second = self.hear("second")
        self.hear("after", "after")
        done = self.start()
        gates[0].errback(ValueError("bad"))
        error = self.failing(done, EventAbortedError)
        self.assertEqual(self.heard, ["first"])
        self.assertEqual(len(error.result), 1)
        self.assertEqual([h.calls for h in self.dispatcher.handlers()], [1, 0, 0])
        self.assertEqual(self.dispatcher.handlers()[1].handler_id, second)
        self.flush(ValueError)

    def test_always_runs_with_the_result_so_far(self) -> None:
        """A phase that always runs is called after an abort, and sees what was done."""
        self.add(self.raising(ValueError("bad")))
        self.hear("after", "after")
        seen: list[Any] = []

        def audit(event: Any) -> None:
            seen.extend(f.getErrorMessage() for f in self.dispatcher.result_so_far().failures)

        self.add(audit, "always")
        self.failing(self.start(), EventAbortedError)
        self.assertEqual((self.heard, seen), (["bad"], ["bad"]))
        self.flush(ValueError)

    def test_always_is_waited_for(self) -> None:
        """The event ends when the phase that always runs has ended."""
        self.add(self.raising(ValueError("bad")))
        gates = self.wait("cleaning", "always")
        done = self.start()
        self.assertNoResult(done)
        gates[0].callback(None)
        self.failing(done, EventAbortedError)
        self.flush(ValueError)

    def test_sequential_always_phase_stops_at_its_own_first_failure(self) -> None:
        """It aborts by itself too, after an earlier abort; the error names the first one."""
        always = Phase("always", on_error="abort", concurrent=False, always=True)
        self.use(phases=[Phase("during", on_error="abort"), always])
        self.add(self.raising(ValueError("one")))
        self.add(self.raising(ValueError("two")), "always")
        self.hear("three", "always")
        error = self.failing(self.start(), EventAbortedError)
        self.assertEqual(self.heard, ["one", "two"])
        self.assertEqual(error.phase, "during")
        self.flush(ValueError)

    def test_earlier_failures_are_carried_too(self) -> None:
        """Failures of phases that went on are carried by the error of one that aborts."""
        self.use(phases=["before", Phase("during", on_error="abort")])
        self.add(self.raising(ValueError("before")), "before")
        self.add(self.raising(ValueError("during")))
        error = self.failing(self.start(), EventAbortedError)
        self.assertEqual([f.getErrorMessage() for f in error.failures], ["before", "during"])
        self.flush(ValueError)

    def test_no_failure_no_abort(self) -> None:
        """An event without failures goes through all phases."""
        self.hear("during")
        self.hear("after", "after")
        self.hear("always", "always")
        self.fire()
        self.assertEqual(self.heard, ["during", "after", "always"])

    def test_next_event_after_an_abort(self) -> None:
        """The turn goes on to the next event after an abort."""
        gates = self.wait()
        first, second = self.start("first"), self.start("second")
        gates[0].errback(ValueError("bad"))
        self.failing(first, EventAbortedError)
        gates[1].callback(None)
        self.successResultOf(second)
        self.flush(ValueError)
