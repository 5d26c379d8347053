"""Statements that change rows without loading them: refused, told as one, or told row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import transaction
from django.db.models import Manager, QuerySet

from oni.errors import BulkChangeError
from oni.sources.django._atomic import tell
from oni.sources.django._changes import deleted, is_heard, made, modified
from oni.sources.django._snapshots import rows
from oni.sources.django._watched import Watch, watched
from oni.values import ModelChange

__all__ = ["EXPAND_LIMIT", "OniManager", "OniQuerySet"]

EXPAND_LIMIT = 10_000


class OniQuerySet(QuerySet):
    """A queryset whose bulk statements are told of, as the model's watch says (``bulk=``).

    They are ``update``, ``bulk_create``, ``bulk_update`` and their asynchronous twins. ``delete``
    sends signals for each row, and needs none of this. A model that is not watched is left alone.
    """

    def update(self, **kwargs: Any) -> int:
        """Change rows; see :meth:`django.db.models.query.QuerySet.update`.

        Raises:
            BulkChangeError: The model is watched strictly, or too many rows are to be told of.
        """
        return int(self._told("update", lambda rows: rows._update_plainly(kwargs), kwargs))

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Make rows; see :meth:`django.db.models.query.QuerySet.bulk_create`.

        Rows of which it is not known whether they were made, as conflicts are ignored or end in
        an update, are told of as one change with ``bulk="expand"``, too.

        Raises:
            BulkChangeError: The model is watched strictly.
        """
        watch = self._watch()
        objs = list(objs)
        if watch is None or not objs:
            return super().bulk_create(objs, *args, **kwargs)
        self._refuse(watch, "bulk_create")
        with transaction.atomic(using=self._db_for_write(), savepoint=False):
            created = super().bulk_create(objs, *args, **kwargs)
            if is_heard(watch, self.db):
                tell(self.db, list(self._created(watch, created, self._is_unsure(args, kwargs))))
        return created

    def bulk_update(self, objs: Iterable[Any], fields: Any, *args: Any, **kwargs: Any) -> int:
        """Write instances' values; see :meth:`django.db.models.query.QuerySet.bulk_update`.

        It makes an ``update`` of each batch, which is told of.

        Raises:
            BulkChangeError: The model is watched strictly.
        """
        watch = self._watch()
        if watch is not None:
            self._refuse(watch, "bulk_update")
        return int(super().bulk_update(objs, fields, *args, **kwargs))

    def _raw_delete(self, using: str) -> Any:
        """Delete rows without signals."""
        return self._told("_raw_delete", lambda rows: QuerySet._raw_delete(rows, using), {})

    # --- How it is told

    def _told(
        self, operation: str, change: Callable[[OniQuerySet], Any], values: dict[str, Any]
    ) -> Any:
        watch = self._watch()
        if watch is None:
            return change(self)
        self._refuse(watch, operation)
        using = self._db_for_write()
        if not is_heard(watch, using):
            return change(self)
        with transaction.atomic(using=using):
            if watch.bulk == "coarse":
                statement = self._statement(operation, values)
                count = change(self)
                tell(using, [_bulk(watch, using, statement, count)])
                return count
            ids = self._ids(watch, operation, using)
            old = rows(watch, using, ids)
            count = change(self.filter(pk__in=ids))
            tell(using, list(_row_by_row(watch, using, old)))
        return count

    def _update_plainly(self, values: dict[str, Any]) -> Any:
        return super().update(**values)

    def _ids(self, watch: Watch, operation: str, using: str) -> Sequence[Any]:
        found = self.using(using).order_by().values_list("pk", flat=True)
        ids = list(dict.fromkeys(found[: EXPAND_LIMIT + 1]))
        if len(ids) > EXPAND_LIMIT:
            raise BulkChangeError(
                watch.label, operation, f"more than {EXPAND_LIMIT} rows cannot be told one by one"
            )
        return ids

    def _created(
        self, watch: Watch, created: Sequence[Any], is_unsure: bool
    ) -> Iterable[ModelChange]:
        has_ids = all(instance._is_pk_set() for instance in created)
        if watch.bulk == "coarse" or is_unsure or not has_ids:
            yield _bulk(watch, self.db, "bulk_create", -1 if is_unsure else len(created))
            return
        new = rows(watch, self.db, [instance.pk for instance in created])
        for id, values in new.items():
            yield made(watch, id, self.db, values)

    def _is_unsure(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        # After the batch size come ignore_conflicts and update_conflicts.
        conflicts = ("ignore_conflicts", "update_conflicts")
        return any(args[1:3]) or any(kwargs.get(name) for name in conflicts)

    def _statement(self, operation: str, values: dict[str, Any]) -> str:
        """Say what is done, without the values, which may be nobody's business."""
        try:
            where = self.query.sql_with_params()[0]
        except EmptyResultSet:
            where = "no rows"
        return f"{operation}({', '.join(sorted(values))}): {where}"

    def _watch(self) -> Watch | None:
        return watched.get(self.model)

    def _refuse(self, watch: Watch, operation: str) -> None:
        if watch.bulk == "strict":
            raise BulkChangeError(watch.label, operation)

    def _db_for_write(self) -> str:
        self._for_write = True
        return str(self.db)


_Manager: Any = Manager.from_queryset(OniQuerySet)


class OniManager(_Manager):
    """A manager whose querysets are :class:`OniQuerySet`."""


def _bulk(watch: Watch, using: str, statement: str, count: int) -> ModelChange:
    return ModelChange(watch.label, None, "bulk", using=using, statement=statement, count=count)


def _row_by_row(watch: Watch, using: str, old: Any) -> Iterable[ModelChange]:
    new = rows(watch, using, list(old))
    for id, before in old.items():
        if id in new:
            yield from modified(watch, id, using, before, new[id], watch.columns)
        else:
            yield deleted(watch, id, using, before)
