"""The ledger's tables, and the outbox.

They are the same as those of :data:`oni.ledger.sqlalchemy.metadata`, so that a ledger may be read
and written by both. Programs do not write to them through these models: the ledger's promises are
kept by its own statements.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import models

from oni.sources.django._row_key import RowKey

__all__ = ["Delivery", "LedgerDecision", "LedgerDelivery", "LedgerEvent", "OutboxEvent"]

_STATES = ("pending", "running", "done", "dead", "uncertain")


class LedgerEvent(models.Model):
    """An event that was admitted."""

    key = models.CharField(max_length=255, primary_key=True)
    group = models.CharField(max_length=255, db_column="group_name")
    digest = models.BinaryField()
    payload = models.BinaryField()
    admitted_at = models.FloatField()
    version = models.IntegerField()

    class Meta:
        db_table = "oni_event"
        default_permissions = ()
        indexes = (models.Index(fields=["admitted_at"], name="ix_oni_event_admitted_at"),)

    def __str__(self) -> str:
        """Give the key."""
        return str(self.key)

    @property
    def content(self) -> Any:
        """What the payload says, for people: JSON as it is read, or text."""
        text = bytes(self.payload).decode(errors="backslashreplace")
        try:
            return json.loads(text)
        except ValueError:
            return text


class _DeliveryColumns(models.Model):
    """What both faces of a delivery have."""

    key = models.CharField(max_length=255)
    handler = models.CharField(max_length=255)
    state = models.CharField(max_length=16, choices=[(state, state) for state in _STATES])
    on_crash = models.CharField(max_length=16)
    max_attempts = models.IntegerField()
    attempts = models.IntegerField()
    crashes = models.IntegerField()
    token = models.IntegerField()
    owner = models.CharField(max_length=64)
    lease_until = models.FloatField()
    next_at = models.FloatField()
    changed_at = models.FloatField()
    last_error = models.TextField()
    rank = models.IntegerField()
    waits_for = models.IntegerField()
    awaited_by = models.IntegerField()
    version = models.IntegerField()

    class Meta:
        abstract = True


class LedgerDelivery(_DeliveryColumns):
    """An event on its way to one handler: the table."""

    pk = models.CompositePrimaryKey("key", "handler")

    class Meta:
        db_table = "oni_delivery"
        default_permissions = ()
        constraints = (
            models.CheckConstraint(
                condition=models.Q(state__in=_STATES), name="oni_delivery_state"
            ),
        )
        indexes = (
            models.Index(
                fields=["state", "handler", "waits_for", "next_at", "key"],
                name="oni_delivery_due",
            ),
            models.Index(fields=["changed_at"], name="oni_delivery_changed"),
        )


class Delivery(_DeliveryColumns):
    """An event on its way to one handler: as the admin pages show it.

    Whoever may change it may decide that it runs again, or counts as done.
    """

    row = RowKey(max_length=511, primary_key=True)

    class Meta:
        db_table = "oni_delivery"
        managed = False
        default_permissions = ("view", "change")
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        """Give the handler's name and the event's key."""
        return f"{self.handler} on {self.key}"


class LedgerDecision(models.Model):
    """What an operator decided about a delivery."""

    id = models.AutoField(primary_key=True)
    key = models.CharField(max_length=255)
    handler = models.CharField(max_length=255)
    decision = models.CharField(max_length=16)
    was = models.CharField(max_length=16)
    who = models.CharField(max_length=255)
    decided_at = models.FloatField()

    class Meta:
        db_table = "oni_decision"
        default_permissions = ()
        indexes = (models.Index(fields=["key"], name="ix_oni_decision_key"),)

    def __str__(self) -> str:
        """Say who decided what."""
        return f"{self.who}: {self.decision}, was {self.was}"


class OutboxEvent(models.Model):
    """An event that waits to be carried into a ledger that is somewhere else."""

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(max_length=255)
    group = models.CharField(max_length=255, db_column="group_name")
    payload = models.BinaryField()
    handlings = models.TextField()
    created_at = models.FloatField()
    error = models.TextField()
    version = models.IntegerField()

    class Meta:
        db_table = "oni_outbox"
        default_permissions = ()

    def __str__(self) -> str:
        """Give the key."""
        return str(self.key)
