"""Statements that change rows without loading them: refused, told of, or looked into.

What a statement through a session does is seen here, be it one of the ORM's
(``update(Post)``) or one to a table (``update(Post.__table__)``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import FromStatement, Mapper, ORMExecuteState

from oni.errors import BulkChangeError
from oni.sources.sqlalchemy._capture import CapturedRow, row_id
from oni.sources.sqlalchemy._models import Watched, WatchedModels, kept
from oni.sources.sqlalchemy._pending import Pending
from oni.values import ModelChange

__all__ = ["BulkStatements"]

_MOST_ROWS = 10_000
_AT_ONCE = 200  # rows in one statement
_LONGEST_TEXT = 1000
_UPSERTS = ("on_conflict_do_update", "on_duplicate_key_update")

_Values = dict[tuple[Any, ...], dict[str, Any]]


class BulkStatements:
    """Carries out statements that change rows of watched models as their policies say.

    Args:
        models: What is watched.
    """

    def __init__(self, models: WatchedModels) -> None:
        self._models = models

    def affected(self, execution: ORMExecuteState) -> Sequence[Watched]:
        """Give the watched models whose rows a statement may change."""
        if not (execution.is_insert or execution.is_update or execution.is_delete):
            return ()
        statement = _changing(execution)
        described = statement.entity_description
        entity = sa.inspect(described["entity"], raiseerr=False) if "entity" in described else None
        mapper = getattr(entity, "mapper", None)
        if isinstance(mapper, Mapper):
            return list(self._models.below(mapper))
        return list(self._models.of_table(_table(statement)))

    def execute(
        self, execution: ORMExecuteState, affected: Sequence[Watched], pending: Pending
    ) -> sa.Result[Any]:
        """Execute a statement that may change rows of these models.

        Raises:
            BulkChangeError: It is not allowed, or cannot be looked into.
        """
        for watched in affected:
            if watched.watch.bulk == "strict":
                raise BulkChangeError(watched.name, _operation(execution))
        if all(watched.watch.bulk == "coarse" for watched in affected):
            return _coarse(execution, affected, pending)
        if len(affected) > 1:
            raise _not_expanded(
                affected[0], execution, "it changes rows of several watched models at once"
            )
        (watched,) = affected
        if isinstance(_changing(execution).table, sa.Alias):
            raise _not_expanded(watched, execution, "its table has another name in it")
        # What turns out to be refused afterwards is undone, whoever catches the refusal.
        with execution.session.begin_nested():
            if execution.is_insert:
                return _expand_insert(execution, watched, pending)
            return _expand(execution, watched, pending)


# --- Coarse


def _coarse(
    execution: ORMExecuteState, affected: Sequence[Watched], pending: Pending
) -> sa.Result[Any]:
    result = execution.invoke_statement()
    for watched in affected:
        change = ModelChange(
            watched.name,
            None,
            "bulk",
            statement=_text(execution),
            count=_count(result),
        )
        pending.add(CapturedRow(change, watched.mapper.class_, ()))
    return result


# --- Expand


def _expand(execution: ORMExecuteState, watched: Watched, pending: Pending) -> sa.Result[Any]:
    """Read the rows, let the statement do its work, and read them again."""
    old = _rows_before(execution, watched)
    result, count = _at_hand(execution.invoke_statement(), execution)
    if count not in (-1, len(old)):
        raise _not_expanded(
            watched,
            execution,
            f"{len(old)} rows were there before, and it has changed {count}: another transaction "
            f"came in between; roll back and try again",
        )
    if execution.is_delete:
        for identity, values in old.items():
            change = ModelChange(watched.name, row_id(identity), "deleted", old=values)
            pending.add(CapturedRow(change, watched.mapper.class_, identity))
        return result
    new = _rows_after(execution, watched, old)
    for identity, values in old.items():
        if identity not in new:
            raise _not_expanded(watched, execution, "it changes primary keys")
        after = new[identity]
        changed = frozenset(
            name for name in after if watched.differs(name, values[name], after[name])
        )
        if changed:
            change = ModelChange(
                watched.name, row_id(identity), "modified", after, values, changed
            )
            pending.add(CapturedRow(change, watched.mapper.class_, identity))
    return result


def _at_hand(result: sa.Result[Any], execution: ORMExecuteState) -> tuple[sa.Result[Any], int]:
    """Give a statement's result, and how many rows it has changed.

    Rows that it returns are fetched, so that no cursor is open when its savepoint ends.
    """
    if not len(_changing(execution).exported_columns):
        return result, _count(result)
    frozen = result.freeze()
    return frozen(), len(frozen().all())


def _expand_insert(
    execution: ORMExecuteState, watched: Watched, pending: Pending
) -> sa.Result[Any]:
    """Let the statement return what it has inserted."""
    statement = _changing(execution)
    if statement._prefixes or any(hasattr(statement, name) for name in _UPSERTS):
        raise _not_expanded(watched, execution, "it may change rows that are there, as well")
    if len(statement.exported_columns):
        raise _not_expanded(watched, execution, "it returns something else already")
    dialect = execution.session.get_bind(**execution.bind_arguments).dialect
    if not dialect.insert_returning:
        raise _not_expanded(watched, execution, "the database does not tell what it inserted")
    names = _names(watched)
    result = execution.invoke_statement(statement.returning(*_columns(execution, watched, names)))
    rows = _limited(result, watched, execution)
    for row in rows:
        identity, values = _split(watched, names, row)
        change = ModelChange(watched.name, row_id(identity), "created", values)
        pending.add(CapturedRow(change, watched.mapper.class_, identity))
    return result


def _rows_before(execution: ORMExecuteState, watched: Watched) -> _Values:
    """Read the rows that a statement is about to change, and keep others from them."""
    names = _names(watched)
    where = _changing(execution).whereclause
    found: _Values = {}
    for criterion, values in _criteria(execution, watched, where):
        selected = sa.select(*_columns(execution, watched, names)).limit(_MOST_ROWS + 1)
        if criterion is not None:
            selected = selected.where(criterion)
        rows = execution.session.execute(selected.with_for_update(), values)
        for row in _limited(rows, watched, execution):
            identity, columns = _split(watched, names, row)
            found[identity] = columns
    return found


def _criteria(
    execution: ORMExecuteState, watched: Watched, where: Any
) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Give what the statement's rows are found by, with its values."""
    parameters: Any = execution.parameters
    if isinstance(parameters, Mapping) or not parameters:
        yield where, dict(parameters or {})
        return
    if where is not None or not execution.is_orm_statement:
        for values in parameters:
            yield where, dict(values)
        return
    # The ORM's way to update many rows by their primary keys.
    identities = [tuple(values[name] for name in watched.ids) for values in parameters]
    for part in _parts(identities):
        yield _by_id(execution, watched, part), {}


