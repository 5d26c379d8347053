"""Stores for tests: in memory, and in a file of SQLite, with a table for effects beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from oni.ledger.sqlalchemy import SqlAlchemyStore, prepare_engine

TIME = 1_000_000.0


class SqlFolder:
    """A folder with a database in it, and a table ``effect``.

    Args:
        clock: Gives the store's time.
        options: For :func:`oni.ledger.sqlalchemy.prepare_engine`.
    """

    def __init__(self, clock: Callable[[], float] | None = None, **options: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name, "ledger.db")
        self.url = f"sqlite:///{self.path}"
        # A machine that fails is none of these tests' matter, and they are many.
        options.setdefault("synchronous", "NORMAL")
        self.engine = prepare_engine(sa.create_engine(self.url), **options)
        self.store = SqlAlchemyStore(self.engine, clock=clock)
        with self.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE effect (name TEXT)")

    def remove(self) -> None:
        """Remove it."""
        self.store.close()
        self._folder.cleanup()


def write_effect(connection: sa.Connection, name: str) -> None:
    """Write an effect."""
    connection.execute(sa.text("INSERT INTO effect (name) VALUES (:name)"), {"name": name})


def effects(engine: sa.Engine) -> Sequence[str]:
    """Give the effects that were committed."""
    with engine.connect().execution_options(oni_read=True) as connection:
        return list(connection.execute(sa.text("SELECT name FROM effect")).scalars())
