"""The migration makes what the models say, and takes it back."""

from __future__ import annotations

from unittest import TestCase

from django.core.management import call_command
from django.db import connections

from tests.ledger.django_aliases import AliasFolder

TABLES = {"oni_event", "oni_delivery", "oni_decision", "oni_outbox"}


class MigrationTests(TestCase):
    """``0001_initial``."""

    def test_nothing_is_missing(self) -> None:
        """The models have nothing that no migration makes."""
        call_command("makemigrations", "oni", check=True, dry_run=True, verbosity=0)

    def test_there_and_back(self) -> None:
        """The tables come, and go."""
        folder = AliasFolder(has_tables=False)
        self.addCleanup(folder.remove)
        introspection = connections[folder.alias].introspection
        for target, expected in (([], TABLES), (["zero"], set())):
            call_command("migrate", "oni", *target, database=folder.alias, verbosity=0)
            self.assertEqual(TABLES & set(introspection.table_names()), expected)
