"""The ledger's benchmark with real processes, few keys and little time."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("sqlalchemy")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
    import ledger


def measured(name: str, kills: int) -> ledger.Figures:
    """Measure one contender a little."""
    contenders = [each for each in ledger.CONTENDERS if each.name == name]
    plan = ledger.Plan(rounds=1, share=0.02, kills=kills, killed_keys=30, patience=60.0)
    outcome, left_out = ledger.run(contenders, plan, say=lambda text: None)
    assert left_out == []
    figures = outcome[name]
    assert len(figures.handled) == 1
    return figures


def test_a_ledger() -> None:
    """Every key is taken in and handled, though a process is killed."""
    figures = measured(ledger.GROUPS, kills=1)
    assert (len(figures.taken), figures.kills, figures.lost) == (1, 1, 0)


def test_without_a_ledger() -> None:
    """Who inserts first handles every key once, as long as nobody kills it."""
    figures = measured("insert, then handle (SQLite)", kills=0)
    assert (figures.lost, figures.twice) == (0, 0)


def test_a_program_that_fails(tmp_path: Path) -> None:
    """What a process says before it ends is told."""
    contender = ledger.Contender("broken", "oni", "sqlite", 10, "")
    turn = ledger.Turn(contender, "sqlite:////no/such/folder/ledger.db", 10, tmp_path)
    with pytest.raises(ledger.TrialError, match="broken"):
        turn.take()
    with pytest.raises(ledger.TrialError, match="has ended"):
        turn.handle(0, 0.0, 30.0)
