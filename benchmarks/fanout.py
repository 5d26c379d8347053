"""Fan-out to websockets: Oni's daemon beside its peers, in interleaved rounds.

``python benchmarks/fanout.py`` takes most of an hour, ``--quick`` less than a minute (with wider
error, 1,000 subscribers only). Server and load client are processes of their own, each pinned to
its core. Everything goes over loopback, the events are 128 bytes of JSON, and the load client
checks that each subscriber hears every event once and in order. How it is measured is told in
``_fanout_trial.py``, how each server is made in ``fanout/``.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _fanout_above import PATIENCE as _ABOVE_WITHIN
from _fanout_contenders import (
    CEILING,
    HERE,
    ONI,
    PROGRAMS,
    SOCKETIFY,
    STOCK_LISTENER,
    Contender,
    contenders,
    oni_settings,
    why_not,
)
from _fanout_processes import Cores, TrialError, compile_c, raise_file_limit, running
from _fanout_report import Outcome, tables, targets
from _fanout_trial import Plan, Trial, run_trial
from _harness import describe_machine, to_stderr, versions

FULL = Plan()
QUICK = Plan(
    runs=1,
    subscribers=(1000,),
    seconds=0.15,
    windows=2,
    paces={100: (100.0, 20), 1000: (20.0, 20), 5000: (4.0, 8)},
    longest_turn=2.0,
)
_PUBLISH_WITHIN = 60.0  # seconds
_SPARE_FILES = 200


def select(every: Sequence[Contender], pattern: str | None) -> list[Contender]:
    """Keep the servers whose names fit, and those that they are compared with."""
    if pattern is None:
        return list(every)
    found = re.compile(pattern, re.IGNORECASE)
    chosen = {runner.name for runner in every if found.search(runner.name)}
    if chosen:
        chosen |= {SOCKETIFY, CEILING}
    if any(name.startswith(ONI) for name in chosen):
        chosen.add(STOCK_LISTENER)
    return [runner for runner in every if runner.name in chosen]


def available(every: Sequence[Contender]) -> tuple[list[Contender], list[str]]:
    """Sort out those that cannot run.

    Returns:
        Those that can, and a sentence for each that cannot.
    """
    found, left_out = [], []
    for runner in every:
        reason = why_not(runner)
        if reason:
            left_out.append(f"{runner.name} is left out: {reason}.")
        else:
            found.append(runner)
    return found, left_out


def fitting(plan: Plan, files: int) -> tuple[Plan, list[str]]:
    """Leave out numbers of subscribers for which a process may not open enough files."""
    sizes = tuple(size for size in plan.subscribers if size + _SPARE_FILES <= files)
    said = [
        f"{size:,} subscribers are left out: a process may open {files} files here."
        for size in plan.subscribers
        if size not in sizes
    ]
    return replace(plan, subscribers=sizes), said


def run(
    runners: Sequence[Contender],
    plan: Plan,
    cores: Cores,
    say: Callable[[str], None] = to_stderr,
) -> Outcome:
    """Measure: every round goes through all servers, every other round backwards.

    Raises:
        TrialError: The load client cannot be compiled.
    """
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="fanout-") as name:
        folder = Path(name)
        for source in ("load.c", "minimal.c"):
            compile_c(PROGRAMS / source, folder)
        say("one publish without subscribers")
        publishing = _publishing(runners, plan, cores, folder)
        say("Python above the send")
        above = _above(runners, cores, folder)
        for turn in range(plan.runs):
            for size in plan.subscribers:
                for runner in runners if turn % 2 == 0 else reversed(runners):
                    say(f"round {turn + 1} of {plan.runs}: {size} subscribers, {runner.name}")
                    trials.append(run_trial(runner, size, turn, plan, cores, folder))
                    if trials[-1].problem:
                        say(f"{runner.name}: {trials[-1].problem}")
    say("")
    return Outcome(runners, plan, trials, publishing, above)


def _above(
    runners: Sequence[Contender], cores: Cores, folder: Path
) -> dict[str, dict[str, float]]:
    """Time a delivery beside a bare send, in a process on the server's core."""
    if all(runner.name != ONI for runner in runners):
        return {}
    program = [sys.executable, str(HERE / "_fanout_above.py"), str(folder / "load")]
    program += [str(cores.client)]
    return _printed(program, cores, folder / "above.log", _ABOVE_WITHIN)


