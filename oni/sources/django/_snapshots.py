"""What was loaded of an instance: the old values that a change is told with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from enum import Enum
from functools import wraps
from typing import Any

from django.db.models import Model
from django.db.models.fields.files import FieldFile

from oni.sources.django._fates import fate_of
from oni.sources.django._watched import Watch, watched
from oni.values import UNKNOWN

__all__ = ["as_loaded", "is_among", "remember_loading", "remember_saved", "rows", "was"]

_BATCH = 500
_NOTHING: Mapping[str, Any] = {}
_MUTABLE = (list, dict, set, bytearray)
_MARK = "_oni_remembers"
_ROW = "pk"  # of which row values are known: no field may have this name


def _remember(instance: Model, names: Collection[str] | None = None) -> None:
    """Take the values that an instance was loaded with for those that its row has.

    Args:
        instance: The instance.
        names: Of these columns only, under either of a field's names.
    """
    watch = watched.get(type(instance))
    if watch is not None:
        state: Any = instance._state
        if names is None:
            state.oni_saves = ()
        state.oni_loaded = _known(instance, watch, names)


def remember_saved(
    instance: Model, using: str, names: Collection[str] | None, seen: Mapping[str, Any]
) -> None:
    """Take the values that an instance was saved with for those of its row, unless they go again.

    Args:
        instance: The instance.
        using: The database that it was saved in, in a transaction.
        names: Of these columns only, under either of a field's names.
        seen: What was read of the row, and not from the instance; UNKNOWN: nobody has seen it.
    """
    watch = watched.get(type(instance))
    if watch is None:
        return
    state: Any = instance._state
    _settle(state)
    fate = fate_of(using)
    saves = state.__dict__.get("oni_saves", ())
    if not saves or saves[-1][0] is not fate:
        state.oni_saves = (*saves, (fate, state.__dict__.get("oni_loaded", _NOTHING)))
    read = {name: _apart(value) for name, value in seen.items()}
    known = {**_known(instance, watch, names), **read}
    state.oni_loaded = {name: value for name, value in known.items() if value is not UNKNOWN}


def _known(instance: Model, watch: Watch, names: Collection[str] | None) -> Mapping[str, Any]:
    """Give what is known of a row, as a dict that nobody changes: it may be needed again."""
    known = {**_loaded(instance), _ROW: instance.pk}
    values = instance.__dict__
    for name in watch.columns:
        if names is None or is_among(instance, name, names):
            value = values.get(name, UNKNOWN)
            if value is UNKNOWN or hasattr(value, "resolve_expression"):
                known.pop(name, None)  # nobody has seen what came out
            else:
                known[name] = _apart(value)
    return known


def _loaded(instance: Model) -> Mapping[str, Any]:
    """Give what is known of the row that an instance stands for: nothing, if it was another's."""
    id = instance.pk
    known: Mapping[str, Any] = instance._state.__dict__.get("oni_loaded", _NOTHING)
    return known if known.get(_ROW, id) == id else _NOTHING


def _settle(state: Any) -> None:
    """Forget what was saved and then taken back by a rollback."""
    saves = state.__dict__.get("oni_saves", ())
    for place, (fate, before) in enumerate(saves):
        if not (fate.is_committed or fate.is_open):
            state.oni_loaded, saves = before, saves[:place]
            break
    state.oni_saves = tuple(each for each in saves if not each[0].is_committed)


def is_among(instance: Model | type[Model], attname: str, names: Collection[str]) -> bool:
    """Say whether a field is named, by either of its names."""
    return attname in names or instance._meta.get_field(attname).name in names


def was(instance: Model, watch: Watch) -> dict[str, Any]:
    """Give the values that an instance was loaded with, UNKNOWN where it was not."""
    _settle(instance._state)
    known = _loaded(instance)
    return {name: as_loaded(watch, name, known.get(name, UNKNOWN)) for name in watch.columns}


def rows(
    watch: Watch, using: str, ids: Sequence[Any], columns: Sequence[str] | None = None
) -> Mapping[Any, dict[str, Any]]:
    """Read rows by their primary keys, past every manager; those that are gone are left off."""
    names = tuple(watch.columns if columns is None else columns)
    found: dict[Any, dict[str, Any]] = {}
    manager = watch.model._base_manager.using(using)
    for part in (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)):
        for id, *values in manager.filter(pk__in=part).values_list("pk", *names):
            found[id] = {n: _plain(v) for n, v in zip(names, values, strict=True)}
    return found


def _plain(value: Any) -> Any:
    """Give a value as it can be kept, where Django dresses it up."""
    if isinstance(value, FieldFile):
        return value.name
    if isinstance(value, memoryview):
        return bytes(value)
    return value.value if isinstance(value, Enum) else value


def as_loaded(watch: Watch, name: str, value: Any) -> Any:
    """Give a value of the type that the column has, whatever text was put into the instance."""
    if value is UNKNOWN or value is None:
        return value
    return watch.model._meta.get_field(name).to_python(_plain(value))


def _apart(value: Any) -> Any:
    """Give a value that does not change with the instance's."""
    if isinstance(value, FieldFile):
        return value.name
    return deepcopy(value) if isinstance(value, _MUTABLE) else value


def remember_loading(model: type[Model]) -> None:
    """Let a model's instances remember what they are loaded with. The second time: nothing.

    It stays so; where the model is not watched any more, there is nothing to remember.
    """
    if _MARK in vars(model.from_db.__func__):
        return
    from_db = model.from_db.__func__
    refresh = model.refresh_from_db

    @wraps(from_db)
    def from_db_and_remember(
        cls: Any, db: Any, field_names: Any, values: Any, **options: Any
    ) -> Any:
        instance = from_db(cls, db, field_names, values, **options)
        _remember(instance)
        return instance

    @wraps(refresh)
    def refresh_and_remember(self: Any, *args: Any, **kwargs: Any) -> None:
        # It is also what loads a deferred column when that is first looked at. The model's own may
        # take less than Django's, and is called as it would have been.
        given = kwargs.get("fields", args[1] if len(args) > 1 else None)
        fields = None if given is None else list(given)
        if "fields" in kwargs:
            kwargs["fields"] = fields
        elif len(args) > 1:
            args = (args[0], fields, *args[2:])
        refresh(self, *args, **kwargs)
        _remember(self, fields)

    setattr(from_db_and_remember, _MARK, True)
    patched: Any = model
    loading: Any = from_db_and_remember
    patched.from_db = classmethod(loading)
    patched.refresh_from_db = refresh_and_remember
