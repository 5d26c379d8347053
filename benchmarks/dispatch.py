"""Oni's dispatcher beside its peers: one table from one interleaved run.

``python benchmarks/dispatch.py`` takes some minutes, ``--quick`` half a minute (with wider
error). Every figure is nanoseconds for one event unless the heading says otherwise. Oni's figures
include its result object; its dispatcher is started and has the default order. How the timing is
done is told in ``_harness.py``, how each library is used in ``_peers.py``.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # measures this checkout

from _contender import Contender, Handlers, repeated
from _harness import (
    Batch,
    Once,
    Pair,
    Plan,
    Table,
    Timing,
    describe_machine,
    measure,
    spread,
    to_stderr,
    versions,
)
from _limits import LOOP_AND_SUCCEED, SEND_AND_SUCCEED, limits
from _oni import ADAPTED, DETAILS, METHODS, SIGNAL, SPECS, STRONG, WEAK, oni
from _peers import close_loop, peers

SYNCHRONOUS = (0, 1, 10, 100)
VALUES = (10, 100)
QUIET, SUSPENDING = "10 coroutines", "10 coroutines that suspend"
REGISTER = "registering"
PYEE = "pyee EventEmitter"


@dataclass(frozen=True, slots=True)
class Scale:
    """How many handlers the larger rows have.

    Attributes:
        few: The small side of one match among many.
        many: The size at which every peer takes part, also in registering.
        most: The size at which only those take part that register fast enough.
        working_set: How many different users the random events are for.
        patient: Whether peers that register for seconds take part.
    """

    few: int = 10
    many: int = 10_000
    most: int = 1_000_000
    working_set: int = 100_000
    patient: bool = True


FULL = Scale()
QUICK = Scale(most=100_000, working_set=20_000, patient=False)


# --- What is measured ----------------------------------------------------------------------------


def contenders() -> tuple[list[Contender], list[str]]:
    """Gather the contenders.

    Returns:
        Those that can run, and a sentence for each package that cannot.
    """
    found, left_out = list(limits()), []
    for name, offer in {"Oni": oni, **peers}.items():
        try:
            found += offer()
        except ImportError as error:
            left_out.append(f"{name} is left out: it is not installed ({error}).")
    return found, left_out


def one_of(count: int, how: str = "") -> str:
    """Name the row of one match among so many."""
    return f"one of {count:,}{', ' + how if how else ''}"


def synchronous(count: int) -> str:
    """Name the row of so many handlers."""
    return f"{count} handlers"


def returning(count: int) -> str:
    """Name the row of so many handlers that return values."""
    return f"{count} handlers that return values"


def pairs(
    runners: Sequence[Contender],
    scale: Scale,
    make: Callable[[object], Handlers] = Handlers,
) -> Iterator[Pair]:
    """Give every pair of a contender and a row that it takes part in.

    Args:
        runners: The contenders.
        scale: The sizes.
        make: Makes the handlers' maker, given what the handlers return.
    """
    for runner in runners:
        yield from _calling(runner, make)
        yield from _matching(runner, scale, make)
        if runner.coroutines is not None:
            for row, suspends in ((QUIET, False), (SUSPENDING, True)):
                if not (suspends and runner.limit):
                    yield Pair(runner.name, row, _awaiting(runner, suspends, make))
        if runner.connect is not None and not runner.limit and (scale.patient or not runner.slow):
            yield Pair(runner.name, REGISTER, _registering(runner, scale.many, make))


def _calling(runner: Contender, make: Callable[[object], Handlers]) -> Iterator[Pair]:
    connect, emit = runner.connect, runner.emit
    if connect is None or emit is None:
        return

    def build(count: int, value: object) -> Callable[[], Batch]:
        handlers = make(value)

        def build() -> Batch:
            return _keeping(handlers, repeated(emit(connect(runner.handlers(handlers, count)))))

        return build

    for count in SYNCHRONOUS:
        yield Pair(runner.name, synchronous(count), build(count, None))
    if runner.limit or "collects" in runner.does:
        for count in VALUES:
            yield Pair(runner.name, returning(count), build(count, "a value"))


def _keeping(handlers: Handlers, batch: Batch) -> Batch:
    """Keep handlers alive that the library holds weakly."""

    def keep(count: int, handlers: Handlers = handlers) -> object:
        return batch(count)

    return keep


def _awaiting(
    runner: Contender, suspends: bool, make: Callable[[object], Handlers]
) -> Callable[[], Batch]:
    def build() -> Batch:
        handlers = make(None)
        return _keeping(handlers, runner.coroutines(handlers, suspends))

    return build


def _matching(
    runner: Contender, scale: Scale, make: Callable[[object], Handlers]
) -> Iterator[Pair]:
    match = runner.match
    if match is None:
        return
    sizes = [scale.few]
    if scale.patient or not runner.slow:
        sizes.append(scale.many)
    if runner.huge:
        sizes.append(scale.most)
    for size in sizes:
        race = _Match(match, make(None), size, scale.working_set)
        yield Pair(runner.name, one_of(size), race.same)
        if runner.huge and size != scale.many:
            yield Pair(runner.name, one_of(size, "random"), race.random)
        if runner.huge and size == scale.most:
            yield Pair(runner.name, one_of(size, "first time"), race.first)


class _Match:
    """One registry with a handler per user, and the three ways in which events come in."""

    def __init__(self, match: Any, handlers: Handlers, size: int, working_set: int) -> None:
        self._match, self._handlers = match, handlers
        self._size, self._working_set = size, working_set
        self._made: tuple[Any, list[Any], list[Any]] | None = None

    def _make(self) -> tuple[Any, list[Any], list[Any]]:
        """Give the call, the users of the random events, and those not heard of before."""
        if self._made is None:
            users = [f"user{number}" for number in range(self._size)]
            fire, keys = self._match(self._handlers, users)
            shuffled = random.sample(list(keys), len(keys))
            cut = min(self._working_set, len(shuffled))
            self._made = fire, shuffled[:cut], shuffled[cut:] or shuffled
        return self._made

    def same(self) -> Batch:
        """Fire for one user again and again."""
        fire, (user, *_), _ = self._make()

        def batch(count: int) -> None:
            for key in repeat(user, count):
                fire(key)

        return _keeping(self._handlers, batch)

    def random(self) -> Batch:
        """Fire for random users, each of whom has been fired for before."""
        fire, known, _ = self._make()
        for user in known:
            fire(user)
        users = cycle(random.sample(known, len(known)))

        def batch(count: int) -> None:
            for key in islice(users, count):
                fire(key)

        return _keeping(self._handlers, batch)

    def first(self) -> Batch:
        """Fire for users of whom no event has come before."""
        fire, _, fresh = self._make()
        users = cycle(fresh)

        def batch(count: int) -> None:
            for key in islice(users, count):
                fire(key)

        return _keeping(self._handlers, batch)


def _registering(
    runner: Contender, count: int, make: Callable[[object], Handlers]
) -> Callable[[], Once]:
    def prepare() -> Callable[[], object]:
        handlers = make(None)
        functions = runner.handlers(handlers, count)
        return lambda handlers=handlers: runner.connect(functions)  # type: ignore[misc]

    return lambda: Once(prepare, count)


def bytes_per_handler(runner: Contender, count: int) -> float:
    """Weigh a registration with tracemalloc, after one event and without the handler itself."""
    assert runner.connect is not None and runner.emit is not None
    handlers = Handlers()
    functions = runner.handlers(handlers, count)
    runner.emit(runner.connect(runner.handlers(handlers, 1)))()  # what is made once is no weight
    gc.collect()
    tracemalloc.start()
    try:
        registry = runner.connect(functions)
        runner.emit(registry)()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()


# --- What came out -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave.

    Attributes:
        runners: The contenders.
        scale: The sizes.
        timings: By contender and row.
        weights: Bytes per handler by contender.
    """

    runners: Sequence[Contender]
    scale: Scale
    timings: Mapping[tuple[str, str], Timing]
    weights: Mapping[str, float]

    def figure(self, name: str, row: str, which: str = "best") -> float | None:
        """Give nanoseconds, or None where that pair was not measured."""
        timing = self.timings.get((name, row))
        return None if timing is None else getattr(timing, which)

    def further(self, name: str, which: str = "best") -> float | None:
        """Give the cost per further handler, from 10 to 100."""
        low = self.figure(name, synchronous(10), which)
        high = self.figure(name, synchronous(100), which)
        return None if low is None or high is None else (high - low) / 90

    def ratio(self, of: tuple[str, str], to: tuple[str, str], which: str) -> float | None:
        """Give the ratio of two pairs."""
        above, below = self.figure(*of, which), self.figure(*to, which)
        return None if above is None or below is None else above / below


