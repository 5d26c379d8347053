"""Changes of many-to-many fields: a row's list before, and its list afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from django.db.models import Model
from django.db.models.signals import m2m_changed

from oni.sources.django._atomic import tell
from oni.sources.django._changes import is_heard
from oni.sources.django._watched import Watch, watched
from oni.values import ModelChange

__all__ = ["watch_many"]

_Lists = Mapping[Any, frozenset[Any]]


def watch_many(watch: Watch) -> None:
    """Hear of the changes of each many-to-many field of a model."""
    for name in watch.many:
        through = watch.model._meta.get_field(name).remote_field.through
        # One function for each field: a table may serve one in each of two models.
        m2m_changed.connect(
            _receiver(watch.model, name),
            sender=through,
            weak=False,
            dispatch_uid=f"oni.{watch.label}.{name}",
        )


def _receiver(model: type[Model], name: str) -> Callable[..., None]:
    def changed(
        sender: type[Model],
        instance: Model,
        action: str,
        reverse: bool,
        pk_set: Collection[Any] | None,
        using: str,
        **_: Any,
    ) -> None:
        watch = watched.get(model)
        if watch is None or name not in watch.many or not is_heard(watch, using):
            return
        state: Any = instance._state
        lists = state.__dict__.setdefault("oni_lists", {})
        if state.__dict__.get("oni_raw"):
            return  # it is being loaded from a fixture
        link = _Link(watch, name, using)
        when, what = action.split("_")
        if when == "pre":
            lists[model, name] = link.before(instance.pk, reverse, what, pk_set or ())
        elif (before := lists.pop((model, name), None)) is not None:
            tell(using, list(link.changes(before, instance.pk, reverse, what, pk_set or ())))

    return changed


class _Link:
    """One many-to-many field in one database."""

    def __init__(self, watch: Watch, name: str, using: str) -> None:
        self._watch = watch
        self._name = name
        self._using = using
        self._field: Any = watch.model._meta.get_field(name)
        self._both = bool(getattr(self._field.remote_field, "symmetrical", False))

    def before(self, id: Any, reverse: bool, what: str, others: Collection[Any]) -> _Lists:
        """Read the lists of the rows that will change."""
        here, there = self._columns(reverse)
        if what == "clear":
            others = self._read(here, [id], there)
        ids = {*others} if reverse else {id, *(others if self._both else ())}
        own, other = self._columns(False)
        lists: dict[Any, set[Any]] = {id: set() for id in ids}
        pairs = self._manager.filter(**{f"{own}__in": list(ids)}).values_list(own, other)
        for row, linked in pairs:
            lists[row].add(linked)
        return {row: frozenset(linked) for row, linked in lists.items()}

    def changes(
        self, before: _Lists, id: Any, reverse: bool, what: str, others: Collection[Any]
    ) -> Iterable[ModelChange]:
        """Say what has become of these lists."""
        for row, old in before.items():
            # The row that it was said of, or one of those that were named.
            ends = {id} if reverse or row != id else {*others}
            if what == "clear":
                new = old - {id} if reverse or row != id else frozenset()
            else:
                new = old | ends if what == "add" else old - ends
            if new != old:
                yield ModelChange(
                    self._watch.label,
                    row,
                    "modified",
                    {self._name: sorted(new)},
                    {self._name: sorted(old)},
                    frozenset({self._name}),
                    self._using,
                )

    @property
    def _manager(self) -> Any:
        return self._field.remote_field.through._base_manager.using(self._using)

    def _columns(self, reverse: bool) -> tuple[str, str]:
        through = self._field.remote_field.through._meta
        names = (self._field.m2m_field_name(), self._field.m2m_reverse_field_name())
        own, other = (through.get_field(name).attname for name in names)
        return (other, own) if reverse else (own, other)

    def _read(self, here: str, ids: Collection[Any], there: str) -> set[Any]:
        found = self._manager.filter(**{f"{here}__in": ids})
        return set(found.values_list(there, flat=True))
