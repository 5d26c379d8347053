"""A primary key for the admin pages, which know none of two columns."""

from __future__ import annotations

from typing import Any

from django.db.models import CharField, Value
from django.db.models.expressions import Col
from django.db.models.functions import Concat

__all__ = ["RowKey"]


class RowKey(CharField):
    """Handler and key of a delivery as one text, ``"handler/key"``. It is no column.

    It can be selected, compared and sorted by. No handler has a slash in its name, so that two
    deliveries never have the same.
    """

    def get_attname_column(self) -> tuple[str, None]:
        """Name no column."""
        return self.get_attname(), None

    def get_col(self, alias: str, output_field: Any = None) -> Any:
        """Put it together from the columns of a table."""
        handler, key = (self.model._meta.get_field(name) for name in ("handler", "key"))
        return Concat(Col(alias, handler), Value("/"), Col(alias, key), output_field=self)

    @property
    def cached_col(self) -> Any:
        """Put it together from the columns of the model's table."""
        return self.get_col(self.model._meta.db_table)
