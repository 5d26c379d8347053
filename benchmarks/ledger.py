"""Keys, each handled once: Oni's ledger beside other ways, and what each loses when it is killed.

``python benchmarks/ledger.py`` takes some ten minutes, ``--quick`` two (with wider error). It
starts PostgreSQL and Redis itself, on loopback. Each contender takes keys in, and one process of
its own handles them; the contenders take turns, in random order, so that whatever else the machine
does slows down all of them. Trust ratios, not figures. How each is used is told in
``_ledger_programs.py``.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # measures this checkout

from _harness import Table, describe_machine, to_stderr, versions

HERE = Path(__file__).resolve().parent
GROUPS, SINGLE = "Oni, SQLite", "Oni, SQLite, each completion alone"
WITHIN = 120.0  # seconds, for one contender
LOOK = 0.02  # seconds
PAUSE = 0.005  # seconds that a handler takes where processes are killed


class TrialError(Exception):
    """A contender did not do what it should."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of handling keys.

    Attributes:
        name: What the tables call it.
        how: Its program's name in ``_ledger_programs.py``.
        where: Which server it needs, or ``"sqlite"``.
        count: How many keys it is given in one round.
        keeps: What its database does before it says that something is stored.
        packages: What has to be installed, as it is imported.
        distributions: The same, as it is installed.
        takes_in: Whether taking keys in is a step of its own.
    """

    name: str
    how: str
    where: str
    count: int
    keeps: str
    packages: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    takes_in: bool = True


_FULL, _COMMIT, _AOF = "synchronous=FULL", "synchronous_commit=on", "appendfsync=always"

CONTENDERS = (
    Contender(GROUPS, "oni", "sqlite", 6000, _FULL, ("sqlalchemy",), ("SQLAlchemy",)),
    Contender(SINGLE, "oni-single", "sqlite", 600, _FULL, ("sqlalchemy",)),
    Contender(
        "insert, then handle (SQLite)", "insert-first", "sqlite", 600, _FULL, takes_in=False
    ),
    Contender(
        "Oni, PostgreSQL", "oni", "postgresql", 3000, _COMMIT,
        ("sqlalchemy", "psycopg"), ("psycopg",),
    ),
    Contender(
        "procrastinate (PostgreSQL)", "procrastinate", "postgresql", 1500, _COMMIT,
        ("procrastinate",), ("procrastinate",),
    ),
    Contender("Oni, Redis", "oni", "redis", 6000, _AOF, ("txredisapi", "redis"), ("redis",)),
    Contender(
        "Celery, acks_late (Redis)", "celery", "redis", 1500, _AOF,
        ("celery", "redis"), ("celery",),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure.

    Attributes:
        rounds: How often every contender has its turn.
        share: How much of the usual number of keys it is given.
        kills: How many of its processes are killed, one after the other.
        killed_keys: How many keys it is given then.
        patience: So many seconds after the last key was handled the others count as lost.
    """

    rounds: int = 5
    share: float = 1.0
    kills: int = 5
    killed_keys: int = 600
    patience: float = 15.0


FULL = Plan()
QUICK = Plan(rounds=1, share=0.2, kills=2, killed_keys=300)


@dataclass(slots=True)
class Figures:
    """What was seen of one contender.

    Attributes:
        taken: Keys taken in per second, in each round.
        handled: Keys handled per second, in each round.
        kills: How many processes were killed.
        lost: Keys that no handler has ended within the plan's patience.
        twice: How often a handler ended for a key that one had ended for before.
    """

    taken: list[float] = field(default_factory=list)
    handled: list[float] = field(default_factory=list)
    kills: int = 0
    lost: int = 0
    twice: int = 0


# --- Where keys are kept -------------------------------------------------------------------------


class Place(Protocol):
    """Gives empty databases."""

    def empty(self) -> str:
        """Give the address of one with nothing in it."""


