"""Reads what a run has left behind, and says what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oni.values import Delivery
from tests.integration.kill_harness.app import handlers_of, key_of
from tests.integration.kill_harness.history import read
from tests.integration.kill_harness.places import Place, deliveries

__all__ = ["Report", "check"]

_SHOWN = 5  # examples of each kind


@dataclass
class Report:
    """What came of a run.

    Attributes:
        seed: What it can be repeated with.
        store: What kind of store it was on.
        again: The command that repeats it.
        concurrency: How many mails may have been under way in one process.
        keys: How many keys there were.
        seconds: How long it took.
        kills: How many processes were killed.
        at_points: How many of them killed themselves, at a point.
        stops: How many were stopped for longer than a lease.
        restarts: How often the server was killed.
        rescues: How many deliveries were taken from an owner.
        expiries: How many of them from one that was not dead.
        effects: How many effects there are in the database.
        mails: How many there are elsewhere, at least once each.
        repeated: How many of them are repetitions.
        pays: How many there are elsewhere, at most once each.
        decided: How many of these an operator had to decide about.
        problems: What is wrong, by kind, with examples.
    """

    seed: int
    store: str
    again: str = ""
    concurrency: int = 1
    keys: int = 0
    seconds: float = 0.0
    kills: int = 0
    at_points: int = 0
    stops: int = 0
    restarts: int = 0
    rescues: int = 0
    expiries: int = 0
    effects: int = 0
    mails: int = 0
    repeated: int = 0
    pays: int = 0
    decided: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)

    def wrong(self, kind: str, example: str) -> None:
        """Take down something that is wrong."""
        self.problems.setdefault(kind, []).append(example)

    def __str__(self) -> str:
        """Give the figures, what is wrong, and how to see it again."""
        text = (
            f"{self.store}, seed {self.seed}: {self.keys:,} keys, {self.kills} kills "
            f"({self.at_points} at points), {self.stops} stops, {self.restarts} restarts in "
            f"{self.seconds:.1f} s; {self.rescues} rescues ({self.expiries} of the living); "
            f"effects in the database {self.effects:,}; mails {self.mails:,} "
            f"({self.repeated} repeated); pays {self.pays:,} ({self.decided} decided)"
        )
        for kind, examples in self.problems.items():
            shown = "; ".join(examples[:_SHOWN])
            text += f"\n  {kind}: {len(examples)}: {shown}"
        if self.problems:
            text += f"\n  again: {self.again}"
        return text


def check(report: Report, place: Place, history: Path, numbers: Collection[int]) -> Report:
    """Judge a run that has come to its end.

    Args:
        report: Where the figures go, and what is wrong.
        place: The database.
        history: The file with what all processes have written.
        numbers: Those of all events that were ever offered.
    """
    expected = {key_of(number): handlers_of(number) for number in numbers}
    lines = list(read(history))
    ledger = deliveries(place)
    report.keys = len(expected)
    rescued = _count_rescues(report, lines)
    _check_ledger(report, ledger, expected)
    _check_database(report, place.effects(), ledger, expected)
    _check_elsewhere(report, lines, ledger)
    _check_repetitions(report, lines, rescued)
    damage = place.damage()
    if damage:
        report.wrong("damaged", damage)
    return report


def _count_rescues(report: Report, lines: Sequence[dict[str, Any]]) -> Counter[str]:
    """Tell those that were taken from the dead from those that were taken from the living.

    Returns:
        How often mails were rescued, by key.
    """
    mails: Counter[str] = Counter()
    pids: dict[str, int] = {}
    killed: set[int] = set()
    for line in lines:
        if line["what"] == "started":
            pids[line["owner"]] = line["pid"]
        elif line["what"] == "killed":
            killed.add(line["victim"])
        elif line["what"] == "rescued":
            report.rescues += 1
            report.expiries += pids.get(line["owner"]) not in killed
            mails[line["key"]] += line["handler"] == "mail"
    return mails


def _check_ledger(
    report: Report, ledger: Sequence[Delivery], expected: Mapping[str, Sequence[str]]
) -> None:
    states = {(each.key, each.handler): each.state for each in ledger}
    for key, handlers in expected.items():
        for handler in handlers:
            state = states.pop((key, handler), "absent")
            if state != "done":
                report.wrong("lost", f"{handler} of {key} is {state}")
    for key, handler in states:
        report.wrong("unexpected", f"{handler} of {key}")


def _check_database(
    report: Report, effects: Counter[str], ledger: Sequence[Delivery], keys: Collection[str]
) -> None:
    report.effects = effects.total()
    for key, times in effects.items():
        if times > 1:
            report.wrong("double effect", f"{key} {times} times")
        if key not in keys:
            report.wrong("unexpected", f"an effect of {key}")
    for each in ledger:
        if each.handler == "book" and each.state == "done" and not effects[each.key]:
            report.wrong("done without effect", f"book of {each.key}")


def _check_elsewhere(
    report: Report, lines: Sequence[dict[str, Any]], ledger: Sequence[Delivery]
) -> None:
    sent: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        if line["what"] == "effect":
            sent.setdefault((line["handler"], line["key"]), []).append(line)
            if line["earlier"] != "done":
                report.wrong(
                    "out of order",
                    f"{line['handler']} of {line['key']} while book was {line['earlier']}",
                )
    for (handler, key), each in sent.items():
        attempts = [line["attempt"] for line in each]
        if len(set(attempts)) < len(attempts):
            report.wrong("attempt ran twice", f"{handler} of {key}: {attempts}")
        if len({line["idempotency_key"] for line in each}) > 1:
            report.wrong("idempotency key changed", f"{handler} of {key}")
        if handler == "pay" and len(each) > 1:
            report.wrong("paid twice", f"{key}: attempts {attempts}")
    report.pays = sum(len(each) for (handler, _), each in sent.items() if handler == "pay")
    for each in ledger:
        is_done = each.handler in ("mail", "pay") and each.state == "done"
        if is_done and (each.handler, each.key) not in sent:
            report.wrong("done without effect", f"{each.handler} of {each.key}")


def _check_repetitions(
    report: Report, lines: Sequence[dict[str, Any]], rescued: Counter[str]
) -> None:
    """Allow a repetition for each one that was under way in a process that died or was silent."""
    mails = Counter(
        line["key"] for line in lines if line["what"] == "effect" and line["handler"] == "mail"
    )
    report.mails = mails.total()
    report.repeated = report.mails - len(mails)
    allowed = report.kills * report.concurrency + report.expiries
    if report.repeated > allowed:
        report.wrong("repeated too often", f"{report.repeated} mails, allowed are {allowed}")
    for key, times in mails.items():
        if times > 1 + rescued[key]:
            report.wrong("repeated for nothing", f"mail of {key}, rescued {rescued[key]} times")
