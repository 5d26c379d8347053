"""The state machine by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import DeliveryStateError
from oni.ledger import TRANSITIONS
from oni.ledger import _states as states
from oni.values import Delivery, Handling, LedgerEvent, OnCrash

STEPS: dict[str, Callable[[Delivery], Delivery]] = {
    "claimed": lambda d: states.claimed(d, "owner", 5.0, 10.0),
    "extended": lambda d: states.extended(d, 5.0, 10.0),
    "completed": lambda d: states.completed(d, 5.0),
    "failed": lambda d: states.failed(d, "no", 5.0, False, None),
    "failed for good": lambda d: states.failed(d, "no", 5.0, True, None),
    "released": lambda d: states.released(d, 5.0),
    "rescued": lambda d: states.rescued(d, 5.0),
    "caught up": lambda d: states.caught_up(d, 5.0),
    "resolved as done": lambda d: states.resolved(d, "done", 5.0),
    "resolved for another try": lambda d: states.resolved(d, "retry", 5.0),
}
BY_OPERATORS = {"resolved as done", "resolved for another try"}
POLICIES: tuple[OnCrash, ...] = ("retry", "park", "transaction")


def every_delivery() -> list[Delivery]:
    """Give one of each state and policy, at its first and at its last attempt."""
    return [
        Delivery("h", "k", state=state, on_crash=policy, max_attempts=3, attempts=n, token=7)
        for state in states.STATES
        for policy in POLICIES
        for n in (1, 3)
    ]


class TransitionTests(SynchronousTestCase):
    """Which step may be taken where."""

    def test_only_these(self) -> None:
        """Each step leads to a state that may follow, or is refused; each that may follow does."""
        seen: dict[str, set[str]] = {state: set() for state in states.STATES}
        for delivery in every_delivery():
            for step in STEPS.values():
                try:
                    seen[delivery.state].add(step(delivery).state)
                except DeliveryStateError:
                    continue
        self.assertEqual(seen, {state: set(after) for state, after in TRANSITIONS.items()})

    def test_ends_are_ends(self) -> None:
        """What is done, dead or uncertain changes by an operator alone."""
        for delivery in every_delivery():
            if delivery.state in ("done", "dead", "uncertain"):
                for name in STEPS.keys() - BY_OPERATORS:
                    with self.assertRaises(DeliveryStateError):
                        STEPS[name](delivery)

    def test_tokens_never_shrink(self) -> None:
        """A claim's token is new; nothing else changes it."""
        for delivery in every_delivery():
            for name, step in STEPS.items():
                try:
                    after = step(delivery)
                except DeliveryStateError:
                    continue
                self.assertEqual(after.token, 8 if name == "claimed" else 7, name)

    def test_an_owner_runs_it(self) -> None:
        """Who runs has an owner and a lease, nobody else has."""
        for delivery in every_delivery():
            for name, step in STEPS.items():
                delivery = replace(delivery, owner="owner", lease_until=1.0)
                try:
                    after = step(delivery)
                except DeliveryStateError:
                    continue
                runs = after.state == "running"
                self.assertEqual((bool(after.owner), bool(after.lease_until)), (runs, runs), name)


class DelayTests(SynchronousTestCase):
    """When the next attempt is."""

    def test_backoff(self) -> None:
        """The delay doubles up to five minutes."""
        self.assertEqual([states.backoff(n) for n in (1, 2, 3, 9, 10)], [1, 2, 4, 256, 300])
        self.assertEqual(states.backoff(10_000), 300)

    def test_rescued_at_once(self) -> None:
        """After the first crash it may run at once; after more of them it waits."""
        running = Delivery("h", "k", state="running", max_attempts=9, attempts=1)
        self.assertEqual(states.rescued(running, 5.0).next_at, 5.0)
        self.assertEqual(states.rescued(replace(running, crashes=1), 5.0).next_at, 6.0)
        self.assertEqual(states.rescued(replace(running, crashes=2), 5.0).next_at, 7.0)

    def test_an_operator_starts_anew(self) -> None:
        """After an operator's word all attempts are there again."""
        dead = Delivery("h", "k", state="dead", attempts=5, crashes=2, token=5)
        after = states.resolved(dead, "retry", 5.0)
        self.assertEqual((after.attempts, after.crashes, after.token), (0, 0, 5))

    def test_errors_are_bounded(self) -> None:
        """An endless error text is cut."""
        running = Delivery("h", "k", state="running")
        after = states.failed(running, "x" * 10_000, 5.0, False, None)
        self.assertEqual(len(after.last_error), 4096)

    def test_ranks(self) -> None:
        """Each one knows how many of a lower rank it waits for, and how many wait for it."""
        handlings = (Handling("a", rank=2), Handling("b"), Handling("c"), Handling("d", rank=1))
        after = states.admitted(LedgerEvent("k", handlings=handlings), 5.0)
        self.assertEqual(
            {each.handler: (each.rank, each.waits_for, each.awaited_by) for each in after},
            {"a": (2, 3, 0), "b": (0, 0, 2), "c": (0, 0, 2), "d": (1, 2, 1)},
        )

    def test_admitted(self) -> None:
        """An event without handlers has no deliveries."""
        self.assertEqual(states.admitted(LedgerEvent("k"), 5.0), [])
