"""Which mapped classes are watched, and what is kept of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from oni.errors import WatchError
from oni.values import UNKNOWN, model_name

__all__ = ["Bulk", "Old", "Watch", "Watched", "WatchedModels", "kept", "mapper_of"]

Bulk = Literal["strict", "coarse", "expand"]
Old = Literal["loaded", "select"]


@dataclass(frozen=True, slots=True)
class Watch:
    """How the rows of a model are watched.

    Attributes:
        columns: The names of the attributes that are watched; None: every mapped column.
        bulk: What becomes of a statement that changes rows without loading them
            (``session.execute(update(Post))``). ``"strict"``: it is refused. ``"coarse"``: it is
            one change, ``"bulk"``, without rows. ``"expand"``: the rows are read before and
            after, at most 10,000.
        old: Where old values come from. ``"loaded"``: from memory; one that nobody had loaded is
            :data:`oni.values.UNKNOWN`. ``"select"``: what is missing is read from the database
            before it is changed, with a statement for each such row.

    Raises:
        WatchError: One of them is something else.
    """

    columns: tuple[str, ...] | None = None
    bulk: Bulk = "strict"
    old: Old = "loaded"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        columns: object = self.columns
        if columns is not None:
            if isinstance(columns, str) or not isinstance(columns, Iterable):
                raise WatchError(f"columns are names of attributes, not {columns!r}")
            object.__setattr__(self, "columns", tuple(columns))
        if self.bulk not in ("strict", "coarse", "expand"):
            raise WatchError(f"bulk is 'strict', 'coarse' or 'expand', not {self.bulk!r}")
        if self.old not in ("loaded", "select"):
            raise WatchError(f"old is 'loaded' or 'select', not {self.old!r}")


@dataclass(frozen=True, slots=True)
class Watched:
    """A watched model, as one mapped class has it: the model itself, or a class below it.

    Attributes:
        model: The class that was named when it was watched.
        name: Its name.
        mapper: The mapped class.
        columns: The watched attributes' columns.
        ids: The names of the attributes that make the primary key.
        watch: How it is watched.
    """

    model: type
    name: str
    mapper: Mapper[Any]
    columns: Mapping[str, sa.Column[Any]]
    ids: tuple[str, ...]
    watch: Watch

    def differs(self, name: str, old: Any, new: Any) -> bool:
        """Say whether two values of a column are different, or may be."""
        if old is UNKNOWN or new is UNKNOWN:
            return old is not new
        try:
            return not self.columns[name].type.compare_values(old, new)
        except Exception:  # noqa: BLE001 - a comparison may raise anything; then it is a change
            return True


def mapper_of(model: object) -> Mapper[Any]:
    """Give a mapped class's mapper.

    Raises:
        WatchError: It is no mapped class.
    """
    mapper: object = sa.inspect(model, raiseerr=False) if isinstance(model, type) else None
    if not isinstance(mapper, Mapper):
        raise WatchError(f"{model!r} is no mapped class")
    return mapper


class WatchedModels:
    """Every model that is watched, and how.

    A class below a watched one is watched as that; the nearest counts.

    Args:
        has_sources: Says whether a class has event sources: then it is watched without having
            been named, so that its sources run.
    """

    def __init__(self, has_sources: Callable[[type], bool]) -> None:
        self._has_sources = has_sources
        self._watches: dict[type, Watch] = {}
        self._found: dict[type, Watched] = {}

    def __iter__(self) -> Iterator[type]:
        """Give the classes that were named."""
        return iter(self._watches)

    def add(self, models: Mapping[type, Watch]) -> None:
        """Watch more models.

        Raises:
            WatchError: One is no mapped class, is watched in another way, or has no such column.
        """
        for model, watch in models.items():
            mapper = mapper_of(model)
            if not isinstance(watch, Watch):
                raise WatchError(f"{model.__name__} is watched by a Watch, not {watch!r}")
            if self._watches.get(model, watch) != watch:
                raise WatchError(f"{model.__name__} is watched already, in another way")
            _columns(mapper, watch)
        self._watches.update(models)
        self._found = {}

    def find(self, mapper: Mapper[Any]) -> Watched | None:
        """Give what is watched of a class's rows, or None."""
        known = self._found  # another thread may make it out of date
        found = known.get(mapper.class_)
        if found is None:
            for model in mapper.class_.__mro__:
                watch = self._watches.get(model)
                if watch is not None:
                    found = known[mapper.class_] = _watched(model, mapper, watch)
                    return found
            if self._has_sources(mapper.class_):
                found = _watched(mapper.class_, mapper, _BY_SOURCE)
                known[mapper.class_] = found
        return found

    def below(self, mapper: Mapper[Any]) -> Iterator[Watched]:
        """Give each watched model whose rows a statement to a class may change, once."""
        seen = set()
        for each in mapper.self_and_descendants:
            found = self.find(each)
            if found is not None and found.model not in seen:
                seen.add(found.model)
                yield found

    def of_table(self, table: sa.FromClause) -> Iterator[Watched]:
        """Give each watched model of which a table has rows, or parts of rows, once."""
        seen = set()
        for model in self._watches:
            for mapper in mapper_of(model).self_and_descendants:
                found = self.find(mapper) if table in mapper.tables else None
                if found is not None and found.model not in seen:
                    seen.add(found.model)
                    yield found


_BY_SOURCE = Watch(bulk="coarse")


def _watched(model: type, mapper: Mapper[Any], watch: Watch) -> Watched:
    ids = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
    return Watched(model, model_name(model), mapper, _columns(mapper, watch), ids, watch)


def _columns(mapper: Mapper[Any], watch: Watch) -> dict[str, sa.Column[Any]]:
    # What a mapper computes from columns is no column, and no value of the row.
    there = {
        name: column
        for name, column in mapper.columns.items()
        if isinstance(column, sa.Column) and not name.startswith("_sa_")
    }
    if watch.columns is None:
        return there
    for name in watch.columns:
        if name not in there:
            raise WatchError(
                f"{mapper.class_.__name__} has no column {name!r}; it has {', '.join(there)}"
            )
    return {name: there[name] for name in watch.columns}


def kept(value: Any) -> Any:
    """Give a value as it is now: what can be changed in place is copied.

    A member of an enumeration that is neither text nor a number is kept as its name.
    """
    if isinstance(value, Enum) and not isinstance(value, str | int):
        return value.name
    if isinstance(value, Mapping):
        return {kept(name): kept(each) for name, each in value.items()}
    if isinstance(value, list | set | frozenset):
        return [kept(each) for each in value]
    if isinstance(value, tuple):
        return tuple(kept(each) for each in value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return cast(Any, value)
