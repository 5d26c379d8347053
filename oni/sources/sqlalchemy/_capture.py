"""What one flush does to watched rows.

The mapper's events say which rows were written, and what is about to be written over; the values
afterwards are read when the flush is over. Nothing here loads anything through the session, as in
the midst of a flush that would be undone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import AttributeState, InstanceState, Mapper, Session

from oni.sources.sqlalchemy._models import Watched, WatchedModels, kept
from oni.values import UNKNOWN, ModelChange

__all__ = ["Capture", "CapturedRow", "row_id"]


class CapturedRow(NamedTuple):
    """A row that was changed.

    Attributes:
        change: What was done to it.
        model: The mapped class of its instance.
        identity: Its primary key's values.
        instance: What it was changed through; None where a statement did it.
    """

    change: ModelChange
    model: type
    identity: tuple[Any, ...]
    instance: Any = None


class _Before(NamedTuple):
    """How a row was before an instance was written over it.

    Attributes:
        watched: What is watched of it.
        values: Its values, as far as they are known.
        loaded: The names of those that were in memory.
        assigned: The names of those that were set.
    """

    watched: Watched
    values: dict[str, Any]
    loaded: frozenset[str]
    assigned: frozenset[str]


class Capture:
    """Sees the rows that one flush of one session writes.

    Args:
        models: What is watched.
    """

    def __init__(self, models: WatchedModels) -> None:
        self._models = models
        self._clear(False)

    def begin(self) -> None:
        """Begin a flush. What another one that failed has left is forgotten."""
        self._clear(True)

    def _clear(self, is_flushing: bool) -> None:
        # Who is not told of flushes any more is still told of rows, and must not keep them.
        self._is_flushing = is_flushing
        self._inserted: dict[InstanceState[Any], Watched] = {}
        self._updated: dict[InstanceState[Any], _Before] = {}
        self._deleting: dict[InstanceState[Any], _Before] = {}
        self._deleted: list[InstanceState[Any]] = []

    # --- What the mapper tells

    def inserted(self, mapper: Mapper[Any], state: InstanceState[Any]) -> None:
        """A row was inserted; or, for an instance that takes another's place, updated."""
        watched = self._find(mapper)
        if watched is not None:
            self._inserted[state] = watched

    def updating(
        self, mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
    ) -> None:
        """A row may be about to be updated."""
        watched = self._find(mapper)
        if watched is not None:
            self._updated[state] = _before(watched, connection, state)

    def deleting(
        self, mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
    ) -> None:
        """A row is about to be deleted."""
        watched = self._find(mapper)
        if watched is not None:
            self._deleting[state] = _before(watched, connection, state)

    def deleted(self, state: InstanceState[Any]) -> None:
        """A row was deleted."""
        if state in self._deleting:
            self._deleted.append(state)

    def _find(self, mapper: Mapper[Any]) -> Watched | None:
        return self._models.find(mapper) if self._is_flushing else None

    # --- The end of the flush

    def finish(self, session: Session) -> Iterator[CapturedRow]:
        """Give each row that was changed. The session is as it was before the flush."""
        switched = self._switched(session)
        for state in self._deleted:
            row = _row_deleted(self._deleting[state], _key(state))
            yield row._replace(instance=state.obj())
        for state, before in self._updated.items():
            yield from _row_updated(before, state)
        for state, watched in self._inserted.items():
            identity = _identity(watched, state)
            replaced = switched.get((watched.mapper.base_mapper, identity))
            if replaced is None:
                row = _row_created(watched, identity, _inserted(watched, state))
                yield row._replace(instance=state.obj())
            else:
                before = _before(watched, None, replaced)
                yield from _row_modified(before, identity, state)
        self._clear(False)

    def _switched(
        self, session: Session
    ) -> Mapping[tuple[Mapper[Any], tuple[Any, ...]], InstanceState[Any]]:
        """Give the deleted instances by their rows, as a new one may have taken such a row."""
        if not self._inserted or not session.deleted:
            return {}
        states = (sa.inspect(each) for each in session.deleted)
        return {(state.mapper.base_mapper, _key(state)): state for state in states}


# --- Values


def _before(
    watched: Watched, connection: sa.Connection | None, state: InstanceState[Any]
) -> _Before:
    """Give the values that the row has, as far as they are known."""
    values: dict[str, Any] = {}
    assigned = set()
    for name in watched.columns:
        added, unchanged, deleted = _history(state, name)
        known = deleted or (() if added else unchanged)
        values[name] = kept(known[0]) if known else UNKNOWN
        if added:
            assigned.add(name)
    missing = [name for name, value in values.items() if value is UNKNOWN]
    loaded = values.keys() - missing
    if connection is not None and watched.watch.old == "select":
        values.update(_selected(watched, connection, _key(state), missing))
    return _Before(watched, values, frozenset(loaded), frozenset(assigned))


