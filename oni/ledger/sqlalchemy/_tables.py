"""The tables, as SQLAlchemy describes them."""

from __future__ import annotations

import sqlalchemy as sa

from oni.ledger._states import STATES

__all__ = ["metadata", "outbox_metadata"]

metadata = sa.MetaData()
"""The ledger's tables."""

sa.Table(
    "oni_event",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("group_name", sa.String(255), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("admitted_at", sa.Double, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
)
sa.Table(
    "oni_delivery",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("handler", sa.String(255), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("on_crash", sa.String(16), nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("crashes", sa.Integer, nullable=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("waits_for", sa.Integer, nullable=False),
    sa.Column("awaited_by", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.CheckConstraint(f"state IN {STATES}", name="oni_delivery_state"),
    sa.Index("oni_delivery_due", "state", "handler", "waits_for", "next_at", "key"),
    sa.Index("oni_delivery_changed", "changed_at"),
    sqlite_with_rowid=False,
)
sa.Table(
    "oni_decision",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
    sa.Column("key", sa.String(255), nullable=False, index=True),
    sa.Column("handler", sa.String(255), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("was", sa.String(16), nullable=False),
    sa.Column("who", sa.String(255), nullable=False),
    sa.Column("decided_at", sa.Double, nullable=False),
)

outbox_metadata = sa.MetaData()
"""The outbox's table, which is in the program's database."""

sa.Table(
    "oni_outbox",
    outbox_metadata,
    sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True
    ),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("group_name", sa.String(255), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    # What may be large comes last: SQLite reads a row from its beginning, and rows are counted.
    sa.Column("handlings", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    # A relay removes what it has read by its number, so that no number may be given twice.
    sqlite_autoincrement=True,
)
