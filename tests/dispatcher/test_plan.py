"""Handlers compiled into flat lists, and the loops that call them."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher._plan import NO_PLAN, PhasePlan, Plan, compile_plan, only_plain
from oni.dispatcher._registration import Registration
from oni.values import SKIPPED, EventResult, Outcome, Phase


class Owner:
    """Something that notes what its handlers are called with."""

    def __init__(self, returns: Any = None) -> None:
        self.heard: list[Any] = []
        self.returns = returns

    def method(self, event: Any) -> Any:
        """Note the event."""
        self.heard.append(event)
        return self.returns

    async def coroutine(self, event: Any) -> Any:
        """Note the event."""
        self.heard.append(event)
        return self.returns

    def raising(self, event: Any) -> Any:
        """Raise."""
        raise ZeroDivisionError

    async def raising_later(self, event: Any) -> Any:
        """Raise."""
        raise ZeroDivisionError

    __call__ = method


class PlanCase(SynchronousTestCase):
    """A test that makes registrations by hand."""

    def setUp(self) -> None:
        """Begin to count."""
        self.ids = itertools.count(1)
        self.dead: deque[Any] = deque()

    def register(
        self, handler: Callable[[Any], Any], weak: bool = True, phase: str = "during"
    ) -> Registration:
        """Make a registration."""
        place = (sys._getframe().f_code, 1)
        return Registration(next(self.ids), handler, phase, {}, weak, None, None, place, self.dead)

    def compile(self, *registrations: Registration) -> PhasePlan:
        """Compile registrations of one phase."""
        (part,) = compile_plan(registrations, [Phase("during")]).phases
        return part

    def outcomes(self, part: PhasePlan, event: Any = "event") -> list[Any]:
        """Call a phase; give each handler's value as the result shows it."""
        result = EventResult(event, {}, [(part.head, part.loop(part.slots, event))])
        return [outcome.value for outcome in result]


class LoopTests(PlanCase):
    """The loops, over handlers of each kind."""

    def handlers(self, owner: Owner) -> list[tuple[Callable[[Any], Any], bool]]:
        """Give a handler of each kind, with whether it is held weakly."""
        return [
            (handler, weak)
            for handler in (owner, owner.method, owner.coroutine)
            for weak in (True, False)
        ]

    def test_none_is_not_kept(self) -> None:
        """Where all return None, nothing is kept, and every handler is in the result."""
        owner = Owner()
        for handler, weak in self.handlers(owner):
            part = self.compile(*(self.register(handler, weak) for _ in range(3)))
            kept = part.loop(part.slots, "event")
            self.assertTrue(all(value is None for value in kept))
            self.assertEqual(self.outcomes(part), [None] * 3)

    def test_every_mixture(self) -> None:
        """Values stand at their handler's place, whatever kinds stand side by side."""
        values = ["a", None, "c"]
        owners = [Owner(value) for value in values]
        for kinds in itertools.product(range(6), repeat=3):
            part = self.compile(
                *(
                    self.register(*self.handlers(owner)[kind])
                    for owner, kind in zip(owners, kinds, strict=True)
                )
            )
            self.assertEqual(self.outcomes(part), values, kinds)

    def test_failures_at_every_place(self) -> None:
        """A handler that raises has its failure at its place, and stops nobody."""
        owner = Owner("v")
        good_and_bad = [
            (owner, owner.raising),
            (owner.method, owner.raising),
            (owner.coroutine, owner.raising_later),
        ]
        for (good, bad), weak in itertools.product(good_and_bad, (True, False)):
            for pattern in itertools.product((True, False), repeat=3):
                part = self.compile(
                    *(self.register(good if each else bad, weak) for each in pattern)
                )
                failed = [isinstance(value, Failure) for value in self.outcomes(part)]
                self.assertEqual(failed, [not each for each in pattern])

    def test_overwritten_at_every_place(self) -> None:
        """A place that is overwritten is passed over, and left out of the result."""
        owner = Owner("v")
        for handler, weak in self.handlers(owner):
            for place in range(4):
                registrations = [self.register(handler, weak) for _ in range(4)]
                part = self.compile(*registrations)
                part.overwrite(registrations[place].handler_id)
                self.assertEqual(self.outcomes(part), ["v"] * 3)
                owner.heard.clear()
                part.call_one(place, "event")
                self.assertEqual(owner.heard, [])

    def test_overwriting_a_stranger(self) -> None:
        """A handler that is not in the phase changes nothing."""
        owner = Owner("v")
        part = self.compile(self.register(owner), self.register(owner))
        part.overwrite(99)
        part.overwrite(0)
        self.assertEqual(self.outcomes(part), ["v", "v"])

    def test_dead_at_every_place(self) -> None:
        """A handler that has died is passed over, and left out of the result."""
        for name in ("method", "coroutine", "__call__"):
            for place in range(3):
                owners = [Owner(n) for n in range(3)]
                registrations = [
                    self.register(each if name == "__call__" else getattr(each, name))
                    for each in owners
                ]
                part = self.compile(*registrations)
                del owners[place]
                self.assertIs(self.dead[-1], registrations[place])
                self.assertEqual(self.outcomes(part), [o.returns for o in owners], name)
                self.assertEqual(part.call_one(place, "event"), SKIPPED)

    def test_call_one(self) -> None:
        """One place can be called alone: it gives the value, a Failure, or None."""
        owner = Owner("v")
        quiet = Owner()
        part = self.compile(
            *(
                self.register(handler)
                for handler in (owner, quiet.method, owner.raising, owner.coroutine)
            )
        )
        values = [part.call_one(place, "event") for place in range(4)]
        self.assertEqual((values[0], values[1], values[3]), ("v", None, "v"))
        self.assertIsInstance(values[2], Failure)