def _rows_after(
    execution: ORMExecuteState, watched: Watched, identities: Iterable[tuple[Any, ...]]
) -> _Values:
    names = _names(watched)
    found: _Values = {}
    for part in _parts(list(identities)):
        selected = sa.select(*_columns(execution, watched, names))
        rows = execution.session.execute(
            selected.where(_by_id(execution, watched, part)),
            execution_options={"autoflush": False},
        )
        found.update(_split(watched, names, row) for row in rows)
    return found


def _parts(identities: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    for start in range(0, len(identities), _AT_ONCE):
        yield identities[start : start + _AT_ONCE]


def _by_id(
    execution: ORMExecuteState, watched: Watched, identities: Sequence[tuple[Any, ...]]
) -> Any:
    ids = _columns(execution, watched, watched.ids)
    if len(ids) == 1:
        return ids[0].in_([identity[0] for identity in identities])
    return sa.or_(
        *(
            sa.and_(*(column == value for column, value in zip(ids, identity, strict=True)))
            for identity in identities
        )
    )


def _names(watched: Watched) -> Sequence[str]:
    return [*watched.ids, *watched.columns]


def _columns(execution: ORMExecuteState, watched: Watched, names: Sequence[str]) -> Sequence[Any]:
    """Give columns as the statement has them: attributes of the class, or the table's own."""
    if execution.is_orm_statement:
        return [getattr(watched.mapper.class_, name) for name in names]
    return [watched.mapper.columns[name] for name in names]


def _split(
    watched: Watched, names: Sequence[str], row: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take a row apart: its primary key, and its watched columns."""
    size = len(watched.ids)
    values = zip(names[size:], row[size:], strict=True)
    return tuple(row[:size]), {name: kept(value) for name, value in values}


def _limited(
    rows: sa.Result[Any], watched: Watched, execution: ORMExecuteState
) -> Sequence[sa.Row[Any]]:
    found = rows.fetchmany(_MOST_ROWS + 1)
    rows.close()
    if len(found) > _MOST_ROWS:
        raise _not_expanded(watched, execution, f"it changes more than {_MOST_ROWS} rows")
    return found


def _not_expanded(watched: Watched, execution: ORMExecuteState, why: str) -> BulkChangeError:
    return BulkChangeError(watched.name, _operation(execution), why)


def _changing(execution: ORMExecuteState) -> Any:
    """Give the statement that changes rows, also where what it returns is selected from it."""
    statement: Any = execution.statement
    return statement.element if isinstance(statement, FromStatement) else statement


def _table(statement: Any) -> sa.FromClause:
    """Give the table whose rows a statement changes, whatever name it has in there."""
    table: Any = statement.table
    while isinstance(table, sa.Alias):
        table = table.element
    return cast("sa.FromClause", table)


def _operation(execution: ORMExecuteState) -> str:
    return "insert" if execution.is_insert else "update" if execution.is_update else "delete"


def _count(result: sa.Result[Any]) -> int:
    count = getattr(result, "rowcount", -1)
    return count if isinstance(count, int) else -1


def _text(execution: ORMExecuteState) -> str:
    """Give a statement for people, without its values."""
    try:
        text = " ".join(str(execution.statement).split())
    except Exception:  # noqa: BLE001 - the ORM's INSERT of many rows has no text before it runs
        described = _changing(execution).entity_description
        text = f"{_operation(execution).upper()} {described['table']}"
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."