class Files:
    """SQLite: each database is a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def empty(self) -> str:
        """See :class:`Place`."""
        self._made += 1
        return f"sqlite:///{self._folder}/{self._made}.db"


class Databases:
    """A server of PostgreSQL: one database is made, and dropped for the next one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made = 0

    def empty(self) -> str:
        """See :class:`Place`."""
        import psycopg

        address = self._url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(address, autocommit=True) as connection:
            if self._made:
                connection.execute(f"DROP DATABASE bench{self._made} WITH (FORCE)")
            self._made += 1
            connection.execute(f"CREATE DATABASE bench{self._made}")
        return self._url.removesuffix("/postgres") + f"/bench{self._made}"


class Emptied:
    """A server of Redis, which forgets everything."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def empty(self) -> str:
        """See :class:`Place`."""
        with self._server.client() as client:
            client.flushall()
        return str(self._server.url)


def places(needed: set[str], folder: Path, stack: ExitStack) -> tuple[dict[str, Place], list[str]]:
    """Start what is needed.

    Returns:
        Where keys can be kept, and a sentence for each server that cannot run.
    """
    from tests.integration import postgres, redis_server

    found: dict[str, Place] = {"sqlite": Files(folder)}
    left_out = []
    if "postgresql" in needed:
        if postgres.PROGRAMS is None:
            left_out.append("PostgreSQL is left out: it is not installed.")
        else:
            found["postgresql"] = Databases(stack.enter_context(postgres.running_postgres()).url)
    if "redis" in needed:
        if redis_server.PROGRAM is None:
            left_out.append("Redis is left out: it is not installed.")
        else:
            found["redis"] = Emptied(stack.enter_context(redis_server.running_redis()))
    return found, left_out


# --- One contender's turn ------------------------------------------------------------------------


class Turn:
    """A contender with an empty database.

    Args:
        contender: Who.
        url: The database.
        count: How many keys there are.
        folder: Where its process writes.
    """

    def __init__(self, contender: Contender, url: str, count: int, folder: Path) -> None:
        self._contender = contender
        self._url = url
        self._count = count
        self._effects = folder / "effects"
        self._log = folder / "log"

    def take(self) -> float:
        """Take the keys in; give how many per second, 0 where that is no step of its own."""
        done = subprocess.run(
            self._program("take"), capture_output=True, text=True, timeout=WITHIN, check=False
        )
        if done.returncode:
            raise TrialError(f"{self._contender.name}: {done.stderr[-800:]}")
        seconds = float(json.loads(done.stdout.splitlines()[-1]))
        return self._count / seconds if seconds else 0.0

    def handle(self, kills: int, pause: float, patience: float) -> None:
        """Let a process handle the keys; kill it so many times on the way, and start another."""
        for number in range(kills):
            with self._working(pause) as process:
                self._wait(process, self._count * (number + 1) // (kills + 1), WITHIN)
        with self._working(pause) as process:
            self._wait(process, self._count, patience)

    def handled(self) -> list[tuple[str, float]]:
        """Give each key that was handled, and when, in seconds."""
        try:
            lines = self._effects.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(key, int(at) / 1e9) for key, at in (line.split() for line in lines)]

    def _program(self, mode: str, *more: str) -> list[str]:
        program = [sys.executable, str(HERE / "_ledger_programs.py"), mode]
        return [*program, self._contender.how, self._url, str(self._count), *more]

    @contextmanager
    def _working(self, pause: float) -> Iterator[subprocess.Popen[bytes]]:
        """Run the process, and kill it without a warning."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._program("work", str(self._effects), str(pause)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes], wanted: int, patience: float) -> None:
        """Wait until so many keys were handled, or none for a while."""
        seen, since = -1, time.monotonic()
        while True:
            now = len({key for key, _ in self.handled()})
            if now > seen:
                seen, since = now, time.monotonic()
            if now >= wanted or time.monotonic() - since > patience:
                return
            if process.poll() is not None:
                raise TrialError(
                    f"{self._contender.name} has ended: {self._log.read_text()[-800:]}"
                )
            time.sleep(LOOK)


