"""The benchmark measures what it says: every contender really calls its handlers, and no others.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
    import dispatch
    from _contender import Handlers
    from _harness import Once, Pair, Plan, Table, Timing, measure, spread

SMALL = dispatch.Scale(few=3, many=5, most=7, working_set=4)


class CountingHandlers(Handlers):
    """Handlers that write down that they were called, and called to their end.

    Attributes:
        calls: One entry per call, the number of the handler.
    """

    def __init__(self, calls: list[int], value: object = None) -> None:
        super().__init__(value)
        self.calls = calls
        self._made = 0

    def _number(self) -> int:
        self._made += 1
        return self._made

    def methods(self, count: int) -> list[Any]:
        """Make bound methods that count."""
        return self.keep([Ear(self._plain()).hear for _ in range(count)])

    def _plain(self) -> Any:
        number, calls, value = self._number(), self.calls, self.value

        def handler(event: object) -> object:
            calls.append(number)
            return value

        return handler

    def _named(self) -> Any:
        plain = self._plain()

        def handler(sender: object = None, **named: object) -> object:
            return plain(sender)

        return handler

    def _coroutine(self) -> Any:
        plain = self._plain()

        async def handler(event: object = None, **named: object) -> object:
            return plain(event)

        return handler

    def _awaiting(self, make: Callable[[], Any]) -> Any:
        plain = self._plain()

        async def handler(event: object = None, **named: object) -> object:
            await make()
            return plain(event)

        return handler


class Ear:
    """An object that hands what it hears to a function."""

    def __init__(self, function: Callable[[object], object]) -> None:
        self.function = function

    def hear(self, event: object) -> object:
        """Hear an event."""
        return self.function(event)


def expected(row: str) -> list[int]:
    """Give how often each handler is called in a row by one event, least called first."""
    if row.startswith("one of"):
        return [1]
    return [1] * int(row.split()[0])


class EveryContender(SynchronousTestCase):
    """Each pair, run with handlers that count."""

    def setUp(self) -> None:
        """Gather the pairs."""
        self.runners, self.left_out = dispatch.contenders()
        self.addCleanup(dispatch.close_loop)

    def gather(self) -> list[tuple[Pair, list[int]]]:
        """Give each pair with the list in which its handlers write."""
        found = []
        for runner in self.runners:
            calls: list[int] = []
            for pair in dispatch.pairs(
                [runner], SMALL, lambda value, calls=calls: CountingHandlers(calls, value)
            ):
                found.append((pair, calls))
        return found

    def test_each_event_reaches_its_handlers_once(self) -> None:
        """One event calls each handler that wants it exactly once, and no other one."""
        wrong = {}
        for pair, calls in self.gather():
            made = pair.build()
            if isinstance(made, Once):
                continue
            del calls[:]
            made(1)
            counts = sorted(calls.count(number) for number in set(calls))
            if counts != expected(pair.row):
                wrong[pair.contender, pair.row] = counts
        self.assertEqual({}, wrong)

    def test_a_batch_fires_as_often_as_told(self) -> None:
        """A batch of three makes three events."""
        wrong = {}
        for pair, calls in self.gather():
            made = pair.build()
            if isinstance(made, Once):
                continue
            del calls[:]
            made(3)
            if len(calls) != 3 * len(expected(pair.row)):
                wrong[pair.contender, pair.row] = len(calls)
        self.assertEqual({}, wrong)

    def test_random_users_are_different_users(self) -> None:
        """The random rows do not fire for one user again and again."""
        for pair, calls in self.gather():
            if pair.row.endswith("random"):
                made = pair.build()
                del calls[:]
                made(3)
                self.assertEqual(3, len(set(calls)), pair)

    def test_registering_calls_nobody(self) -> None:
        """What is timed in the registering row registers, and fires nothing."""
        seen = []
        for pair, calls in self.gather():
            made = pair.build()
            if isinstance(made, Once):
                seen.append(pair.contender)
                self.assertEqual(SMALL.many, made.count)
                del calls[:]
                self.assertIsNotNone(made.prepare()())
                self.assertEqual([], calls)
        self.assertIn("Oni, weak functions (default)", seen)

    def test_every_registration_weighs_something(self) -> None:
        """The bytes per handler are a positive figure."""
        for runner in self.runners:
            if runner.connect is not None and not runner.limit:
                self.assertGreater(dispatch.bytes_per_handler(runner, 200), 0, runner.name)

    def test_oni_takes_part_in_every_row(self) -> None:
        """Together, Oni's ways stand in every row that there is."""
        rows: dict[bool, set[str]] = {True: set(), False: set()}
        for pair, _ in self.gather():
            rows[pair.contender.startswith("Oni")].add(pair.row)
        self.assertEqual(set(), rows[False] - rows[True])

    def test_a_missing_package_is_named(self) -> None:
        """A package that is not installed is left out, and a sentence says so."""
        with mock.patch.dict(sys.modules, {"blinker": None}):
            runners, left_out = dispatch.contenders()
        self.assertEqual([], [r.name for r in runners if r.name.startswith("blinker")])
        self.assertEqual(1, len([line for line in left_out if line.startswith("blinker is left")]))


