"""Run the project's checks: the one place where make, tox and CI take their commands from.

``python tools/check.py`` runs all of them once; ``python tools/check.py lint types`` some of them.
Checks that do not disturb each other run side by side in two lanes. What a check prints is shown
when it fails; what pytest prints is always shown.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

# Checks of one lane run in this order. All lanes of a round run at once. Integration tests mostly
# wait, for processes and disks, so they have several; those with brokers hardly do anything else.
ROUNDS = (
    (("lint", "types", "docs", "doctest", "wheel"), ("unit",)),
    (("integration",), ("deliveries",), ("redis_broker",), ("rabbitmq",), ("outage",)),
)
CHECKS = tuple(name for lanes in ROUNDS for lane in lanes for name in lane)

# What the files of other lanes of integration tests are called.
_INTEGRATION_LANES = {
    "deliveries": re.compile(
        r"test_(django|kill|ledger|notifications|outbox|pyramid|rest|sources|sqlalchemy)(_.*)?\.py"
    ),
    "redis_broker": re.compile(r"test_celery_(redis|example)\.py"),
    "rabbitmq": re.compile(r"test_celery_rabbitmq\.py"),
    "outage": re.compile(r"test_celery_outage\.py"),
}
PYTEST_CHECKS = ("unit", "integration", *_INTEGRATION_LANES)

_RUN_DOCTESTS_OF_MODULE = (
    "import doctest, importlib, sys;"
    "sys.exit(bool(doctest.testmod(importlib.import_module(sys.argv[1])).failed))"
)
_print_lock = threading.Lock()


@dataclass
class Outcome:
    """How one check ended.

    Attributes:
        name: The check.
        problem: What is wrong in a few words, or ``""``.
        seconds: How long it took.
        output: What its commands printed.
        counts: pytest's closing words and their numbers.
    """

    name: str
    problem: str = ""
    seconds: float = 0.0
    output: str = ""
    counts: dict[str, int] = field(default_factory=dict)


def commands(check: str) -> list[list[str]]:
    """Give the commands of a check. Each runs in a process of its own."""
    if check == "lint":
        ruff = [PYTHON, "-m", "ruff"]
        return [[*ruff, "check", "."], [*ruff, "format", "--check", "."]]
    if check == "types":
        return [[PYTHON, "-m", "mypy"]]
    if check == "docs":
        sphinx = [PYTHON, "-m", "sphinx", "-W", "--keep-going", "-q", "-E"]
        return [[*sphinx, "-b", "html", "docs", "docs/_build/html"]]
    if check == "doctest":
        return list(doctests())
    if check == "unit":
        return [[PYTHON, "-m", "pytest", "tests", "--ignore=tests/integration"]]
    if check in PYTEST_CHECKS:
        return [[PYTHON, "-m", "pytest", *_integration_tests(check)]]
    return [[PYTHON, "tools/wheel_check.py"]]


def _integration_tests(lane: str) -> list[str]:
    """Give the files of one of the lanes."""
    files = sorted((ROOT / "tests" / "integration").glob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if _lane(file.name) == lane]


def _lane(name: str) -> str:
    """Say in which lane a file of integration tests is."""
    lanes = (lane for lane, named in _INTEGRATION_LANES.items() if named.fullmatch(name))
    return next(lanes, "integration")


def doctests() -> Iterable[list[str]]:
    """Give one command for each page and each module that holds examples."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))]
    for page in pages:
        if "_build" not in page.parts and _has_example(page):
            yield [PYTHON, "-m", "doctest", str(page.relative_to(ROOT))]
    for module in sorted((ROOT / "oni").rglob("*.py")):
        if _has_example(module):
            dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
            yield [PYTHON, "-c", _RUN_DOCTESTS_OF_MODULE, dotted.removesuffix(".__init__")]


def _has_example(path: Path) -> bool:
    return re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def say(text: str) -> None:
    """Print whole lines at once, so that two lanes do not mix within a line."""
    with _print_lock:
        print(text, flush=True)


def run(check: str) -> Outcome:
    """Run one check to its end."""
    outcome = Outcome(check)
    started = time.monotonic()
    say(f"   {check:<12} started")
    todo = commands(check)
    if not todo:
        outcome.problem = "there was nothing to run"
    for command in todo:
        status = _run_command(command, outcome, echo=check in PYTEST_CHECKS)
        if status and not outcome.problem:
            outcome.problem = f"{_shown(command)} ended with {status}"
    if check in PYTEST_CHECKS:
        outcome.counts = closing_counts(outcome.output)
        if not outcome.problem and not outcome.counts.get("passed"):
            outcome.problem = "no test ran"
    outcome.seconds = time.monotonic() - started
    say(f"   {check:<12} {'FAILED' if outcome.problem else 'passed'} in {outcome.seconds:.0f} s")
    if outcome.problem and check not in PYTEST_CHECKS:
        say(outcome.output.rstrip())
    return outcome


def _run_command(command: Sequence[str], outcome: Outcome, echo: bool) -> int:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        outcome.output += line
        if echo:
            say(f"   {outcome.name:<12} | {line.rstrip()}")
    return process.wait()


def _shown(command: Sequence[str]) -> str:
    return " ".join("python" if part == PYTHON else part for part in command)


def closing_counts(output: str) -> dict[str, int]:
    """Read the numbers of the last line that pytest closes a run with."""
    for line in reversed(output.splitlines()):
        if re.search(r" in [\d.]+s\b", line):
            return {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", line)}
    return {}


def run_all(checks: Sequence[str]) -> list[Outcome]:
    """Run these checks, round by round, lanes of a round side by side."""
    outcomes: list[Outcome] = []
    for lanes in ROUNDS:
        wanted = [[name for name in lane if name in checks] for lane in lanes]
        with ThreadPoolExecutor(len(lanes)) as pool:
            done = pool.map(lambda lane: [run(name) for name in lane], wanted)
            outcomes += [outcome for lane in done for outcome in lane]
    return outcomes


def write_totals(outcomes: Iterable[Outcome]) -> None:
    """Add the numbers of passed and failed to the file named by ONI_TOTALS, for CI's last line.

    A check that is not pytest's counts as one failure when it fails, and not at all else.
    """
    target = os.environ.get("ONI_TOTALS")
    if not target:
        return
    with open(target, "a", encoding="utf-8") as file:
        for outcome in outcomes:
            counts = outcome.counts
            failed = sum(counts.get(word, 0) for word in ("failed", "error", "errors"))
            if outcome.problem and not failed:
                failed = 1
            file.write(f"{counts.get('passed', 0)} {failed}\n")


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say in a few lines how every check ended."""
    lines = ["", "== Summary"]
    for outcome in outcomes:
        counts = ", ".join(f"{number} {word}" for word, number in outcome.counts.items())
        told = outcome.problem or counts or "clean"
        state = "FAILED" if outcome.problem else "passed"
        lines.append(f"   {outcome.name:<12} {state}  {outcome.seconds:5.0f} s  {told}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the named checks, or all."""
    unknown = sorted(set(arguments) - set(CHECKS))
    if unknown:
        print(f"unknown check {', '.join(unknown)}; there are: {', '.join(CHECKS)}")
        return 2
    version = ".".join(map(str, sys.version_info[:3]))
    say(f"== Checking with Python {version}")
    outcomes = run_all(arguments or CHECKS)
    say(summary(outcomes))
    write_totals(outcomes)
    return 1 if any(outcome.problem for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
