"""A ledger in a database of Django's, SQLite or PostgreSQL, and an outbox.

Their tables come from the migrations of the application ``oni.sources.django``.
"""

from __future__ import annotations

from oni.ledger._tables import create_statements
from oni.ledger.django._connections import settings_problems
from oni.ledger.django._outbox import DjangoOutbox
from oni.ledger.django._store import DjangoStore

__all__ = ["DjangoOutbox", "DjangoStore", "create_statements", "settings_problems"]