def _publishing(
    runners: Sequence[Contender], plan: Plan, cores: Cores, folder: Path
) -> dict[str, dict[str, float]]:
    if all(runner.name != ONI for runner in runners):
        return {}
    program = [sys.executable, str(HERE / "_fanout_publish.py")]
    if plan.runs == 1:
        program.append("--quick")
    return _printed(program, cores, folder / "publish.log", _PUBLISH_WITHIN)


def _printed(
    program: list[str], cores: Cores, log: Path, within: float
) -> dict[str, dict[str, float]]:
    """Run a program on the server's core; give the JSON that it prints, nothing if it fails."""
    with running(program, cores.settle(cores.server), log, stdout=subprocess.PIPE) as process:
        try:
            printed = process.communicate(timeout=within)[0]
        except subprocess.TimeoutExpired:
            return {}
    if process.returncode:
        to_stderr(log.read_text(encoding="utf-8", errors="replace")[-300:])
        return {}
    return dict(json.loads(printed))


def notes(outcome: Outcome, left_out: Sequence[str], cores: Cores) -> list[str]:
    """Say on what and how it was measured, and what went wrong."""
    plan = outcome.plan
    distributions = {name for runner in outcome.runners for name in runner.distributions}
    waited = sorted(t.figures["waited"] for t in outcome.trials if "waited" in t.figures)
    said = [
        f"{describe_machine()}; {cores}.",
        f"{versions(distributions)}{_node_version(outcome.runners)}.",
        f"{_rounds(outcome)} Deliveries: {plan.windows} floods of {plan.seconds:g} s each, the "
        "fastest counts. Ratios are to socketify, or to Autobahn behind twisted.web for "
        "connections, within the same round.",
        "In floods the load client does not sleep, at a pace it does. Connection 0 publishes, and "
        "hears it too.",
        "Oni's daemon: twistd -n oni with " + "; ".join(_settings_lines()) + ".",
    ]
    if waited:
        middle = waited[len(waited) // 2]
        said.append(
            f"Other processes kept a server from its core for {middle:.0%} of the floods in the "
            f"median trial, {waited[-1]:.0%} in the worst: with more than a few percent, trust "
            "the columns per CPU second rather than the clock, or try --nice."
        )
    problems: dict[str, int] = {}
    for trial in outcome.trials:
        if trial.problem:
            text = f"{trial.contender}, {trial.subscribers:,} subscribers: {trial.problem}"
            problems[text] = problems.get(text, 0) + 1
    said += [f"Failed ({count} x): {text}" for text, count in problems.items()]
    return [*said, *left_out]


def _settings_lines() -> list[str]:
    text = oni_settings(0).replace("tcp:0:", "tcp:PORT:")
    return [line for line in text.split("\n") if line and not line.startswith("[")]


def _node_version(runners: Sequence[Contender]) -> str:
    if not any(runner.needs for runner in runners):
        return ""
    found = subprocess.run(
        ["node", "--version"], capture_output=True, text=True, timeout=10, check=False
    )
    lock = json.loads((PROGRAMS / "node" / "package-lock.json").read_text(encoding="utf-8"))
    return f", node {found.stdout.strip()}, ws {lock['packages']['node_modules/ws']['version']}"


def joined(outcome: Outcome, earlier: Sequence[dict[str, Any]]) -> Outcome:
    """Add what earlier runs gave for other numbers of subscribers, as :func:`as_json` gave it.

    Raises:
        ValueError: One was measured in both: figures of two runs have no ratio.
    """
    trials = list(outcome.trials)
    for data in earlier:
        sizes = {trial["subscribers"] for trial in data["trials"]}
        both = sizes & {trial.subscribers for trial in trials}
        if both:
            raise ValueError(f"measured in two runs: {sorted(both)} subscribers")
        trials += [
            Trial(t["contender"], t["subscribers"], t["round"], t["figures"], t["problem"])
            for t in data["trials"]
        ]
    subscribers = tuple(sorted({trial.subscribers for trial in trials}))
    return replace(outcome, trials=trials, plan=replace(outcome.plan, subscribers=subscribers))


def _rounds(outcome: Outcome) -> str:
    """Say how often it was measured."""
    turns: dict[int, set[int]] = {}
    for trial in outcome.trials:
        turns.setdefault(trial.subscribers, set()).add(trial.turn)
    numbers = {size: len(turns[size]) for size in sorted(turns)}
    if set(numbers.values()) <= {1}:
        return "One round only: a first idea."
    rounds = ", ".join(f"{number} with {size:,}" for size, number in numbers.items())
    return (
        f"Rounds, by the number of subscribers: {rounds}; every other one backwards, the median "
        "of them is shown."
    )


def as_json(outcome: Outcome, said: Sequence[str]) -> dict[str, Any]:
    """Give all figures as JSON data."""
    return {
        "notes": list(said),
        "publishing": dict(outcome.publishing),
        "above": dict(outcome.above),
        "trials": [
            {"contender": trial.contender, "subscribers": trial.subscribers, "round": trial.turn,
             "figures": trial.figures, "problem": trial.problem}
            for trial in outcome.trials
        ],
        "targets": [
            {"row": target.row, "goal": target.goal, "at_least": target.at_least,
             "measured": target.measured, "mark": target.mark, "besides": target.besides}
            for target in targets(outcome)
        ],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute, with wider error")
    parser.add_argument("--runs", type=int, help="how many rounds instead of the usual number")
    parser.add_argument(
        "--subscribers", metavar="N,...", help="numbers of subscribers instead of the usual ones"
    )
    parser.add_argument(
        "--only", metavar="PATTERN", help="only servers whose name fits this regex, and yardsticks"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="niceness of server and load client, such as -15"
    )
    parser.add_argument("--list", action="store_true", help="list the servers and start none")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to a file")
    parser.add_argument(
        "--add",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="show what --json wrote in an earlier run, with other numbers of subscribers, too",
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--rst", action="store_true", help="print reStructuredText")
    chosen = parser.parse_args(arguments)
    runners = select(contenders(), chosen.only)
    if chosen.list:
        print("\n".join(runner.name for runner in runners))
        return
    plan = QUICK if chosen.quick else FULL
    if chosen.runs:
        plan = replace(plan, runs=chosen.runs)
    if chosen.subscribers:
        plan = replace(plan, subscribers=tuple(map(int, chosen.subscribers.split(","))))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    runners, left_out = available(runners)
    plan, too_many = fitting(plan, raise_file_limit())
    cores = Cores(chosen.nice)
    try:
        earlier = [json.loads(file.read_text(encoding="utf-8")) for file in chosen.add]
        outcome = joined(run(runners, plan, cores), earlier)
    except (TrialError, ValueError) as error:
        sys.exit(str(error))
    said = notes(outcome, [*left_out, *too_many], cores)
    for table in tables(outcome):
        layout = table.rst if chosen.rst else table.markdown if chosen.markdown else table.text
        print(layout(), end="\n\n")
    bullet = "- " if chosen.rst or chosen.markdown else ""
    print("\n".join(bullet + sentence for sentence in said))
    if chosen.json:
        chosen.json.write_text(json.dumps(as_json(outcome, said), indent=1) + "\n")


if __name__ == "__main__":
    main()
