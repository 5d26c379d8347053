"""The values that rooms exchange."""

from __future__ import annotations

import dataclasses
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    InvalidHandlingError,
    InvalidPhaseError,
    InvalidTimeoutError,
    WatchersFailedError,
)
from oni.values import (
    SKIPPED,
    EventResult,
    HandlerInfo,
    Handling,
    Outcome,
    PendingEvent,
    Phase,
    Position,
    Publication,
    is_seconds,
)


class PhaseTests(SynchronousTestCase):
    """What a phase may be."""

    def test_defaults(self) -> None:
        """A phase goes on after errors, runs its handlers at once, and has no limit."""
        phase = Phase("during")
        self.assertEqual(
            dataclasses.astuple(phase), ("during", "continue", True, None, False, True)
        )

    def test_is_a_value(self) -> None:
        """Equal phases are equal, and none can be changed."""
        self.assertEqual(Phase("a", always=True), Phase("a", always=True))
        self.assertNotEqual(Phase("a"), Phase("b"))
        with self.assertRaises(dataclasses.FrozenInstanceError):
            Phase("a").name = "b"  # type: ignore[misc]

    def test_name(self) -> None:
        """A name is a non-empty string."""
        for name in ("", None, 5, b"during"):
            error = self.assertRaises(InvalidPhaseError, Phase, name)
            self.assertIn(repr(name), str(error))

    def test_on_error(self) -> None:
        """on_error is one of two words, which the error names."""
        error = self.assertRaises(InvalidPhaseError, Phase, "a", on_error="stop")
        self.assertIn("'continue' or 'abort', not 'stop'", str(error))

    def test_timeout(self) -> None:
        """A time limit is a positive number of seconds; the error names the phase."""
        for timeout in (0, -1, "5", True, float("nan"), float("inf")):
            error = self.assertRaises(InvalidTimeoutError, Phase, "a", timeout=timeout)
            self.assertIn("phase 'a'", str(error))
        self.assertEqual(Phase("a", timeout=0.5).timeout, 0.5)


class SecondsTests(SynchronousTestCase):
    """What counts as a number of seconds."""

    def test_positive_and_finite(self) -> None:
        """Positive, finite integers and floats, nothing else."""
        good = [value for value in (1, 0.001, 10**9) if is_seconds(value)]
        self.assertEqual(len(good), 3)
        bad: list[Any] = [0, -1, 0.0, True, None, "1", 1j, float("nan"), float("inf")]
        self.assertEqual([value for value in bad if is_seconds(value)], [])


class EventResultTests(SynchronousTestCase):
    """What became of one event."""

    def setUp(self) -> None:
        """Make a result with two phases: values, a failure, and one that was skipped."""
        self.failure = Failure(ZeroDivisionError("zero"))
        self.result = EventResult(
            "event",
            {"user": "bob"},
            [
                (("before", (3, 5)), [None, self.failure]),
                (("after", (1, 2, 4)), ["x", SKIPPED]),
            ],
        )

    def test_raise_failures(self) -> None:
        """It fails as a whole where one handler did, and else says nothing."""
        raised = self.assertRaises(WatchersFailedError, self.result.raise_failures)
        self.assertEqual((self.failure,), raised.failures)
        EventResult("event", {}, [(("before", (3,)), ["x"])]).raise_failures()

    def test_outcomes(self) -> None:
        """Every called handler has an outcome, in call order; what is missing is None."""
        self.assertEqual(
            self.result.outcomes,
            (
                Outcome(3, "before", None),
                Outcome(5, "before", self.failure),
                Outcome(1, "after", "x"),
                Outcome(4, "after", None),
            ),
        )
        self.assertEqual(tuple(self.result), self.result.outcomes)
        self.assertEqual(len(self.result), 4)

    def test_values_and_failures(self) -> None:
        """Values and failures are told apart."""
        self.assertEqual(self.result.values, (None, "x", None))
        self.assertEqual(self.result.failures, (self.failure,))
        self.assertEqual([o.failed for o in self.result], [False, True, False, False])

    def test_is_true(self) -> None:
        """A result is true, also without outcomes."""
        self.assertTrue(EventResult("event", {}))
        self.assertEqual(len(EventResult("event", {})), 0)

    def test_state(self) -> None:
        """A result says whether the event was dispatched."""
        self.assertTrue(self.result.dispatched)
        refused = EventResult("event", {}, (), "stopped")
        self.assertFalse(refused.dispatched)
        self.assertIn("state='stopped'", repr(refused))

    def test_repr(self) -> None:
        """It shows event, details and outcomes."""
        text = repr(EventResult("event", {"user": "bob"}, [(("p", (1,)), [7])]))
        self.assertIn("'event', {'user': 'bob'}", text)
        self.assertIn("Outcome(handler_id=1, phase='p', value=7)", text)
        self.assertNotIn("state", text)

    def test_cannot_be_changed(self) -> None:
        """Its fields cannot be set."""
        with self.assertRaises(AttributeError):
            self.result.event = "other"  # type: ignore[misc]

    def test_skipped(self) -> None:
        """What stands for a skipped handler shows as that."""
        self.assertEqual(repr(SKIPPED), "SKIPPED")


class OtherTests(SynchronousTestCase):
    """The small values."""

    def test_pending_event(self) -> None:
        """A pending event says in one line what it is and what it waits for."""
        queued = PendingEvent("event", {}, "queued", "", ("its turn",), 1.5)
        self.assertEqual(str(queued), "'event' (queued, waits for its turn)")
        running = PendingEvent("event", {}, "running", "during", ("a", "b"), None)
        self.assertEqual(str(running), "'event' (running in phase 'during', waits for a, b)")
        called = PendingEvent("event", {}, "nested", "after", (), None)
        self.assertEqual(str(called), "'event' (nested in phase 'after')")

    def test_positions_of_one_epoch_are_ordered(self) -> None:
        """Offsets order the positions of one epoch."""
        self.assertLess(Position("e", 2), Position("e", 10))
        self.assertEqual(Position("e", 2), Position("e", 2))

    def test_handlings_that_cannot_be(self) -> None:
        """What no ledger could keep is refused, whatever its database is."""
        for wrong in (
            {"on_crash": "hope"},
            *({"max_attempts": number} for number in (0, True, 1.0, "1", 2**31)),
            *({"rank": number} for number in (-1, True, 1.0, "1", 2**31)),
        ):
            with self.assertRaises(InvalidHandlingError):
                Handling("mail", **wrong)  # type: ignore[arg-type]
        Handling("mail", max_attempts=2**31 - 1, rank=2**31 - 1)

    def test_publication_defaults(self) -> None:
        """A publication needs an event and data; each has tags of its own."""
        first, second = Publication("a", 1), Publication("a", 1)
        self.assertEqual(first, second)
        self.assertIsNot(first.tags, second.tags)
        self.assertEqual((first.position, first.prev, first.info), (None, 0, None))

    def test_frozen(self) -> None:
        """None of them can be changed or takes further attributes."""
        values: list[Any] = [
            Outcome(1, "p", None),
            Position("e", 1),
            Publication("a", 1),
            PendingEvent("event", {}, "queued", "", (), None),
            HandlerInfo(1, "f", "p", {}, True, None, None, 0, "f.py:1"),
        ]
        for value in values:
            name = dataclasses.fields(value)[0].name
            with self.assertRaises(dataclasses.FrozenInstanceError):
                setattr(value, name, "other")
            self.assertFalse(hasattr(value, "__dict__"), value)