class Selecting(SynchronousTestCase):
    """``--only`` chooses pairs."""

    def pairs(self, *named: tuple[str, str]) -> list[Pair]:
        """Make pairs that nobody builds."""
        return [Pair(contender, row, lambda: lambda count: None) for contender, row in named]

    def test_what_fits_is_kept_with_its_yardstick(self) -> None:
        """The limit of a chosen row comes along; other rows and contenders do not."""
        limit = dispatch.LOOP_AND_SUCCEED
        every = self.pairs(
            (limit, "1 handlers"), (limit, "10 handlers"),
            ("Oni", "1 handlers"), ("Oni", "10 handlers"), ("blinker", "10 handlers"),
        )  # fmt: skip
        chosen = dispatch.select(every, "^oni: 10 ")
        self.assertEqual(
            [(limit, "10 handlers"), ("Oni", "10 handlers")],
            [(pair.contender, pair.row) for pair in chosen],
        )

    def test_without_a_pattern_everything_is_kept(self) -> None:
        """No pattern means all."""
        every = self.pairs(("Oni", "1 handlers"), ("blinker", "10 handlers"))
        self.assertEqual(every, dispatch.select(every, None))


class Measuring(SynchronousTestCase):
    """The harness."""

    plan = Plan(rounds=3, windows=2, seconds=0.0001, patience=0)

    def test_every_pair_is_timed_in_every_round(self) -> None:
        """As many figures as rounds, and none of them is nothing."""
        pairs = [
            Pair(name, "counting", lambda: lambda count: sum(range(count))) for name in ("a", "b")
        ]
        timings = measure(pairs, self.plan)
        self.assertEqual([3, 3], [len(timing.rounds) for timing in timings.values()])
        self.assertTrue(all(timing.best > 0 for timing in timings.values()))

    def test_what_takes_too_long_is_not_repeated(self) -> None:
        """A single measurement beyond the plan's patience is the last of its kind."""
        prepared = []

        def prepare() -> Callable[[], object]:
            prepared.append(True)
            return lambda: sum(range(1000))

        timings = measure([Pair("a", "once", lambda: Once(prepare, 10))], self.plan)
        self.assertEqual(1, len(prepared))
        self.assertEqual(1, len(timings["a", "once"].rounds))

    def test_the_spread_is_how_far_the_median_lies_above_the_best(self) -> None:
        """Best 10, median 12: a fifth above."""
        usual, worst = spread([Timing([10.0, 12.0, 30.0])])
        self.assertAlmostEqual(0.2, usual)
        self.assertAlmostEqual(0.2, worst)


class Printing(SynchronousTestCase):
    """Tables, and the program as a whole."""

    table = Table("Title", ("name", "10"), [("a", "1,000"), ("b", "")], ("A note.",))

    def test_text(self) -> None:
        """Figures stand at the right, names at the left."""
        self.assertEqual(
            "Title\nname     10\n----  -----\na     1,000\nb\n  A note.", self.table.text()
        )

    def test_markdown(self) -> None:
        """A table with a rule that aligns the figures."""
        self.assertIn("| --- | ---: |\n| a | 1,000 |", self.table.markdown())

    def test_rst(self) -> None:
        """A list table; an empty cell is still a cell."""
        self.assertIn("   * - a\n     - 1,000\n   * - b\n     -\n", self.table.rst())

    def test_the_program_prints_figures_and_targets(self) -> None:
        """A run over one row prints that row, its target, and on what it ran."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            dispatch.main(["--quick", "--rounds", "1", "--only", "Oni, weak functions.*: 10 hand"])
        text = printed.getvalue()
        self.assertRegex(text, r"(?m)^plain loop, one succeed +[\d,]+ +1\.00")
        self.assertRegex(text, r"(?m)^10 handlers: Oni, weak functions \(default\) +2\.3 +\d")
        self.assertIn("cores", text)
        self.assertIsNone(re.search(r"(?m)^blinker", text))
