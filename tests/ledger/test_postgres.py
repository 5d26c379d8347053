"""PostgreSQL without a server: what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    LedgerCorruptError,
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
)
from oni.ledger._postgres import Postgres, _number
from oni.ledger._transaction import LockedError, LostRaceError

ME, OTHER = "1" * 32, "2" * 32


class OperationalError(Exception):
    """As a driver raises it.

    Args:
        sqlstate: The server's code; None: the driver's own error.
    """

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Server:
    """Connections to a server on which everybody who has no session is dead."""

    def __init__(self) -> None:
        self.is_away = False

    def dedicate(self) -> Session:
        """Give a session, if it is there."""
        if self.is_away:
            raise LedgerUnavailableError("away")
        return Session()

    @contextmanager
    def begin(self, read: bool = False) -> Iterator[Session]:
        """Give a session in a transaction."""
        yield self.dedicate()


class Session:
    """A session on it, which can be cut off."""

    is_cut = False

    def rows(self, statement: str, values: object = None) -> list[list[bool]]:
        """Answer: every lock can be had."""
        if Session.is_cut:
            raise LedgerUnavailableError("cut")
        return [[True]]

    def close(self) -> None:
        """End it."""


class OwnerTests(SynchronousTestCase):
    """Owners after the server was away."""

    def test_all_come_back(self) -> None:
        """Who comes back gives the others a moment to do the same, and does not rescue theirs."""
        clock, server = Clock(), Server()
        database: Any = Postgres(seconds=clock.seconds)
        database.enter(server, ME)
        self.assertFalse(database.is_alive(server, OTHER), "nobody was away")
        server.is_away = True
        with mock.patch.object(Session, "is_cut", True):
            for _ in range(2):
                self.assertRaises(LedgerUnavailableError, database.enter, server, ME)
        server.is_away = False
        clock.advance(100.0)
        database.enter(server, ME)
        self.assertTrue(database.is_alive(server, OTHER))
        clock.advance(1.9)
        database.enter(server, ME)
        self.assertTrue(database.is_alive(server, OTHER))
        clock.advance(0.2)
        self.assertFalse(database.is_alive(server, OTHER))

    def test_who_comes_anew(self) -> None:
        """Who has left, and enters again, has missed nothing."""
        clock, server = Clock(), Server()
        database: Any = Postgres(seconds=clock.seconds)
        database.enter(server, ME)
        with mock.patch.object(Session, "is_cut", True):
            database.leave(ME)
        database.enter(server, ME)
        self.assertFalse(database.is_alive(server, OTHER))


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
