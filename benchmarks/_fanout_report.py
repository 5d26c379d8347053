"""What the trials gave together: medians, ratios within a round, tables and targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from _fanout_above import ABOVE, BARE, PRODUCT
from _fanout_contenders import (
    CEILING,
    NODE,
    ONI,
    ONI_PINGED,
    SOCKETIFY,
    STOCK_LISTENER,
    Contender,
)
from _fanout_publish import ACT, FIRE, SUCCEED
from _fanout_trial import Plan, Trial
from _harness import Table

__all__ = ["Outcome", "Target", "tables", "targets"]

MAIN_SIZE = 1000
"""The number of subscribers that the targets are for."""

STALL_SIZE = 5000
"""The number of subscribers at which the reactor's stall is looked at."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was measured.

    Attributes:
        runners: The servers, in the order of the tables.
        plan: What was to be measured.
        trials: What came of it.
        publishing: Nanoseconds of one publish without subscribers, ``best`` and ``median``.
        above: Nanoseconds of one delivery, and of the ``send`` alone, one and sixteen at once.
    """

    runners: Sequence[Contender]
    plan: Plan
    trials: Sequence[Trial]
    publishing: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    above: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def values(self, name: str, size: int, figure: str) -> dict[int, float]:
        """Give a figure of each round in which it was measured."""
        return {
            trial.turn: trial.figures[figure]
            for trial in self.trials
            if (trial.contender, trial.subscribers) == (name, size) and figure in trial.figures
        }

    def median(self, name: str, size: int, figure: str) -> float | None:
        """Give the median of the rounds; None where nothing was measured."""
        values = self.values(name, size, figure)
        return statistics.median(values.values()) if values else None

    def worst(self, name: str, size: int, figure: str) -> float | None:
        """Give the greatest of the rounds."""
        return max(self.values(name, size, figure).values(), default=None)

    def ratio(self, name: str, to: str, size: int, figure: str) -> float | None:
        """Give the median of the ratios within each round."""
        ours, theirs = self.values(name, size, figure), self.values(to, size, figure)
        ratios = [ours[turn] / theirs[turn] for turn in ours.keys() & theirs.keys()]
        return statistics.median(ratios) if ratios else None

    def publish_ratio(self, what: str, which: str = "best") -> float | None:
        """Give the price of a publish in ``defer.succeed`` calls."""
        if what not in self.publishing:
            return None
        return self.publishing[what][which] / self.publishing[SUCCEED][which]


# --- Tables --------------------------------------------------------------------------------------


def tables(outcome: Outcome) -> Iterator[Table]:
    """Give the tables; rows without a single figure are left out."""
    yield _targets_table(outcome)
    for size in outcome.plan.subscribers:
        yield _speed_table(outcome, size)
        yield _time_table(outcome, size)
    for size in outcome.plan.subscribers:
        yield _connection_table(outcome, size)
    yield _ceiling_table(outcome)
    if outcome.publishing:
        yield _publish_table(outcome)
    if outcome.above:
        yield _above_table(outcome)


def _rows(
    outcome: Outcome, size: int, figures: Sequence[str], cells: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    return [
        [name, *cells[name]]
        for name in cells
        if any(outcome.values(name, size, figure) for figure in figures)
    ]


def _speed_table(outcome: Outcome, size: int) -> Table:
    head = ["server"]
    for window in ("one", "sixteen"):
        head += [f"{window} in flight", "ratio", "per CPU second", "ratio"]
    figures = ("w1", "w1_cpu", "w16", "w16_cpu")
    cells = {}
    for runner in outcome.runners:
        row = []
        for figure in figures:
            row.append(_count(outcome.median(runner.name, size, figure)))
            row.append(_ratio(outcome.ratio(runner.name, SOCKETIFY, size, figure)))
        cells[runner.name] = row
    return Table(
        f"Deliveries a second, {size:,} subscribers", head, _rows(outcome, size, figures, cells)
    )


def _time_table(outcome: Outcome, size: int) -> Table:
    rate, count = outcome.plan.pace(size)
    cells = {}
    for runner in outcome.runners:
        name = runner.name
        cells[name] = [
            _milliseconds(outcome.median(name, size, "p50")),
            _milliseconds(outcome.median(name, size, "p95")),
            _ratio(outcome.ratio(name, SOCKETIFY, size, "p95")),
            _milliseconds(outcome.median(name, size, "stall_cpu")),
            _milliseconds(outcome.worst(name, size, "stall_cpu")),
            _milliseconds(outcome.worst(name, size, "stall")),
        ]
    head = ("server", "p50 ms", "p95 ms", "ratio of p95", "stall ms", "worst stall ms", "by clock")
    rows = _rows(outcome, size, ("p50", "stall"), cells)
    return Table(
        f"From publish to last receive, {size:,} subscribers, {rate:g} publishes a second, "
        f"{count} a run; stalls of the server's loop while publishing",
        head,
        rows,
    )


def _connection_table(outcome: Outcome, size: int) -> Table:
    cells = {}
    for runner in outcome.runners:
        name = runner.name
        cells[name] = [
            _count(outcome.median(name, size, "connects")),
            _ratio(outcome.ratio(name, STOCK_LISTENER, size, "connects")),
            _tenths(outcome.median(name, size, "kib")),
            _milliseconds(outcome.median(name, size, "stall_connecting_cpu")),
        ]
    head = ("server", "a second", "ratio", "KiB each", "stall ms")
    return Table(
        f"Connections, {size:,} of them, 32 at a time", head,
        _rows(outcome, size, ("connects",), cells),
    )  # fmt: skip


def _ceiling_table(outcome: Outcome) -> Table:
    rows = []
    for size in outcome.plan.subscribers:
        for window, words in ((1, "one"), (16, "sixteen")):
            figure = f"w{window}"
            alone = outcome.median(CEILING, size, f"drain{window}")
            speeds = {
                runner.name: speed
                for runner in outcome.runners
                if runner.name != CEILING and (speed := outcome.median(runner.name, size, figure))
            }
            if not speeds or alone is None:
                continue
            fastest = max(speeds, key=lambda name: speeds[name])
            rows.append([
                f"{size:,}, {words} in flight",
                _count(alone),
                _count(outcome.median(CEILING, size, figure)),
                fastest,
                _count(speeds[fastest]),
                _percent(speeds[fastest] / alone),
            ])  # fmt: skip
    return Table(
        "Is the load client the limit? Deliveries a second that it takes by itself, from the C "
        "server, and from the fastest other server",
        ("subscribers", "by itself", "from C", "fastest", "from that", "of what it can"),
        rows,
    )


def _publish_table(outcome: Outcome) -> Table:
    return Table(
        "One publish without subscribers",
        ("what", "us", "ratio"),
        [
            [what, f"{outcome.publishing[what]['best'] / 1000:.2f}",
             _ratio(outcome.publish_ratio(what))]
            for what in (SUCCEED, FIRE, ACT)
        ],
    )  # fmt: skip


def _above_table(outcome: Outcome) -> Table:
    rows = []
    for window, words in ((1, "one"), (16, "sixteen")):
        cells = [
            f"{outcome.above[f'{name}, {window}'][which] / 1000:.2f}"
            for name in (PRODUCT, BARE, ABOVE)
            for which in ("best", "median")
        ]
        rows.append([f"{words} at once", *cells])
    head = ["published", "Oni", "median", "send alone", "median", "above it", "median"]
    return Table(
        f"Python per delivery above the send, us of processor time, {MAIN_SIZE:,} subscribers",
        head,
        rows,
    )


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _tenths(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


# --- Targets -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """What Oni is to reach.

    Attributes:
        row: What is measured.
        goal: The bound.
        measured: What came out, None if nothing.
        at_least: Whether the bound is the least that will do; else it is the most.
        besides: More to know, such as who the strongest peer is.
    """

    row: str
    goal: float
    measured: float | None
    at_least: bool = False
    besides: str = ""

    @property
    def mark(self) -> str:
        """Say whether it is reached."""
        if self.measured is None:
            return "not measured"
        good = self.measured >= self.goal if self.at_least else self.measured <= self.goal
        return "reached" if good else "not reached"


def targets(outcome: Outcome) -> list[Target]:
    """Give the targets with what was measured."""
    return [
        _speed_target(outcome, "w1", "one"),
        _ahead_target(outcome),
        _speed_target(outcome, "w16", "sixteen"),
        Target(
            "publish to last receive, p95, to socketify", 1.4,
            outcome.ratio(ONI, SOCKETIFY, MAIN_SIZE, "p95"),
        ),
        _stall_target(outcome),
        Target(
            "KiB per idle connection, subscribed and pinged", 6.0,
            outcome.median(ONI_PINGED, MAIN_SIZE, "kib"), besides="5 is aimed at",
        ),
        Target(
            "connections a second, to Autobahn behind twisted.web", 2.2,
            outcome.ratio(ONI, STOCK_LISTENER, MAIN_SIZE, "connects"), at_least=True,
        ),
        Target(
            "one publish without subscribers, to defer.succeed", 30.0,
            outcome.publish_ratio(FIRE), besides=_act_words(outcome),
        ),
        Target(
            "Python per delivery above the send, us", 0.8, _above(outcome),
            besides="the best rounds are compared",
        ),
    ]  # fmt: skip


def _speed_target(outcome: Outcome, figure: str, words: str) -> Target:
    by_cpu = outcome.ratio(ONI, SOCKETIFY, MAIN_SIZE, f"{figure}_cpu")
    return Target(
        f"deliveries a second, {words} in flight, to socketify",
        0.8,
        outcome.ratio(ONI, SOCKETIFY, MAIN_SIZE, figure),
        at_least=True,
        besides="" if by_cpu is None else f"{by_cpu:.2f} per CPU second",
    )


def _ahead_target(outcome: Outcome) -> Target:
    """Compare with the strongest of Node's ``ws`` and all that deliver through Python."""
    ratios = {
        runner.name: ratio
        for runner in outcome.runners
        if (runner.python or runner.name == NODE) and runner.name != ONI
        if (ratio := outcome.ratio(ONI, runner.name, MAIN_SIZE, "w1")) is not None
    }
    strongest = min(ratios, key=lambda name: ratios[name], default=None)
    return Target(
        "deliveries a second, one in flight, to the fastest of Node ws and every Python server",
        1.0,
        None if strongest is None else ratios[strongest],
        at_least=True,
        besides="" if strongest is None else f"to {strongest}",
    )


def _stall_target(outcome: Outcome) -> Target:
    wall = outcome.worst(ONI, STALL_SIZE, "stall")
    return Target(
        f"worst stall of the reactor, {STALL_SIZE:,} subscribers, ms",
        15.0,
        outcome.worst(ONI, STALL_SIZE, "stall_cpu"),
        besides="" if wall is None else f"{wall:.1f} by the clock",
    )


def _above(outcome: Outcome) -> float | None:
    found = outcome.above.get(f"{ABOVE}, 1")
    return None if found is None else found["best"] / 1000


def _act_words(outcome: Outcome) -> str:
    ratio = outcome.publish_ratio(ACT)
    return "" if ratio is None else f"{ratio:.1f} through the daemon's own phases"


def _targets_table(outcome: Outcome) -> Table:
    return Table(
        f"What Oni is to reach, {MAIN_SIZE:,} subscribers where nothing else is said",
        ("row", "goal", "measured", "", "besides"),
        [
            [
                target.row,
                f"{'at least' if target.at_least else 'at most'} {target.goal:g}",
                _ratio(target.measured),
                target.mark,
                target.besides,
            ]
            for target in targets(outcome)
        ],
    )
