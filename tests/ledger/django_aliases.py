"""Databases of Django's for tests: an alias of its own for each, with the tables of the ledger."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.django_project import set_up

set_up()

from django.db import connections  # noqa: E402

from oni.ledger.django import create_statements  # noqa: E402

_numbers = count(1)

PROPER = {
    "transaction_mode": "IMMEDIATE",
    # A machine that fails is none of these tests' matter, and they are many.
    "init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=normal",
}
"""How SQLite is to be opened, but for the speed."""


@contextmanager
def an_alias(**settings: Any) -> Iterator[str]:
    """Give an alias for a database, as long as the block lasts.

    Args:
        settings: As in ``DATABASES``.
    """
    alias = f"ledger_{next(_numbers)}"
    known = connections.configure_settings({"default": {}, alias: settings})[alias]
    connections.settings[alias] = known
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


class AliasFolder:
    """A folder with a database of SQLite's in it, and an alias for it.

    Args:
        options: What is different from :data:`PROPER`.
        has_tables: Whether the tables are there, and one for effects.
    """

    def __init__(self, has_tables: bool = True, **options: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name, "ledger.db")
        self._context = an_alias(
            ENGINE="django.db.backends.sqlite3", NAME=str(self.path), OPTIONS=PROPER | options
        )
        self.alias = self._context.__enter__()
        if has_tables:
            make_tables(self.alias)

    def remove(self) -> None:
        """Remove both."""
        self._context.__exit__(None, None, None)
        self._folder.cleanup()


def make_tables(alias: str) -> None:
    """Make the ledger's tables, and one for effects."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        for statement in create_statements(connection.vendor):
            cursor.execute(statement)
        cursor.execute("CREATE TABLE effect (name TEXT)")


def write_effect(connection: Any, name: str) -> None:
    """Write an effect."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect (name) VALUES (%s)", [name])


def effects(alias: str) -> Sequence[str]:
    """Give the effects that were committed, as another connection sees them."""
    other = connections[alias].copy()
    try:
        return read_effects(other)
    finally:
        other.close()


def read_effects(connection: Any) -> Sequence[str]:
    """Give the effects that a connection sees."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM effect")
        return [row[0] for row in cursor.fetchall()]
