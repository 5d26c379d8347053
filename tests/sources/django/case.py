"""What the Django source's tests have in common: databases, and event sources of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.db.models import Model
from django.test import TestCase, TransactionTestCase

from oni.sources.django import api
from oni.sources.django._home import home
from oni.sources.django._watched import watched
from oni.sources.django.models import LedgerEvent
from oni.sources.django.testing import deliver_events
from oni.values import Event, ModelChange

__all__ = ["CommittingCase", "DjangoCase", "Fresh", "deliver_events", "keys"]


class Fresh:
    """Lets each test begin with nobody registered."""

    databases = ("default", "other")

    def setUp(self) -> None:
        """Forget what other tests have registered."""
        home._sources = None
        home._settings = None
        for watch in watched:
            watched.remove(watch.model)
        watched.vetoes.clear()

    def listen(self, model: type[Model], **how: Any) -> Callable[[], list[ModelChange]]:
        """Watch a model.

        Returns:
            A function that gives the changes that were told since it was called last. Those of one
            statement or block are in no order.
        """
        told: dict[str, ModelChange] = {}

        def handle(event: Event) -> None:
            told[event.key] = event["context"]["change"]

        api.watch(model, **how)
        api.register_change_handler(model, handle, name=f"listen {model._meta.label}")

        def give() -> list[ModelChange]:
            deliver_events()
            with connection.cursor() as cursor:  # handlers of several keys have no order
                place = "ctid" if connection.vendor == "postgresql" else "rowid"
                cursor.execute(f"SELECT key FROM oni_event ORDER BY {place}")
                return [told.pop(key) for (key,) in cursor.fetchall() if key in told]

        give()
        return give


class DjangoCase(Fresh, TestCase):
    """A test in a transaction that is rolled back."""


class CommittingCase(Fresh, TransactionTestCase):
    """A test whose transactions are real. The tables are emptied afterwards."""


def keys(using: str = "default") -> set[str]:
    """Give the keys in a ledger."""
    return set(LedgerEvent.objects.using(using).values_list("key", flat=True))