def number(value: float | None) -> str:
    """Show nanoseconds or bytes."""
    return "" if value is None else f"{value:,.0f}"


def times(value: float | None) -> str:
    """Show a ratio."""
    return "" if value is None else f"{value:.2f}"


def tables(outcome: Outcome) -> list[Table]:
    """Lay the outcome out."""
    made = [
        _table_of_calls(outcome),
        _table_of_matches(outcome),
        _table_of_coroutines(outcome),
        _table_of_registering(outcome),
        _table_of_targets(outcome),
    ]
    return [table for table in made if table.rows]


def _rows(
    outcome: Outcome,
    figures: Callable[[Contender], Sequence[str]],
    text: Callable[[Contender], str] | None = None,
) -> list[tuple[str, ...]]:
    """Make a row of each contender that has any figure, ending with a text where there is one."""
    rows = [(runner, figures(runner)) for runner in outcome.runners]
    return [
        (runner.name, *cells, *([text(runner)] if text else []))
        for runner, cells in rows
        if any(cells)
    ]


def _table_of_calls(outcome: Outcome) -> Table:
    def cells(runner: Contender) -> Sequence[str]:
        figure, name = outcome.figure, runner.name
        limit = (LOOP_AND_SUCCEED, synchronous(10))
        return [
            *[number(figure(name, synchronous(count))) for count in SYNCHRONOUS],
            number(outcome.further(name)),
            times(outcome.ratio((name, synchronous(10)), limit, "best")),
            *[number(figure(name, returning(count))) for count in VALUES],
        ]

    return Table(
        "Synchronous handlers, nanoseconds for one event",
        (
            "handlers",
            *map(str, SYNCHRONOUS),
            "per further",
            "ratio at 10",
            *[f"{count} return values" for count in VALUES],
            "does",
        ),
        _rows(outcome, cells, lambda runner: runner.does),
        (
            f"per further: from 10 to 100 handlers. ratio at 10: to {LOOP_AND_SUCCEED!r}. "
            "guards: an error keeps no other handler from being called. "
            "collects: hands out what the handlers returned.",
        ),
    )


