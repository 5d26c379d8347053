"""Which keys were admitted, and which handlers have completed them.

A :class:`Ledger` over a store: :class:`MemoryStore`, :class:`oni.ledger.redis.RedisStore`, or for
SQLite and PostgreSQL :class:`oni.ledger.sqlalchemy.SqlAlchemyStore` and
:class:`oni.ledger.django.DjangoStore`. :func:`store_for` makes the one that a URL names.

Where the ledger is in another database than the data, an outbox beside the data keeps events until
a :class:`Relay` has taken them to the ledger: :class:`oni.ledger.sqlalchemy.SqlAlchemyOutbox`,
:class:`oni.ledger.django.DjangoOutbox`.
"""

from __future__ import annotations

from oni.ledger._keys import MAX_KEY_BYTES, MAX_PAYLOAD_BYTES, check_event, pair_key
from oni.ledger._ledger import Ledger
from oni.ledger._memory import MemoryConnection, MemoryStore
from oni.ledger._relay import Relay
from oni.ledger._states import TRANSITIONS
from oni.ledger._urls import store_for

__all__ = [
    "Ledger",
    "MAX_KEY_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MemoryConnection",
    "MemoryStore",
    "Relay",
    "TRANSITIONS",
    "check_event",
    "pair_key",
    "store_for",
]