class CompileTests(PlanCase):
    """Plans over several phases."""

    def test_phases_in_order(self) -> None:
        """Phases come in the given order; those without handlers are left out."""
        owner = Owner()
        registrations = [self.register(owner, phase=name) for name in ("c", "a", "c")]
        plan = compile_plan(registrations, [Phase(name) for name in "abc"])
        heads = [part.head for part in plan.phases]
        self.assertEqual(heads, [("a", (2,)), ("c", (1, 3))])

    def test_simple(self) -> None:
        """Simple is what has no order, limit, abort or early end among the phases it uses."""
        owner = Owner()
        special = [
            Phase("p", concurrent=False),
            Phase("p", on_error="abort"),
            Phase("p", timeout=3),
            Phase("p", holds_turn=False),
        ]
        for phase in special:
            plain = Phase("plain")
            for used, simple in (("plain", True), ("p", False)):
                plan = compile_plan([self.register(owner, phase=used)], [plain, phase])
                self.assertEqual(plan.simple, simple)
        self.assertTrue(NO_PLAN.simple)

    def test_overwrite_only_its_phase(self) -> None:
        """A removal overwrites the handler in its own phase."""
        owner = Owner("v")
        first, second = (self.register(owner, phase=name) for name in "ab")
        plan = compile_plan([first, second], [Phase("a"), Phase("b")])
        plan.overwrite(second)
        self.assertEqual([self.outcomes(part) for part in plan.phases], [["v"], []])

    def test_count_calls(self) -> None:
        """Runs are added to the handlers once."""
        owner = Owner()
        registrations = [self.register(owner, phase=name) for name in "aab"]
        plan: Plan = compile_plan(registrations, [Phase("a"), Phase("b")])
        plan.runs += 3
        plan.count_calls()
        plan.count_calls()
        self.assertEqual([r.calls for r in registrations], [3, 3, 3])
        self.assertEqual(plan.runs, 0)


class OnlyPlainTests(SynchronousTestCase):
    """The quick look at what was kept."""

    def test_plain(self) -> None:
        """Plain values need no further look; what may have to be waited for does."""
        self.assertTrue(only_plain([]))
        self.assertTrue(only_plain([1, "a", None, [], 1.5, True]))
        for value in (Deferred(), Failure(ValueError()), object(), SKIPPED):
            self.assertFalse(only_plain([1, value]))

    def test_outcome(self) -> None:
        """What is kept is what the result shows."""
        result = EventResult("e", {}, [(("p", (7, 8, 9)), [None, "x", SKIPPED])])
        self.assertEqual(list(result), [Outcome(7, "p", None), Outcome(8, "p", "x")])
