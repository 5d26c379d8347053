"""What ``oni doctor`` finds in a ledger."""

from __future__ import annotations

from unittest import mock

from oni.command import _doctor_ledger
from oni.command._doctor_ledger import look_at_ledger
from oni.command._doctor_rows import Level, Row
from oni.errors import LedgerUnavailableError
from oni.ledger import store_for
from oni.ledger.sqlalchemy import SqlAlchemyStore
from oni.server import load_settings
from oni.values import Handling, LedgerEvent
from tests.command.cases import CommandTestCase


class DoctorsLedger(CommandTestCase):
    """A ledger that settings name."""

    def rows(self, url: str = "sqlite:///ledger.db") -> list[Row]:
        """Look at it."""
        settings = load_settings(self.file("ledger.toml", f'[ledger]\nurl = "{url}"\n'))
        return list(look_at_ledger(settings))

    def test_none(self) -> None:
        """Without a ledger there is nothing to say."""
        self.assertEqual([], list(look_at_ledger(load_settings(self.config))))

    def test_not_there_yet(self) -> None:
        """A file that comes with the first start is in order, and is not made by looking."""
        (row,) = self.rows()
        self.assertIs(Level.OK, row.level)
        self.assertFalse((self.folder / "ledger.db").exists())

    def test_no_folder(self) -> None:
        """A file in a folder that is not there is an error, and says which."""
        (row,) = self.rows("sqlite:///nowhere/ledger.db")
        self.assertIs(Level.ERROR, row.level)
        self.assertIn(str(self.folder / "nowhere"), row.found)

    def test_memory(self) -> None:
        """A ledger that forgets is a warning."""
        (row,) = self.rows("memory:")
        self.assertIs(Level.WARNING, row.level)

    def test_namespace(self) -> None:
        """Of a server with several ledgers the daemon's is looked at."""
        path = self.file(
            "redis.toml", '[ledger]\nurl = "redis://127.0.0.1:9/0"\nnamespace = "shop"\n'
        )
        away = mock.Mock(side_effect=LedgerUnavailableError("refused"))
        with mock.patch.object(_doctor_ledger, "store_for", away):
            self.assertEqual(1, len(list(look_at_ledger(load_settings(path)))))
        away.assert_called_once_with("redis://127.0.0.1:9/0", "shop")

    def make(self) -> None:
        """Make a ledger with one delivery for which it was given up, and one that waits."""
        store = store_for(f"sqlite:///{self.folder / 'ledger.db'}")
        store.open()
        with store.transaction() as transaction:
            for key in ("a", "b"):
                transaction.admit(LedgerEvent(key, handlings=(Handling("mail"),)))
            (claim,) = transaction.claim(["mail"], 1, "me", 10.0)
            transaction.fail(claim, "no", True, None)
        store.close()

    def test_what_waits(self) -> None:
        """It says what the ledger promises, and what waits for an operator."""
        self.make()
        good, dead = self.rows()
        self.assertEqual(
            (Level.OK, "it answers, and promises: effects once"), (good.level, good.found)
        )
        self.assertEqual(
            (Level.WARNING, "1 dead", "oni ledger list"), (dead.level, dead.found, dead.todo)
        )

    def test_nobody_delivers(self) -> None:
        """What has been due for long is a warning."""
        self.make()
        with mock.patch.object(_doctor_ledger, "_LATE", -1.0):
            late = self.rows()[-1]
        self.assertIs(Level.WARNING, late.level)
        self.assertIn("has been due", late.found)

    def test_warnings(self) -> None:
        """What the store itself warns of is told."""
        self.make()
        with mock.patch.object(SqlAlchemyStore, "open", return_value=["mind the gap"]):
            self.assertIn("mind the gap", [row.found for row in self.rows()])

    def test_trouble(self) -> None:
        """A database that does not answer, or is damaged, is an error with a way out."""
        self.make()
        away = mock.Mock(side_effect=LedgerUnavailableError("refused"))
        with mock.patch.object(SqlAlchemyStore, "open", away):
            (row,) = self.rows()
        self.assertEqual((Level.ERROR, "it does not answer: refused"), (row.level, row.found))
        (self.folder / "ledger.db").write_text("this is no database\n" * 100)
        (row,) = self.rows()
        self.assertIs(Level.ERROR, row.level)
        self.assertIn("damaged", row.found)
        self.assertTrue(row.todo)

    def test_doctor(self) -> None:
        """The command has its rows."""
        self.make()
        path = self.file("ledger.toml", '[ledger]\nurl = "sqlite:///ledger.db"\n')
        ended = self.oni("doctor", "--config", path)
        self.assertIn("warning  ledger: 1 dead -- oni ledger list", ended.out)
