"""What Django's signals say, as changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db.models import Model

from oni.sources.django._atomic import is_in_block, tell
from oni.sources.django._direct import as_deleted
from oni.sources.django._home import home
from oni.sources.django._snapshots import as_loaded, is_among, remember_saved, rows, was
from oni.sources.django._watched import Watch, watched
from oni.values import UNKNOWN, ModelChange

__all__ = ["deleted", "is_heard", "made", "modified", "post_save", "pre_save"]


def is_heard(watch: Watch, using: str) -> bool:
    """Say whether anybody wants to know of a model's changes in a database."""
    return (
        bool(watched.vetoes)
        or is_in_block(using)  # which may yet have a veto of its own
        or home.sources.has_change_handlers(watch.label)
        or home.sources.hears_directly(watch.label)
    )


# --- The receivers


def pre_save(sender: type[Model], instance: Model, raw: bool, using: str, **_: Any) -> None:
    """Read the row as it is, where its old values are wanted in any case."""
    watch = watched.get(sender)
    if watch is None or watch.old != "select" or raw or not is_heard(watch, using):
        return
    state: Any = instance._state
    found = rows(watch, using, [instance.pk]) if instance._is_pk_set() else {}
    state.oni_before = found.get(instance.pk)


def post_save(
    sender: type[Model],
    instance: Model,
    created: bool,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None,
    **_: Any,
) -> None:
    """Tell what a save has changed. What is loaded from fixtures is told to nobody."""
    watch = watched.get(sender)
    if watch is None:
        return
    state: Any = instance._state
    state.oni_raw = raw
    seen = dict.fromkeys(() if created else _generated(watch), UNKNOWN)
    if not raw and is_heard(watch, using):
        if created:
            tell(using, [_created(watch, instance, using)], instance)
        else:
            tell(using, _saved(watch, instance, using, update_fields, seen), instance)
    remember_saved(instance, using, update_fields, seen)


def _created(watch: Watch, instance: Model, using: str) -> ModelChange:
    new = _values(watch, instance, using, watch.columns, is_new=True)
    return made(watch, instance.pk, using, new)


def _saved(
    watch: Watch,
    instance: Model,
    using: str,
    update_fields: Collection[str] | None,
    seen: dict[str, Any],
) -> list[ModelChange]:
    """Give what a save has changed, if it has; what was read for it is noted in ``seen``."""
    before = instance._state.__dict__.pop("oni_before", None)
    old = was(instance, watch) if before is None else before
    written = [
        name
        for name in watch.columns
        if update_fields is None or is_among(instance, name, update_fields)
    ]
    written += [name for name in _generated(watch) if name not in written]
    new = {**old, **_values(watch, instance, using, written, is_new=False)}
    seen |= {name: new[name] for name in _unseen(watch, instance, written, is_new=False)}
    return list(modified(watch, instance.pk, using, old, new, written))


def _generated(watch: Watch) -> list[str]:
    """Give the columns that the database computes: any save may change them."""
    meta = watch.model._meta
    return [name for name in watch.columns if meta.get_field(name).generated]


def _values(
    watch: Watch, instance: Model, using: str, names: Iterable[str], is_new: bool
) -> dict[str, Any]:
    """Give what an instance's row has now; what only the database knows is read from it."""
    values = {name: instance.__dict__.get(name, UNKNOWN) for name in names}
    unseen = _unseen(watch, instance, values, is_new)
    if unseen:
        values |= rows(watch, using, [instance.pk], unseen).get(instance.pk, {})
    return {name: as_loaded(watch, name, value) for name, value in values.items()}


def _unseen(watch: Watch, instance: Model, names: Iterable[str], is_new: bool) -> list[str]:
    """Give the columns that a save has written, and whose values an instance does not have.

    Before Django 6.0 an instance keeps the expression that it was saved with. Since then the
    database returns the value; where that cannot, the instance is left without any.
    """
    computed = set() if is_new else set(_generated(watch))
    values = ((name, instance.__dict__.get(name, UNKNOWN)) for name in names)
    return [
        name
        for name, value in values
        if name in computed or value is UNKNOWN or hasattr(value, "resolve_expression")
    ]


def post_delete(sender: type[Model], instance: Model, using: str, **_: Any) -> None:
    """Tell that a row is gone, and what was in it."""
    watch = watched.get(sender)
    if watch is not None and is_heard(watch, using):
        change = deleted(watch, instance.pk, using, was(instance, watch))
        tell(using, [change], as_deleted(instance, watch.label))


# --- The changes


def made(watch: Watch, id: Any, using: str, new: Mapping[str, Any]) -> ModelChange:
    """Say that there is a new row."""
    return ModelChange(watch.label, id, "created", new, using=using)


def deleted(watch: Watch, id: Any, using: str, old: Mapping[str, Any]) -> ModelChange:
    """Say that a row is gone."""
    return ModelChange(watch.label, id, "deleted", old=old, using=using)


def modified(
    watch: Watch,
    id: Any,
    using: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    written: Iterable[str],
) -> Iterable[ModelChange]:
    """Say that a row has other values, if it has."""
    changed = frozenset(name for name in written if old[name] != new[name])
    if changed:
        yield ModelChange(watch.label, id, "modified", new, old, changed, using)
