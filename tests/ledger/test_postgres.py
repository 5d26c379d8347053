"""PostgreSQL without a server: what its errors mean."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    LedgerCorruptError,
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
)
from oni.ledger._postgres import Postgres, _number
from oni.ledger._transaction import LockedError, LostRaceError


class OperationalError(Exception):
    """As a driver raises it.

    Args:
        sqlstate: The server's code; None: the driver's own error.
    """

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class ErrorTests(SynchronousTestCase):
    """Codes of the server."""

    def test_meanings(self) -> None:
        """Each code is one of our errors, or the program's own mistake."""
        for code, expected in {
            "40001": LostRaceError,
            "40P01": LostRaceError,
            "55P03": LockedError,
            "25P02": LedgerTransactionError,
            "57P01": LedgerUnavailableError,
            "08006": LedgerUnavailableError,
            "53300": LedgerUnavailableError,
            "25006": LedgerUnavailableError,
            "53100": LedgerFullError,
            "XX001": LedgerCorruptError,
            None: LedgerUnavailableError,
            "23505": None,
            "42P01": None,
        }.items():
            told = Postgres().translate(OperationalError(code))
            self.assertIs(type(told) if told else None, expected, code)
        self.assertIsNone(Postgres().translate(ValueError("no code at all")))

    def test_errors_of_a_pool(self) -> None:
        """What a driver derives from its own error means the same: nobody answers in time."""

        class PoolTimeoutError(OperationalError):
            """As psycopg's pool raises it."""

        told = Postgres().translate(PoolTimeoutError(None))
        self.assertIsInstance(told, LedgerUnavailableError)

    def test_numbers_of_locks(self) -> None:
        """An owner's lock is a number with a sign, of 64 bits."""
        self.assertEqual(_number("0" * 15 + "1" + "f" * 16), 1)
        self.assertEqual(_number("f" * 32), -1)
        self.assertEqual(_number("7" + "f" * 31), 2**63 - 1)
