"""What is true of a database's driver, whatever framework is around it."""

from __future__ import annotations

from typing import Any

from oni.errors import ForkedProcessError, LedgerTransactionError

__all__ = ["ended", "forked", "is_in_transaction"]

_IDLE = 0  # PQTRANS_IDLE, in psycopg's and psycopg2's words alike


def is_in_transaction(driver: Any, is_sqlite: bool) -> bool:
    """Say whether the database itself is in a transaction.

    Args:
        driver: The driver's connection.
        is_sqlite: Whether it is one to SQLite.
    """
    if is_sqlite:
        return bool(driver.in_transaction)
    info = getattr(driver, "info", None)
    if info is None:  # a driver that does not tell
        return not driver.autocommit
    return int(info.transaction_status) != _IDLE


def ended() -> LedgerTransactionError:
    """Say that work has ended the transaction that it was given."""
    return LedgerTransactionError(
        "the transaction that a handler was given was ended by it; the ledger commits, or rolls "
        "back when the handler raises"
    )


def forked() -> ForkedProcessError:
    """Say that connections were used on the other side of a fork."""
    return ForkedProcessError(
        "the ledger's connections belong to the process that this one was forked from; open a "
        "ledger in each process after the fork"
    )