def _table_of_matches(outcome: Outcome) -> Table:
    scale = outcome.scale
    columns = [
        one_of(scale.few), one_of(scale.few, "random"), one_of(scale.many),
        one_of(scale.most), one_of(scale.most, "random"), one_of(scale.most, "first time"),
    ]  # fmt: skip

    def cells(runner: Contender) -> Sequence[str]:
        return [number(outcome.figure(runner.name, row)) for row in columns]

    return Table(
        "One handler among many wants the event, nanoseconds for one event",
        ("match", *columns, "filter"),
        _rows(outcome, cells, lambda runner: runner.filter),
        (
            f"random: users in random order out of {min(scale.working_set, scale.most):,} that "
            "were fired for before; first time: users that were not.",
        ),
    )


def _table_of_coroutines(outcome: Outcome) -> Table:
    def cells(runner: Contender) -> Sequence[str]:
        return [
            number(outcome.figure(runner.name, QUIET)),
            times(outcome.ratio((runner.name, QUIET), (SEND_AND_SUCCEED, QUIET), "best")),
            number(outcome.figure(runner.name, SUSPENDING)),
        ]

    return Table(
        "Ten coroutine handlers, nanoseconds for one event",
        ("coroutines", "do not suspend", "ratio", "suspend"),
        _rows(outcome, cells),
        (
            f"ratio: to {SEND_AND_SUCCEED!r}. suspend: each handler awaits once; under Twisted a "
            "Deferred that the benchmark fires after the event, under asyncio one turn of the "
            "loop (blinker, Django, aiosignal, asyncio.gather). pyee does not wait for its "
            "handlers.",
        ),
    )


