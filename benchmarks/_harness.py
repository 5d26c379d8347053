"""Times many small things in one interleaved run, and prints what came out as tables.

The machine is never quiet, so nothing is measured once: every pair (contender, row) is timed in
every round, the rounds go through the pairs in a fresh random order, and within a round a pair
gets several short windows, of which the fastest counts (a short window has a good chance of not
being interrupted). The cyclic garbage collector is off inside a window. A slow spell of the
machine so hits every contender alike, and ratios hold where absolute figures do not.
"""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from time import perf_counter

__all__ = [
    "Batch",
    "Once",
    "Pair",
    "Plan",
    "Table",
    "Timing",
    "describe_machine",
    "measure",
    "spread",
    "to_stderr",
    "versions",
]

Batch = Callable[[int], object]
"""Does the measured thing as often as it is told."""


@dataclass(frozen=True, slots=True)
class Once:
    """Something that needs fresh ground each time, such as filling an empty registry.

    Attributes:
        prepare: Lays the ground, untimed, and returns what is timed.
        count: How many operations that is; the time is divided by it.
    """

    prepare: Callable[[], Callable[[], object]]
    count: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One contender in one row.

    Attributes:
        contender: Who.
        row: In which discipline.
        build: Makes what is timed. It is called once, before the first round.
    """

    contender: str
    row: str
    build: Callable[[], Batch | Once]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure.

    Attributes:
        rounds: How often every pair gets its turn.
        windows: Windows per turn, of which the fastest counts.
        seconds: The length of a window.
        patience: A :class:`Once` that takes longer than this many seconds is not repeated.
    """

    rounds: int = 15
    windows: int = 8
    seconds: float = 0.004
    patience: float = 0.3


@dataclass(slots=True)
class Timing:
    """What the rounds gave for one pair, in nanoseconds per operation.

    Attributes:
        rounds: The fastest window of each round.
    """

    rounds: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The fastest round."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)


def measure(
    pairs: Sequence[Pair], plan: Plan, say: Callable[[str], None] = lambda text: None
) -> dict[tuple[str, str], Timing]:
    """Time all pairs, interleaved.

    Args:
        pairs: What to time.
        plan: How long.
        say: Is told how far it is.

    Returns:
        A timing for each (contender, row).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _measure(pairs, plan, say)
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def _measure(
    pairs: Sequence[Pair], plan: Plan, say: Callable[[str], None]
) -> dict[tuple[str, str], Timing]:
    timings: dict[tuple[str, str], Timing] = {}
    batches: list[tuple[Batch, int, Timing]] = []
    singles: list[tuple[Once, Timing]] = []
    for pair in pairs:
        say(f"building {pair.contender}: {pair.row}")
        timing = timings[pair.contender, pair.row] = Timing()
        made = pair.build()
        if isinstance(made, Once):
            singles.append((made, timing))
        else:
            batches.append((made, _size(made, plan.seconds), timing))
    gc.collect()
    gc.freeze()  # what was built is no garbage: no later collection looks at it again
    for turn in range(plan.rounds):
        say(f"round {turn + 1} of {plan.rounds}")
        jobs = [_windows(plan.windows, *entry) for entry in batches]
        jobs += [_single(once, timing, plan) for once, timing in singles]
        random.shuffle(jobs)
        for job in jobs:
            job()
        gc.collect()
    return timings


def _size(batch: Batch, seconds: float) -> int:
    """Find how many operations fill a window."""
    size = 1
    batch(1)
    while True:
        begun = perf_counter()
        batch(size)
        took = perf_counter() - begun
        if took > seconds / 4:
            return max(1, round(size * seconds / took))
        size *= 4


def _windows(count: int, batch: Batch, size: int, timing: Timing) -> Callable[[], None]:
    def run() -> None:
        best = float("inf")
        for _ in range(count):
            begun = perf_counter()
            batch(size)
            best = min(best, perf_counter() - begun)
        timing.rounds.append(best / size * 1e9)

    return run


def _single(once: Once, timing: Timing, plan: Plan) -> Callable[[], None]:
    def run() -> None:
        if timing.rounds and timing.best * once.count > plan.patience * 1e9:
            return
        timed = once.prepare()
        begun = perf_counter()
        timed()
        timing.rounds.append((perf_counter() - begun) / once.count * 1e9)
        gc.collect()

    return run


def spread(timings: Iterable[Timing]) -> tuple[float, float]:
    """Tell how far the median of the rounds lies above the best, as a fraction.

    Returns:
        For the median pair, and for the worst tenth of the pairs.
    """
    over = sorted(t.median / t.best - 1 for t in timings if len(t.rounds) > 1) or [0.0]
    return statistics.median(over), over[min(len(over) - 1, len(over) * 9 // 10)]


def describe_machine() -> str:
    """Name interpreter, system and processor, without the host's name."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
            model = next(names, model).strip()
    except OSError:
        pass
    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{implementation}, {platform.system()}, {os.cpu_count()} cores, {model}"


def versions(distributions: Iterable[str]) -> str:
    """Name the installed versions of these distributions."""
    found = []
    for name in sorted(set(distributions), key=str.lower):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} (this checkout)")
    return ", ".join(found)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells under headings. The first column is text, the others are figures.

    Attributes:
        title: What it shows.
        head: The headings.
        rows: The cells.
        notes: Sentences that belong under it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Lay it out for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self.title, self._line(self.head, widths), "  ".join("-" * w for w in widths)]
        lines += [self._line(row, widths) for row in self.rows]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    def markdown(self) -> str:
        """Lay it out as Markdown."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [f"**{self.title}**", ""]
        lines += ["| " + " | ".join(cells) + " |" for cells in (self.head, rule, *self.rows)]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines)

    def rst(self) -> str:
        """Lay it out as a reStructuredText list table."""
        lines = [f".. list-table:: {self.title}", "   :header-rows: 1", ""]
        for first, *others in (self.head, *self.rows):
            lines.append(f"   * - {first}")
            lines += [f"     - {cell}".rstrip() for cell in others]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines)


def to_stderr(text: str) -> None:
    """Show progress on one line, where standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:78]}")
        sys.stderr.flush()
