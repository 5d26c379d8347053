"""The tables are the same, whoever makes them: SQLAlchemy, or a migration of Django's."""

from __future__ import annotations

import sqlalchemy as sa
from django.apps import apps
from django.db import connections
from twisted.trial.unittest import SynchronousTestCase

from oni.ledger.sqlalchemy import metadata, outbox_metadata
from tests.ledger import django_aliases  # noqa: F401 - it makes the tables of "default"
from tests.ledger.tables import TABLES, described


class TableTests(SynchronousTestCase):
    """On SQLite; PostgreSQL has its turn among the integration tests."""

    def setUp(self) -> None:
        """Read what the migration has made."""
        self.engine = sa.create_engine(f"sqlite:///{connections['default'].settings_dict['NAME']}")
        self.addCleanup(self.engine.dispose)
        self.migrated = described(self.engine)

    def test_migrated(self) -> None:
        """Column by column, index by index."""
        engine = sa.create_engine("sqlite://")
        for tables in (metadata, outbox_metadata):
            tables.create_all(engine)
        made = described(engine)
        for table in TABLES:
            for part, said in made[table].items():
                self.assertEqual(self.migrated[table][part], said, f"{part} of {table}")

    def test_models(self) -> None:
        """And the models have the columns that there are."""
        models = list(apps.get_app_config("oni").get_models())
        self.assertEqual({model._meta.db_table for model in models}, set(TABLES))
        for model in models:
            columns = [name for name, *_ in self.migrated[model._meta.db_table]["columns"]]
            fields = [field for field in model._meta.concrete_fields if field.column in columns]
            self.assertEqual(sorted(columns), sorted(field.column for field in fields))
            self.assertFalse(any(field.null for field in fields))

    def test_something_is_compared(self) -> None:
        """The reader sees a difference."""
        engine = sa.create_engine("sqlite://")
        for tables in (metadata, outbox_metadata):
            tables.create_all(engine)
        for change, table, part in (
            ("DROP INDEX oni_delivery_due", "oni_delivery", "indexes"),
            ("ALTER TABLE oni_event ADD COLUMN more TEXT", "oni_event", "columns"),
        ):
            with engine.begin() as connection:
                connection.exec_driver_sql(change)
            self.assertNotEqual(self.migrated[table][part], described(engine)[table][part])
