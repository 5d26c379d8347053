"""The checker finds each kind of wrong in what a run leaves behind."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.values import Delivery
from tests.integration.kill_harness.checker import Report, check
from tests.integration.kill_harness.history import History, read

WORKER, OTHER = 101, 102
OWNER = "a" * 32


class FakePlace:
    """A place in memory, with one event that all went well with."""

    kind = "fake"

    def __init__(self) -> None:
        self.store = self
        self.found = [
            Delivery(handler, "order/0", "done", attempts=1, token=1)
            for handler in ("book", "mail", "pay")
        ]
        self.rows = Counter({"order/0": 1})
        self.harm = ""

    @contextmanager
    def transaction(self, read: bool) -> Iterator[FakePlace]:
        """Give what deliveries are asked of."""
        yield self

    def deliveries(self, *_: Any) -> Sequence[Delivery]:
        """Give them."""
        return self.found

    def effects(self) -> Counter[str]:
        """Give what is in the database."""
        return self.rows

    def damage(self) -> str:
        """Give what is wrong with it."""
        return self.harm

    def let(self, handler: str, **changes: Any) -> None:
        """Change a delivery."""
        self.found = [
            replace(each, **changes) if each.handler == handler else each for each in self.found
        ]


class CheckerTests(SynchronousTestCase):
    """What is found."""

    def setUp(self) -> None:
        """Let everything go well."""
        self.place = FakePlace()
        self.lines = [
            {"what": "started", "pid": WORKER, "owner": OWNER},
            self.effect("mail"),
            self.effect("pay"),
        ]

    def effect(self, handler: str, **words: Any) -> dict[str, Any]:
        """Give a line of an effect."""
        return {
            "what": "effect",
            "handler": handler,
            "key": "order/0",
            "attempt": 1,
            "idempotency_key": f"oni/{handler}/order/0",
            "earlier": "done",
            **words,
        }

    def rescued(self, handler: str) -> dict[str, Any]:
        """Give a line of a rescue."""
        return {"what": "rescued", "handler": handler, "key": "order/0", "owner": OWNER}

    def found(self, kills: int = 0) -> Report:
        """Check it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history"
            path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
            return check(Report(0, "fake", kills=kills), self.place, path, [0])

    def assert_wrong(self, *kinds: str, kills: int = 0) -> None:
        """See these kinds found, and no others."""
        self.assertEqual(set(self.found(kills).problems), set(kinds))

    def test_well(self) -> None:
        """Where all went well nothing is wrong, and the figures are right."""
        report = self.found()
        self.assertEqual(report.problems, {})
        self.assertEqual(
            (report.effects, report.mails, report.pays, report.repeated), (1, 1, 1, 0)
        )

    def test_lost(self) -> None:
        """A delivery that did not end, or is not there, is lost."""
        self.place.let("mail", state="pending")
        self.assert_wrong("lost")
        self.place.found = self.place.found[:1]
        self.assertEqual(len(self.found().problems["lost"]), 2)

    def test_unexpected(self) -> None:
        """What nobody has offered is not there."""
        self.place.found.append(Delivery("book", "order/1", "dead"))
        self.place.rows["order/2"] = 1
        self.assertEqual(len(self.found().problems["unexpected"]), 2)

    def test_double_effect(self) -> None:
        """A row is there once."""
        self.place.rows["order/0"] = 2
        self.assert_wrong("double effect")

    def test_done_without_effect(self) -> None:
        """What is done has had its effect, in the database and elsewhere."""
        self.place.rows.clear()
        del self.lines[1:]
        self.assert_wrong("done without effect")
        self.assertEqual(len(self.found().problems["done without effect"]), 3)

    def test_out_of_order(self) -> None:
        """What comes later waits for what comes before."""
        self.lines[1] = self.effect("mail", earlier="running")
        self.assert_wrong("out of order")

    def test_attempt_ran_twice(self) -> None:
        """Two effects are two attempts."""
        self.lines += [self.rescued("mail"), self.effect("mail")]
        self.assert_wrong("attempt ran twice", kills=1)

    def test_idempotency_key(self) -> None:
        """It stays the same."""
        self.lines += [self.rescued("mail"), self.effect("mail", attempt=2, idempotency_key="x")]
        self.assert_wrong("idempotency key changed", kills=1)

    def test_paid_twice(self) -> None:
        """Nothing is paid twice, whoever was killed."""
        self.lines.append(self.effect("pay", attempt=2))
        self.assert_wrong("paid twice", kills=5)

    def test_repeated(self) -> None:
        """A mail is sent again where it was rescued, and as often as somebody died."""
        self.lines.append(self.effect("mail", attempt=2))
        self.assert_wrong("repeated for nothing", kills=1)
        self.lines += [{"what": "killed", "victim": WORKER}, self.rescued("mail")]
        self.assert_wrong("repeated too often")
        self.assert_wrong(kills=1)

    def test_the_living(self) -> None:
        """Who was rescued from, and was not dead, had a lease that was over: that allows one."""
        self.lines += [
            {"what": "killed", "victim": OTHER},
            self.rescued("mail"),
            self.effect("mail", attempt=2),
        ]
        report = self.found()
        self.assertEqual((report.problems, report.rescues, report.expiries), ({}, 1, 1))

    def test_damaged(self) -> None:
        """What the database says of itself is told."""
        self.place.harm = "page 3 is missing"
        self.assert_wrong("damaged")

    def test_what_is_printed(self) -> None:
        """The figures, what is wrong, and the command that repeats it."""
        report = Report(7, "sqlite", "python -m it --seed 7", kills=3)
        self.assertNotIn("again", str(report))
        report.wrong("lost", "book of order/1 is pending")
        self.assertIn("sqlite, seed 7: 0 keys, 3 kills", str(report))
        self.assertIn("lost: 1: book of order/1 is pending", str(report))
        self.assertIn("again: python -m it --seed 7", str(report))


class HistoryTests(SynchronousTestCase):
    """What is written down."""

    def test_lines(self) -> None:
        """Two that write to one file do not write over each other."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "history"
        one, two = History(path), History(path)
        for number in range(3):
            one.add("one", number=number)
            two.add("two", number=number)
        one.close()
        two.close()
        told = [(line["what"], line["number"]) for line in read(path)]
        self.assertEqual(told, [(who, n) for n in range(3) for who in ("one", "two")])
