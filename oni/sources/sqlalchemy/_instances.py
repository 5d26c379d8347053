"""Goes through every instance of a model, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from oni.sources.sqlalchemy._models import mapper_of
from oni.sources.sqlalchemy._reading import Reading

__all__ = ["Instances"]


class Instances:
    """Reads every row of a model, in the order of their primary keys.

    Each batch has a session of its own, open until the next one is asked for, so that sources can
    follow relationships, which keeps no row locked, and nobody from writing. They must not write
    themselves. Rows that come or go meanwhile are met or not; none is met twice.

    Args:
        make_session: Makes a session: a ``sessionmaker``.
        batch: How many rows are read at once.

    Raises:
        ValueError: ``batch`` is not a positive integer.
    """

    def __init__(self, make_session: Callable[[], Session], batch: int = 100) -> None:
        if type(batch) is not int or batch < 1:
            raise ValueError(f"batch is a positive integer, not {batch!r}")
        self._reading = Reading(make_session)
        self._batch = batch

    def __call__(self, model: type) -> Iterator[Any]:
        """Give every instance of a mapped class. It blocks."""
        mapper = mapper_of(model)
        ids = [getattr(model, mapper.get_property_by_column(c).key) for c in mapper.primary_key]
        selected: sa.Select[Any] = sa.select(model).order_by(*ids).limit(self._batch)
        last: tuple[Any, ...] | None = None
        while True:
            after = selected
            if last is not None:
                after = selected.where(_beyond(ids, last))
            with self._reading() as session:
                found = session.scalars(after).unique().all()
                session.commit()
                yield from found
                if found:
                    last = tuple(sa.inspect(found[-1]).identity)
            if len(found) < self._batch:
                return

    def count(self, model: type) -> int:
        """Count the rows of a mapped class. It blocks."""
        with self._reading() as session:
            found = session.scalar(sa.select(sa.func.count()).select_from(model))
        return int(found or 0)


def _beyond(ids: list[Any], last: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    """Say that a primary key comes after another."""
    if len(ids) == 1:
        return sa.and_(ids[0] > last[0])
    values = [sa.literal(value, id.type) for id, value in zip(ids, last, strict=True)]
    return sa.and_(sa.tuple_(*ids) > sa.tuple_(*values))
