"""Goes through every instance of a model, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Model, QuerySet

__all__ = ["Instances"]


class Instances:
    """Reads every row of a model that its default manager shows, in the order of primary keys.

    No cursor stays open between two batches. Rows that come or go meanwhile are met or not; none
    is met twice.

    Args:
        using: The database's alias; None: as the project's routers say.
        batch: How many rows are read at once.
    """

    def __init__(self, using: str | None = None, batch: int = 500) -> None:
        self._using = using
        self._batch = batch

    def __call__(self, model: type[Model]) -> Iterator[Any]:
        """Give every instance of a model. It blocks."""
        for batch in self.batches(model):
            yield from batch

    def batches(self, model: type[Model]) -> Iterator[list[Any]]:
        """Give every instance of a model, as they are read."""
        rows = self._rows(model).order_by("pk")
        found = list(rows[: self._batch])
        while found:
            yield found
            if len(found) < self._batch:
                return
            found = list(rows.filter(pk__gt=found[-1].pk)[: self._batch])

    def count(self, model: type[Model]) -> int:
        """Count the rows of a model. It blocks."""
        return int(self._rows(model).count())

    def _rows(self, model: type[Model]) -> QuerySet:
        rows = model._default_manager.all()
        return rows if self._using is None else rows.using(self._using)
