"""What a database says of its tables, so that two ways of making them can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

TABLES = ("oni_event", "oni_delivery", "oni_decision", "oni_outbox")

Described = Mapping[str, Mapping[str, Any]]


def described(engine: sa.Engine) -> Described:
    """Read each table's columns, keys, indexes and constraints from the database itself."""
    found = sa.inspect(engine)
    return {table: _described(engine, found, table) for table in TABLES}


def _described(engine: sa.Engine, found: sa.Inspector, table: str) -> Mapping[str, Any]:
    return {
        "columns": [
            (
                each["name"],
                str(each["type"]),
                each["nullable"],
                each["default"],
                (each.get("identity") or {}).get("always"),
            )
            for each in found.get_columns(table)
        ],
        "key": found.get_pk_constraint(table)["constrained_columns"],
        "indexes": sorted(
            (str(each["name"]), tuple(each["column_names"]), each["unique"])
            for each in found.get_indexes(table)
        ),
        "checks": sorted(
            (str(each["name"]), each["sqltext"]) for each in found.get_check_constraints(table)
        ),
        "unique": found.get_unique_constraints(table),
        "foreign": found.get_foreign_keys(table),
        "storage": _storage(engine, table) if engine.dialect.name == "sqlite" else (),
    }


def _storage(engine: sa.Engine, table: str) -> Sequence[object]:
    """Say what only SQLite has: whether rows have numbers, and whether one may come again."""
    with engine.connect() as connection:
        without_rowid = connection.exec_driver_sql(
            "SELECT wr FROM pragma_table_list WHERE name = ?", (table,)
        ).scalar_one()
        text = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_schema WHERE name = ?", (table,)
        ).scalar_one()
        return without_rowid, "AUTOINCREMENT" in text.upper()
