"""Which keys were admitted, and which handlers have completed them.

A :class:`Ledger` over a store: :class:`MemoryStore`, or
:class:`oni.ledger.sqlalchemy.SqlAlchemyStore` for SQLite and PostgreSQL. :func:`store_for` makes
the one that a URL names.
"""

from __future__ import annotations

from oni.ledger._keys import MAX_KEY_BYTES, MAX_PAYLOAD_BYTES, pair_key
from oni.ledger._ledger import Ledger
from oni.ledger._memory import MemoryConnection, MemoryStore
from oni.ledger._states import TRANSITIONS
from oni.ledger._urls import store_for

__all__ = [
    "Ledger",
    "MAX_KEY_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MemoryConnection",
    "MemoryStore",
    "TRANSITIONS",
    "pair_key",
    "store_for",
]
