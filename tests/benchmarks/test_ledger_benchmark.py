"""The ledger's benchmark counts, compares and judges right. No process is started here.

``tests/integration/test_ledger_benchmark.py`` runs it.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
    import ledger


def figures(*handled: float, **others: Any) -> Any:
    """Give what was seen of a contender."""
    return ledger.Figures(handled=list(handled), **others)


class ReportTests(SynchronousTestCase):
    """What is made of the figures."""

    outcome: ClassVar = {
        ledger.GROUPS: figures(3000.0, 2000.0, 2500.0, taken=[9000.4], kills=5, twice=1),
        ledger.SINGLE: figures(300.0, 200.0, 250.0),
        "insert, then handle (SQLite)": figures(100.0, kills=5, lost=4),
    }

    def cells(self, number: int) -> dict[str, tuple[str, ...]]:
        """Give a table's rows by their first cell."""
        table = ledger.tables(self.outcome, ledger.CONTENDERS)[number]
        return {row[0]: tuple(row[1:]) for row in table.rows}

    def test_speed(self) -> None:
        """The best round is shown, and the ratio of the medians."""
        self.assertEqual(
            self.cells(0),
            {
                ledger.GROUPS: ("9,000", "3,000", "10.0", "synchronous=FULL"),
                ledger.SINGLE: ("", "300", "1.0", "synchronous=FULL"),
                "insert, then handle (SQLite)": ("", "100", "0.4", "synchronous=FULL"),
            },
        )

    def test_losses(self) -> None:
        """What was lost and what was handled again stand beside the kills."""
        self.assertEqual(self.cells(1)[ledger.GROUPS], ("5", "0", "1"))
        self.assertEqual(self.cells(1)["insert, then handle (SQLite)"], ("5", "4", "0"))

    def test_targets(self) -> None:
        """A target is reached at its figure, and not below it."""
        self.assertEqual([row[-1] for row in self.cells(2).values()], ["reached"] * 2)
        groups, single = figures(2999.9), figures(375.0)
        table = ledger._targets(groups, single)
        self.assertEqual([row[-1] for row in table.rows], ["not reached"] * 2)

    def test_alone(self) -> None:
        """A contender that is measured alone has no ratio, and there are no targets."""
        outcome = {ledger.GROUPS: self.outcome[ledger.GROUPS]}
        speed, losses = ledger.tables(outcome, ledger.CONTENDERS)
        self.assertEqual(speed.rows[0][3], "")
        self.assertEqual(len(losses.rows), 1)

    def test_printed(self) -> None:
        """The command prints tables and notes, and keeps the figures."""
        with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()) as printed:
            file = Path(folder, "figures.json")
            with mock.patch.object(ledger, "run", lambda *_: (self.outcome, ["No server."])):
                ledger.main(["--rst", "--json", str(file)])
            kept = json.loads(file.read_text())
        self.assertIn(".. list-table:: Keys per second", printed.getvalue())
        self.assertIn("- No server.", printed.getvalue())
        self.assertEqual(kept["contenders"][0]["handled"], [3000.0, 2000.0, 2500.0])

    def test_chosen(self) -> None:
        """Contenders are chosen by their names; who is not installed is named."""
        chosen = ledger.select(ledger.CONTENDERS, "postgresql")
        self.assertEqual({each.where for each in chosen}, {"postgresql"})
        with mock.patch.object(ledger, "find_spec", lambda name: name != "celery" or None):
            found, left_out = ledger.available(ledger.CONTENDERS)
        self.assertEqual(len(found), len(ledger.CONTENDERS) - 1)
        self.assertEqual(
            left_out, ["Celery, acks_late (Redis) is left out: celery is not installed."]
        )


class TurnTests(SynchronousTestCase):
    """What is read of what handlers wrote."""

    def setUp(self) -> None:
        """Make a turn whose handlers have written something."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_lost_and_twice(self) -> None:
        """Keys without a line are lost; each further line of one is a second time."""
        contender = ledger.CONTENDERS[0]
        seen = ledger.Figures()
        plan = ledger.Plan(kills=2, killed_keys=5)

        def handle(turn: Any, kills: int, pause: float, patience: float) -> None:
            text = "".join(f"key-{n} {n}000000000\n" for n in (1, 2, 2, 2, 3, 3))
            (self.folder / "effects").write_text(text)

        with (
            mock.patch.object(ledger.Turn, "take", lambda turn: 0.0),
            mock.patch.object(ledger.Turn, "handle", handle),
        ):
            ledger.kill(contender, ledger.Files(self.folder), plan, seen, self.folder)
        self.assertEqual((seen.kills, seen.lost, seen.twice), (2, 2, 3))

    def test_rate(self) -> None:
        """The rate is that between the first key and the last."""
        contender = ledger.Contender("c", "oni", "sqlite", 100, "")
        seen = ledger.Figures()

        def handle(turn: Any, kills: int, pause: float, patience: float) -> None:
            text = "".join(f"key-{n} {n}00000000\n" for n in range(11))
            (self.folder / "effects").write_text(text)

        with (
            mock.patch.object(ledger.Turn, "take", lambda turn: 50.0),
            mock.patch.object(ledger.Turn, "handle", handle),
        ):
            plan = ledger.Plan(share=0.11)
            ledger.race(contender, ledger.Files(self.folder), plan, seen, self.folder)
            with self.assertRaises(ledger.TrialError):
                plan = ledger.Plan(share=0.12)
                ledger.race(contender, ledger.Files(self.folder), plan, seen, self.folder)
        self.assertEqual(seen.taken, [50.0])
        self.assertAlmostEqual(seen.handled[0], 10.0)
