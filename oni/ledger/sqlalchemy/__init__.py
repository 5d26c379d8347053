"""A ledger in an SQLite file or on a PostgreSQL server, through SQLAlchemy, and an outbox."""

from __future__ import annotations

from oni.ledger.sqlalchemy._connections import prepare_engine
from oni.ledger.sqlalchemy._outbox import SqlAlchemyOutbox
from oni.ledger.sqlalchemy._store import SqlAlchemyStore
from oni.ledger.sqlalchemy._tables import metadata, outbox_metadata

__all__ = [
    "SqlAlchemyOutbox",
    "SqlAlchemyStore",
    "metadata",
    "outbox_metadata",
    "prepare_engine",
]
