"""The tables of the ledger and the outbox, as a ledger makes them where there is no Django."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from oni.ledger.django import create_statements
from oni.sources.django._row_key import RowKey

__all__ = ["Migration"]

_VENDORS = ("postgresql", "sqlite")
_STATES = ("pending", "running", "done", "dead", "uncertain")
_TABLES = ("oni_outbox", "oni_decision", "oni_delivery", "oni_event")


def _make(apps: Any, editor: Any) -> None:
    """Make the tables. In a database of another kind there can be no ledger, and none is made."""
    if editor.connection.vendor in _VENDORS:
        for statement in create_statements(editor.connection.vendor):
            editor.execute(statement, params=None)


def _drop(apps: Any, editor: Any) -> None:
    if editor.connection.vendor in _VENDORS:
        for table in _TABLES:
            editor.execute(f"DROP TABLE {table}", params=None)


def _text(length: int, **options: Any) -> models.CharField:
    return models.CharField(max_length=length, **options)


def _delivery_columns() -> list[tuple[str, models.Field]]:
    return [
        ("key", _text(255)),
        ("handler", _text(255)),
        ("state", _text(16, choices=[(state, state) for state in _STATES])),
        ("on_crash", _text(16)),
        ("max_attempts", models.IntegerField()),
        ("attempts", models.IntegerField()),
        ("crashes", models.IntegerField()),
        ("token", models.IntegerField()),
        ("owner", _text(64)),
        ("lease_until", models.FloatField()),
        ("next_at", models.FloatField()),
        ("changed_at", models.FloatField()),
        ("last_error", models.TextField()),
        ("rank", models.IntegerField()),
        ("waits_for", models.IntegerField()),
        ("awaited_by", models.IntegerField()),
        ("version", models.IntegerField()),
    ]


class Migration(migrations.Migration):
    """The first one."""

    initial = True
    dependencies = ()
    operations = (
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(_make, _drop)],
            state_operations=[
                migrations.CreateModel(
                    name="LedgerEvent",
                    fields=[
                        ("key", _text(255, primary_key=True, serialize=False)),
                        ("group", _text(255, db_column="group_name")),
                        ("digest", models.BinaryField()),
                        ("payload", models.BinaryField()),
                        ("admitted_at", models.FloatField()),
                        ("version", models.IntegerField()),
                    ],
                    options={
                        "db_table": "oni_event",
                        "default_permissions": (),
                        "indexes": [
                            models.Index(fields=["admitted_at"], name="ix_oni_event_admitted_at")
                        ],
                    },
                ),
                migrations.CreateModel(
                    name="LedgerDelivery",
                    fields=[
                        *_delivery_columns(),
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "key",
                                "handler",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                    ],
                    options={
                        "db_table": "oni_delivery",
                        "default_permissions": (),
                        "indexes": [
                            models.Index(
                                fields=["state", "handler", "waits_for", "next_at", "key"],
                                name="oni_delivery_due",
                            ),
                            models.Index(fields=["changed_at"], name="oni_delivery_changed"),
                        ],
                        "constraints": [
                            models.CheckConstraint(
                                condition=models.Q(state__in=_STATES), name="oni_delivery_state"
                            )
                        ],
                    },
                ),
                migrations.CreateModel(
                    name="Delivery",
                    fields=[
                        *_delivery_columns(),
                        ("row", RowKey(max_length=511, primary_key=True, serialize=False)),
                    ],
                    options={
                        "db_table": "oni_delivery",
                        "managed": False,
                        "default_permissions": ("view", "change"),
                        "verbose_name_plural": "deliveries",
                    },
                ),
                migrations.CreateModel(
                    name="LedgerDecision",
                    fields=[
                        ("id", models.AutoField(primary_key=True, serialize=False)),
                        ("key", _text(255)),
                        ("handler", _text(255)),
                        ("decision", _text(16)),
                        ("was", _text(16)),
                        ("who", _text(255)),
                        ("decided_at", models.FloatField()),
                    ],
                    options={
                        "db_table": "oni_decision",
                        "default_permissions": (),
                        "indexes": [models.Index(fields=["key"], name="ix_oni_decision_key")],
                    },
                ),
                migrations.CreateModel(
                    name="OutboxEvent",
                    fields=[
                        ("id", models.BigAutoField(primary_key=True, serialize=False)),
                        ("key", _text(255)),
                        ("group", _text(255, db_column="group_name")),
                        ("payload", models.BinaryField()),
                        ("handlings", models.TextField()),
                        ("created_at", models.FloatField()),
                        ("error", models.TextField()),
                        ("version", models.IntegerField()),
                    ],
                    options={"db_table": "oni_outbox", "default_permissions": ()},
                ),
            ],
        ),
    )
