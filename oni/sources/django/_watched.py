"""Which models are watched, and what is wanted of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from django.apps import apps
from django.db.models import Field, Model

from oni.errors import WatchError

__all__ = [
    "Bulk",
    "OldValues",
    "Watch",
    "Watched",
    "concrete",
    "family",
    "make_watch",
    "watched",
]

OldValues = Literal["loaded", "select"]
Bulk = Literal["strict", "coarse", "expand"]


@dataclass(frozen=True, slots=True)
class Watch:
    """How one model is watched.

    Attributes:
        model: The model, no proxy.
        columns: The fields whose values are told, by their names in the instances: ``author_id``.
        many: The names of the many-to-many fields that are told of.
        old: ``"loaded"``: old values are those that were loaded; ``"select"``: each save reads
            them first.
        bulk: What becomes of statements that change rows without loading them, where the model's
            manager is an :class:`OniManager`. ``"strict"``: they are refused. ``"coarse"``: one
            change tells how many rows. ``"expand"``: the rows are read before and after.
    """

    model: type[Model]
    columns: tuple[str, ...]
    many: tuple[str, ...] = ()
    old: OldValues = "loaded"
    bulk: Bulk = "strict"

    @property
    def label(self) -> str:
        """The model's name."""
        return str(self.model._meta.label)


class Watched:
    """The models whose changes are told, and what else is asked before they are kept.

    Attributes:
        vetoes: Functions that are given the changes before they are committed.
    """

    def __init__(self) -> None:
        self._watches: dict[type[Model], Watch] = {}
        self.vetoes: list[Callable[..., Any]] = []

    def add(self, watch: Watch) -> None:
        """Watch a model, or watch it in another way."""
        self._watches[watch.model] = watch

    def remove(self, model: type[Model]) -> None:
        """Watch a model no more."""
        self._watches.pop(concrete(model), None)

    def get(self, model: type[Model]) -> Watch | None:
        """Give how a model, or what it is a proxy of, is watched."""
        return self._watches.get(concrete(model))

    def __iter__(self) -> Iterator[Watch]:
        """Give how each model is watched."""
        return iter(tuple(self._watches.values()))


def concrete(model: type[Model]) -> type[Model]:
    """Give the model that has the rows; an abstract one has none, and is given back."""
    found: type[Model] = model._meta.concrete_model or model
    return found


def family(model: type[Model]) -> Collection[type[Model]]:
    """Give a model and its proxies: signals are sent for each of them apart."""
    return [
        each
        for each in apps.get_models(include_auto_created=True)
        if each._meta.concrete_model is concrete(model)
    ]


def make_watch(
    model: type[Model],
    columns: Collection[str] | None = None,
    old: OldValues = "loaded",
    bulk: Bulk = "strict",
) -> Watch:
    """Say how a model is watched.

    Args:
        model: The model, or a proxy of it.
        columns: Names of fields; None: all of them.
        old: See :class:`Watch`.
        bulk: See :class:`Watch`.

    Raises:
        WatchError: The model has no such field, or ``old`` or ``bulk`` is unknown.
    """
    if old not in ("loaded", "select"):
        raise WatchError(f"old is 'loaded' or 'select', not {old!r}")
    if bulk not in ("strict", "coarse", "expand"):
        raise WatchError(f"bulk is 'strict', 'coarse' or 'expand', not {bulk!r}")
    meta = concrete(model)._meta
    if meta.abstract:
        raise WatchError(f"{meta.label} is abstract, and has no rows; watch those that inherit it")
    single: dict[str, Field] = {
        field.name: field for field in meta.concrete_fields if field.column
    }
    many = {field.name: field for field in meta.local_many_to_many}
    wanted = [*single, *many] if columns is None else list(columns)
    by_attname = {field.attname: name for name, field in single.items()}
    names = [by_attname.get(name, name) for name in wanted]
    unknown = sorted(set(names) - set(single) - set(many))
    if unknown:
        raise WatchError(
            f"{meta.label} has no field {', '.join(unknown)}; it has "
            f"{', '.join(sorted([*single, *many]))}"
        )
    return Watch(
        concrete(model),
        tuple(single[name].attname for name in names if name in single),
        tuple(name for name in names if name in many),
        old,
        bulk,
    )


watched = Watched()
