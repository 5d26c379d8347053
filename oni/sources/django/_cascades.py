"""Rows that Django changes without a signal when what they point to is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import CASCADE, DO_NOTHING, PROTECT, RESTRICT, Model
from django.db.models.signals import post_delete, pre_delete

from oni.sources.django._atomic import tell
from oni.sources.django._changes import is_heard, modified
from oni.sources.django._snapshots import rows
from oni.sources.django._watched import Watch, family, watched

__all__ = ["watch_cascades"]

# Those that change nothing, and the one that deletes with signals.
_OTHERS = (CASCADE, DO_NOTHING, PROTECT, RESTRICT)


def watch_cascades(watch: Watch) -> None:
    """Hear of the deletion of rows that a model's rows point to and are changed with."""
    for field in _pointers(watch):
        uid = f"oni.{watch.label}.{field.name}"
        before, after = _receivers(watch.model, field.name, field.attname)
        for sender in family(field.remote_field.model):
            pre_delete.connect(before, sender=sender, weak=False, dispatch_uid=uid)
            post_delete.connect(after, sender=sender, weak=False, dispatch_uid=uid)


def _pointers(watch: Watch) -> Iterator[Any]:
    for field in watch.model._meta.concrete_fields:
        action = getattr(field.remote_field, "on_delete", None)
        if field.attname in watch.columns and action and action not in _OTHERS:
            yield field


def _receivers(
    model: type[Model], name: str, attname: str
) -> tuple[Callable[..., None], Callable[..., None]]:
    def left(instance: Model) -> dict[str, Any]:
        state: Any = instance._state
        found: dict[str, Any] = state.__dict__.setdefault("oni_left", {})
        return found

    def before(sender: type[Model], instance: Model, using: str, **_: Any) -> None:
        watch = watched.get(model)
        # It may be watched otherwise by now.
        if watch is not None and attname in watch.columns and is_heard(watch, using):
            pointing = model._base_manager.using(using).filter(**{name: instance})
            ids = list(pointing.values_list("pk", flat=True))
            left(instance)[f"{watch.label}.{name}"] = rows(watch, using, ids)

    def after(sender: type[Model], instance: Model, using: str, **_: Any) -> None:
        watch = watched.get(model)
        if watch is None:
            return
        old = left(instance).pop(f"{watch.label}.{name}", {})
        new = rows(watch, using, list(old))
        changes = (
            modified(watch, id, using, old[id], values, [attname]) for id, values in new.items()
        )
        tell(using, [change for each in changes for change in each])

    return before, after