def _table_of_registering(outcome: Outcome) -> Table:
    def cells(runner: Contender) -> Sequence[str]:
        cost = outcome.figure(runner.name, REGISTER)
        total = None if cost is None else cost * outcome.scale.many / 1e6
        return [
            "" if total is None else f"{total:,.1f}",
            times(outcome.ratio((runner.name, REGISTER), (PYEE, REGISTER), "best")),
            number(outcome.weights.get(runner.name)),
        ]

    return Table(
        f"Registering {outcome.scale.many:,} handlers",
        ("registering", "milliseconds", "ratio to pyee", "bytes per handler"),
        _rows(outcome, cells),
        (
            "bytes per handler: tracemalloc, after one event, without the handler itself "
            "(1,000 handlers where registering takes seconds).",
        ),
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What Oni wants to reach.

    Attributes:
        row: What is compared.
        at_most: The ratio.
        measured: Gives the ratio in an outcome, of the best rounds or of their medians.
    """

    row: str
    at_most: float
    measured: Callable[[Outcome, str], float | None]


def _against(of: tuple[str, str], to: tuple[str, str]) -> Callable[[Outcome, str], float | None]:
    return lambda outcome, which: outcome.ratio(of, to, which)


def _further_against_peers(outcome: Outcome, which: str) -> float | None:
    peers = [r for r in outcome.runners if r.does and not r.limit and not r.name.startswith("Oni")]
    costs = [cost for r in peers if (cost := outcome.further(r.name, which)) is not None]
    ours = outcome.further(WEAK, which)
    return None if ours is None or not costs else ours / min(costs)


def _match_against_peers(outcome: Outcome, which: str) -> float | None:
    row = one_of(outcome.scale.many)
    peers = [r for r in outcome.runners if not r.limit and not r.name.startswith("Oni")]
    costs = [cost for r in peers if (cost := outcome.figure(r.name, row, which)) is not None]
    ours = outcome.figure(SPECS, row, which)
    return None if ours is None or not costs else ours / min(costs)


def targets(scale: Scale) -> Iterator[Target]:
    """Give what Oni wants to reach."""
    none, ten, hundred = map(synchronous, (0, 10, 100))
    yield Target("0 handlers", 2.1, _against((WEAK, none), (LOOP_AND_SUCCEED, none)))
    yield Target("0 handlers, 3 details", 2.6, _against((DETAILS, none), (LOOP_AND_SUCCEED, none)))
    for name, at_most in ((WEAK, 2.3), (DETAILS, 2.6), (SPECS, 3.3)):
        yield Target(
            f"10 handlers: {name}", at_most, _against((name, ten), (LOOP_AND_SUCCEED, ten))
        )
    for name in (WEAK, DETAILS, SPECS, STRONG, METHODS):
        yield Target(
            f"100 handlers: {name}", 1.9, _against((name, hundred), (LOOP_AND_SUCCEED, hundred))
        )
    for count in VALUES:
        row = returning(count)
        yield Target(row, 3.7, _against((WEAK, row), (LOOP_AND_SUCCEED, row)))
    yield Target(
        "per further handler, to the fastest peer that guards or collects",
        1.0,
        _further_against_peers,
    )
    for count in (1, 10, 100):
        row = synchronous(count)
        yield Target(
            f"{row}: {SIGNAL}, to the dispatcher", 1.5, _against((SIGNAL, row), (ADAPTED, row))
        )
    few, most = one_of(scale.few), one_of(scale.most)
    yield Target(f"{most} to {few}, same user", 1.2, _against((SPECS, most), (SPECS, few)))
    few, most = one_of(scale.few, "random"), one_of(scale.most, "random")
    yield Target(f"{most} users to {few} users", 2.0, _against((SPECS, most), (SPECS, few)))
    yield Target(f"{one_of(scale.many)}, to the fastest peer's filter", 1.0, _match_against_peers)
    yield Target(
        "10 coroutines that do not suspend",
        2.3,
        _against((WEAK, QUIET), (SEND_AND_SUCCEED, QUIET)),
    )
    for name in (WEAK, SPECS):
        yield Target(
            f"registering {scale.many:,}, to pyee: {name}",
            4.0,
            _against((name, REGISTER), (PYEE, REGISTER)),
        )


def _table_of_targets(outcome: Outcome) -> Table:
    rows = []
    for target in targets(outcome.scale):
        best, median = (target.measured(outcome, which) for which in ("best", "median"))
        if best is not None and median is not None:
            missed = sum(ratio > target.at_most for ratio in (best, median))
            reached = ("reached", "reached by one of them", "not reached")[missed]
            rows.append((target.row, f"{target.at_most:.1f}", times(best), times(median), reached))
    return Table(
        "Oni's targets, as ratios of this run",
        ("target", "at most", "best", "median", ""),
        rows,
        (
            f"Where nothing else is said, the ratio is to the limit {LOOP_AND_SUCCEED!r}. "
            "best: of the best rounds; median: of the medians of the rounds.",
        ),
    )


# --- The program ---------------------------------------------------------------------------------


def select(every: Sequence[Pair], pattern: str | None) -> list[Pair]:
    """Choose the pairs whose ``contender: row`` fits a pattern, and those to compare them with."""
    if pattern is None:
        return list(every)
    found = re.compile(pattern, re.IGNORECASE)
    rows = {pair.row for pair in every if found.search(f"{pair.contender}: {pair.row}")}
    yardsticks = {LOOP_AND_SUCCEED, SEND_AND_SUCCEED}
    return [
        pair
        for pair in every
        if found.search(f"{pair.contender}: {pair.row}")
        or (pair.row in rows and pair.contender in yardsticks)
        or (pair.row == REGISTER in rows and pair.contender == PYEE)
    ]


def run(
    scale: Scale, plan: Plan, pattern: str | None = None, say: Callable[[str], None] = to_stderr
) -> tuple[Outcome, list[str]]:
    """Measure.

    Returns:
        The outcome, and a sentence for each package that is left out.
    """
    runners, left_out = contenders()
    chosen = select(list(pairs(runners, scale)), pattern)
    weights = {}
    registering = {pair.contender for pair in chosen if pair.row == REGISTER}
    for runner in runners:
        if runner.name in registering:
            say(f"weighing {runner.name}")
            weights[runner.name] = bytes_per_handler(runner, 1_000 if runner.slow else scale.many)
    timings = measure(chosen, plan, say)
    close_loop()
    say("")
    return Outcome(runners, scale, timings, weights), left_out


def notes(outcome: Outcome, left_out: Sequence[str], plan: Plan) -> list[str]:
    """Say on what and how it was measured."""
    usual, worst = spread(outcome.timings.values())
    used = {name for name, _ in outcome.timings}
    distributions = [r.distribution for r in outcome.runners if r.name in used and r.distribution]
    said = [
        f"{describe_machine()}.",
        f"{versions([*distributions, 'Twisted'])}.",
        f"{plan.rounds} rounds in random order, {plan.windows} windows of "
        f"{plan.seconds * 1000:g} ms each per round, the fastest counts; shown is the best round. "
        f"The median of the rounds lies {usual:.0%} above it for the median pair, "
        f"{worst:.0%} for the worst tenth.",
        *left_out,
    ]
    if not outcome.scale.patient:
        slow = [runner.name for runner in outcome.runners if runner.slow]
        said.append(f"Left out of the larger rows, for they register slowly: {', '.join(slow)}.")
    return said


def as_json(outcome: Outcome, said: Sequence[str]) -> dict[str, Any]:
    """Give all figures as JSON data."""
    return {
        "notes": list(said),
        "timings": [
            {"contender": name, "row": row, "best": timing.best, "median": timing.median,
             "rounds": timing.rounds}
            for (name, row), timing in outcome.timings.items()
        ],
        "bytes_per_handler": dict(outcome.weights),
        "targets": [
            {"row": target.row, "at_most": target.at_most,
             "best": target.measured(outcome, "best"),
             "median": target.measured(outcome, "median")}
            for target in targets(outcome.scale)
        ],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half a minute, with wider error")
    parser.add_argument("--rounds", type=int, help="how many rounds instead of the usual number")
    parser.add_argument(
        "--only", metavar="PATTERN", help="only pairs whose 'contender: row' fits this regex"
    )
    parser.add_argument("--list", action="store_true", help="list the pairs and measure nothing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to a file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--rst", action="store_true", help="print reStructuredText")
    chosen = parser.parse_args(arguments)
    scale = QUICK if chosen.quick else FULL
    plan = Plan(rounds=3, windows=3, seconds=0.002) if chosen.quick else Plan()
    if chosen.rounds:
        plan = Plan(chosen.rounds, plan.windows, plan.seconds, plan.patience)
    if chosen.list:
        for pair in select(list(pairs(contenders()[0], scale)), chosen.only):
            print(f"{pair.contender}: {pair.row}")
        return
    outcome, left_out = run(scale, plan, chosen.only)
    said = notes(outcome, left_out, plan)
    for table in tables(outcome):
        layout = table.rst if chosen.rst else table.markdown if chosen.markdown else table.text
        print(layout(), end="\n\n")
    bullet = "- " if chosen.rst or chosen.markdown else ""
    print("\n".join(bullet + sentence for sentence in said))
    if chosen.json:
        chosen.json.write_text(json.dumps(as_json(outcome, said), indent=1) + "\n")


if __name__ == "__main__":
    main()