def _selected(
    watched: Watched, connection: sa.Connection, identity: tuple[Any, ...], missing: list[str]
) -> Mapping[str, Any]:
    if not missing:
        return {}
    row = connection.execute(_select_by_id(watched, missing, identity)).first()
    return {} if row is None else {name: kept(row[at]) for at, name in enumerate(missing)}


def _select_by_id(watched: Watched, names: list[str], identity: tuple[Any, ...]) -> sa.Select[Any]:
    where = zip(watched.mapper.primary_key, identity, strict=True)
    return (
        sa.select(*(watched.columns[name] for name in names))
        .select_from(watched.mapper.persist_selectable)
        .where(*(column == value for column, value in where))
    )


def _history(state: InstanceState[Any], name: str) -> Any:
    """Give what was set, left and gone of an attribute, as far as that is in memory."""
    return AttributeState(state, name).history


def _loaded(watched: Watched, state: InstanceState[Any]) -> dict[str, Any]:
    """Give the values that an instance has."""
    values = state.dict
    return {name: kept(values[name]) if name in values else UNKNOWN for name in watched.columns}


def _inserted(watched: Watched, state: InstanceState[Any]) -> dict[str, Any]:
    """Give the values of a new row: what nobody gave is NULL, unless the server gave it."""
    new = _loaded(watched, state)
    for name, value in new.items():
        if value is UNKNOWN and _is_null_by_default(watched.columns[name]):
            new[name] = None
    return new


def _is_null_by_default(column: sa.Column[Any]) -> bool:
    givers = (column.server_default, column.default, column.computed, column.identity)
    return not column.primary_key and all(giver is None for giver in givers)


def _moves(column: sa.Column[Any]) -> bool:
    """Say whether a column may change by itself when another does."""
    movers = (column.onupdate, column.server_onupdate, column.computed)
    return any(mover is not None for mover in movers)


def _key(state: InstanceState[Any]) -> tuple[Any, ...]:
    """Give the primary key that a row had when its instance was loaded."""
    identity = state.identity
    assert identity is not None
    return tuple(identity)


def _identity(watched: Watched, state: InstanceState[Any]) -> tuple[Any, ...]:
    """Give the primary key that a row has now."""
    return tuple(watched.mapper.primary_key_from_instance(state.obj()))


# --- Changes


def row_id(identity: tuple[Any, ...]) -> Any:
    """Give a primary key as a change has it."""
    return kept(identity[0] if len(identity) == 1 else identity)


def _row_created(
    watched: Watched, identity: tuple[Any, ...], new: Mapping[str, Any]
) -> CapturedRow:
    change = ModelChange(watched.name, row_id(identity), "created", new)
    return CapturedRow(change, watched.mapper.class_, identity)


def _row_deleted(before: _Before, identity: tuple[Any, ...]) -> CapturedRow:
    watched = before.watched
    change = ModelChange(watched.name, row_id(identity), "deleted", old=before.values)
    return CapturedRow(change, watched.mapper.class_, identity)


def _row_updated(before: _Before, state: InstanceState[Any]) -> Iterator[CapturedRow]:
    watched = before.watched
    was, identity = _key(state), _identity(watched, state)
    if was == identity:
        yield from _row_modified(before, identity, state)
    else:  # whoever knows it by its key knows it no more
        yield _row_deleted(before, was)
        new = _loaded(watched, state)
        for name, value in new.items():
            if value is UNKNOWN and not _is_changed(before, state, name, value):
                new[name] = before.values[name]
        yield _row_created(watched, identity, new)._replace(instance=state.obj())


def _row_modified(
    before: _Before, identity: tuple[Any, ...], state: InstanceState[Any]
) -> Iterator[CapturedRow]:
    watched, old, _, _ = before
    new = _loaded(watched, state)
    changed = {name for name, value in new.items() if _is_changed(before, state, name, value)}
    if not changed:
        return
    for name, value in new.items():
        if name in changed:
            continue
        if _moves(watched.columns[name]) and (old[name] is UNKNOWN or value is UNKNOWN):
            changed.add(name)
        elif value is UNKNOWN:
            new[name] = old[name]
        else:  # it was loaded in between, for the sake of the primary key
            old[name] = value
    change = ModelChange(watched.name, row_id(identity), "modified", new, old, frozenset(changed))
    yield CapturedRow(change, watched.mapper.class_, identity, state.obj())


def _is_changed(before: _Before, state: InstanceState[Any], name: str, value: Any) -> bool:
    """Say whether a value was changed for sure, or may have been as somebody has set it."""
    if before.values[name] is UNKNOWN:
        return name in before.assigned or bool(_history(state, name).added)
    if value is UNKNOWN:  # what was in memory is not any more: the server has changed it
        return name in before.assigned or name in before.loaded
    return before.watched.differs(name, before.values[name], value)
