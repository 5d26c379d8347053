"""Which store a URL names."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import sqlalchemy as sa
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerUrlError, MissingExtraError
from oni.ledger import MemoryStore, store_for
from oni.ledger.sqlalchemy import SqlAlchemyStore


class UrlTests(SynchronousTestCase):
    """URLs of ledgers."""

    def test_known(self) -> None:
        """Memory, SQLite and PostgreSQL."""
        self.assertIsInstance(store_for("memory:"), MemoryStore)
        for url in ("sqlite:////nowhere/ledger.db", "postgresql://user:secret@nowhere/db"):
            store = store_for(url)
            self.assertIsInstance(store, SqlAlchemyStore)
            self.assertEqual(store.label, "effects once")

    def test_namespace(self) -> None:
        """A store is told what idempotency keys begin with."""
        for url in ("memory:", "sqlite:////nowhere/ledger.db"):
            store: Any = store_for(url, "shop")
            self.assertEqual(store.namespace, "shop")

    def test_unknown(self) -> None:
        """Anything else is refused, without the password that may be in it."""
        for url in ("", "mysql://me:secret@host/db", "memory:x", "sqlite:/x"):
            error = self.assertRaises(LedgerUrlError, store_for, url)
            self.assertNotIn("secret", str(error))

    def test_another_database(self) -> None:
        """An engine for another database is refused, too."""
        engine = sa.create_mock_engine("mysql+pymysql://me:secret@host/db", lambda sql: None)
        engine.url = sa.make_url("mysql+pymysql://me:secret@host/db")  # type: ignore[attr-defined]
        error = self.assertRaises(LedgerUrlError, SqlAlchemyStore, engine)
        self.assertNotIn("secret", str(error))

    def test_missing(self) -> None:
        """What is not installed is named, with what to install."""
        with mock.patch.dict(sys.modules, {"oni.ledger.sqlalchemy": None}):
            error = self.assertRaises(MissingExtraError, store_for, "sqlite:////x.db")
            self.assertIn("oni-dispatcher[sql]", str(error))
            error = self.assertRaises(MissingExtraError, store_for, "postgresql://host/x")
            self.assertIn("oni-dispatcher[sql,postgres]", str(error))
