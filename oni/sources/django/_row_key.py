"""A primary key for the admin pages, which know none of two columns."""

from __future__ import annotations

from typing import Any

from django.db.models import CharField
from django.db.models.expressions import Col

__all__ = ["RowKey"]


class _Both(Col):
    """What stands in a statement in the column's place."""

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        """Put it together."""
        quote = compiler.connection.ops.quote_name
        table = f"{quote(self.alias)}." if self.alias else ""
        return f"({table}{quote('handler')} || '/' || {table}{quote('key')})", []


class RowKey(CharField):
    """Handler and key of a delivery as one text, ``"handler/key"``. The table has no such column.

    It can be selected, compared and sorted by. No handler has a slash in its name, so that no two
    deliveries have the same.
    """

    def get_col(self, alias: str, output_field: Any = None) -> Any:
        """Give what stands in its place, in a table."""
        return _Both(alias, self, output_field)

    @property
    def cached_col(self) -> Any:
        """Give what stands in its place, in the model's table."""
        return self.get_col(self.model._meta.db_table)