def race(contender: Contender, place: Place, plan: Plan, figures: Figures, folder: Path) -> None:
    """Measure how fast a contender is, once."""
    count = round(contender.count * plan.share)
    turn = Turn(contender, place.empty(), count, folder)
    taken = turn.take()
    turn.handle(0, 0.0, WITHIN)
    times = [at for _, at in turn.handled()]
    if len(times) < count:
        raise TrialError(f"{contender.name} handled {len(times)} of {count} keys")
    if contender.takes_in:
        figures.taken.append(taken)
    figures.handled.append((count - 1) / (times[count - 1] - times[0]))


def kill(contender: Contender, place: Place, plan: Plan, figures: Figures, folder: Path) -> None:
    """Kill a contender's processes, and count what became of the keys."""
    turn = Turn(contender, place.empty(), plan.killed_keys, folder)
    turn.take()
    turn.handle(plan.kills, PAUSE, plan.patience)
    handled = Counter(key for key, _ in turn.handled())
    figures.kills = plan.kills
    figures.lost = plan.killed_keys - len(handled)
    figures.twice = handled.total() - len(handled)


def run(
    contenders: Sequence[Contender], plan: Plan, say: Callable[[str], None] = to_stderr
) -> tuple[dict[str, Figures], list[str]]:
    """Measure all, by turns.

    Returns:
        Figures for each contender's name, and a sentence for each that could not run.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oni-bench-")))
        found, left_out = places({each.where for each in contenders}, folder, stack)
        runners = [each for each in contenders if each.where in found]
        outcome = {each.name: Figures() for each in runners}
        turns = 0
        for step in [*[race] * plan.rounds, kill]:
            random.shuffle(runners)
            for each in runners:
                turns += 1
                own = folder / str(turns)
                own.mkdir()
                say(f"turn {turns} of {len(runners) * (plan.rounds + 1)}: {each.name}")
                step(each, found[each.where], plan, outcome[each.name], own)
    say("")
    return {each.name: outcome[each.name] for each in contenders if each.name in outcome}, left_out


# --- The report ----------------------------------------------------------------------------------


def rate(values: Sequence[float]) -> str:
    """Write the best of some rates."""
    return f"{max(values):,.0f}" if values else ""


def ratio(ours: Figures, theirs: Figures) -> str:
    """Compare the medians of two."""
    return f"{statistics.median(ours.handled) / statistics.median(theirs.handled):.1f}"


def tables(outcome: Mapping[str, Figures], contenders: Sequence[Contender]) -> list[Table]:
    """Lay the figures out."""
    single = outcome.get(SINGLE)
    speed, losses = [], []
    for each in contenders:
        figures = outcome.get(each.name)
        if figures is None:
            continue
        beside = ratio(figures, single) if single else ""
        speed.append((each.name, rate(figures.taken), rate(figures.handled), beside, each.keeps))
        losses.append((each.name, *map(str, (figures.kills, figures.lost, figures.twice))))
    found = [
        Table(
            "Keys per second, one process",
            ("way", "taken in", "handled", "ratio", "stored by"),
            speed,
            (
                "The best round is shown. ratio: handled, to Oni on SQLite with a commit for each "
                "completion; of the medians of the rounds.",
            ),
        ),
        Table(
            "What is left of keys when processes are killed",
            ("way", "kills", "not handled", "handled again"),
            losses,
            (
                "A process was killed without a warning, and the next one started at once. not "
                "handled: no handler has ended for it, long after the last one that did; with "
                "Celery such keys come back after its visibility timeout, an hour by default, and "
                "with procrastinate when somebody retries jobs that stand still. handled again: "
                "the handler ran for a second time, from its beginning.",
            ),
        ),
    ]
    if single and GROUPS in outcome:
        found.append(_targets(outcome[GROUPS], single))
    return found


def _targets(groups: Figures, single: Figures) -> Table:
    measured = statistics.median(groups.handled) / statistics.median(single.handled)
    best = max(groups.handled)
    rows = [
        ("SQLite: keys per second", "3,000", f"{best:,.0f}", _mark(best >= 3000)),
        ("SQLite: ratio to single commits", "8", f"{measured:.1f}", _mark(measured >= 8)),
    ]
    return Table("Oni's targets", ("target", "at least", "measured", ""), rows)


def _mark(is_reached: bool) -> str:
    return "reached" if is_reached else "not reached"


def notes(
    outcome: Mapping[str, Figures],
    contenders: Sequence[Contender],
    plan: Plan,
    left_out: Sequence[str],
) -> list[str]:
    """Say on what and how it was measured."""
    used = {name for each in contenders if each.name in outcome for name in each.distributions}
    spreads = [
        max(figures.handled) / statistics.median(figures.handled) - 1
        for figures in outcome.values()
        if figures.handled
    ]
    return [
        f"{describe_machine()}.",
        f"{versions([*used, 'Twisted'])}.",
        f"Rounds: {plan.rounds}, in random order; the best lies {statistics.median(spreads):.0%} "
        f"above the median for the middle contender, {max(spreads):.0%} for the worst.",
        f"The handler writes a line to a file; where processes are killed it takes "
        f"{PAUSE * 1000:g} ms first. Killed: {plan.kills} processes, {plan.killed_keys} keys.",
        *left_out,
    ]


def available(contenders: Sequence[Contender]) -> tuple[list[Contender], list[str]]:
    """Sort out those whose packages are not installed."""
    found, left_out = [], []
    for each in contenders:
        missing = [package for package in each.packages if find_spec(package) is None]
        if missing:
            left_out.append(f"{each.name} is left out: {', '.join(missing)} is not installed.")
        else:
            found.append(each)
    return found, left_out


def select(contenders: Sequence[Contender], pattern: str | None) -> list[Contender]:
    """Keep those whose names fit."""
    if pattern is None:
        return list(contenders)
    return [each for each in contenders if re.search(pattern, each.name, re.IGNORECASE)]


def as_json(outcome: Mapping[str, Figures], said: Sequence[str]) -> dict[str, Any]:
    """Give all figures as JSON data."""
    return {
        "notes": list(said),
        "contenders": [
            {"contender": name, "taken": figures.taken, "handled": figures.handled,
             "kills": figures.kills, "lost": figures.lost, "twice": figures.twice}
            for name, figures in outcome.items()
        ],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two minutes, with wider error")
    parser.add_argument("--rounds", type=int, help="how many rounds instead of the usual number")
    parser.add_argument(
        "--only", metavar="PATTERN", help="only contenders whose name fits this regex"
    )
    parser.add_argument("--list", action="store_true", help="list the contenders")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to a file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--rst", action="store_true", help="print reStructuredText")
    chosen = parser.parse_args(arguments)
    contenders = select(CONTENDERS, chosen.only)
    if chosen.list:
        print("\n".join(each.name for each in contenders))
        return
    plan = QUICK if chosen.quick else FULL
    if chosen.rounds:
        plan = Plan(chosen.rounds, plan.share, plan.kills, plan.killed_keys, plan.patience)
    contenders, left_out = available(contenders)
    try:
        outcome, no_server = run(contenders, plan)
    except TrialError as error:
        sys.exit(str(error))
    said = notes(outcome, contenders, plan, [*left_out, *no_server])
    for table in tables(outcome, contenders):
        layout = table.rst if chosen.rst else table.markdown if chosen.markdown else table.text
        print(layout(), end="\n\n")
    bullet = "- " if chosen.rst or chosen.markdown else ""
    print("\n".join(bullet + sentence for sentence in said))
    if chosen.json:
        chosen.json.write_text(json.dumps(as_json(outcome, said), indent=1) + "\n")


if __name__ == "__main__":
    main()
