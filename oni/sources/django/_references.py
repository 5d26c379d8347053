"""How an event's context names instances of Django's models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import connections, models
from zope.interface import implementer

from oni.errors import MissingRowError, UnkeptContextError
from oni.interfaces import IModelReferences
from oni.sources.django._connections import close_connections

__all__ = ["DjangoReferences"]


@implementer(IModelReferences)
class DjangoReferences:
    """Names an instance by its model, primary key and database: ``blog.Post``, 7, ``default``."""

    name = "django"

    def refer(self, value: Any) -> Mapping[str, Any] | None:
        """See :class:`oni.interfaces.IModelReferences`."""
        if not isinstance(value, models.Model):
            return None
        meta = value._meta
        if not value._is_pk_set() or value._state.adding:
            raise UnkeptContextError("", "", f"this {meta.label} is not in the database yet")
        id = value.pk
        if type(id) is not int:
            id = meta.pk.value_to_string(value)
        return {"model": meta.label, "id": id, "using": value._state.db or "default"}

    def load(self, reference: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelReferences`. The connection is closed as Django does.

        It is read past the model's default manager, which may hide rows.
        """
        label, id, using = (reference[name] for name in ("model", "id", "using"))
        try:
            model = apps.get_model(label)
        except LookupError as error:
            raise MissingRowError(label, id, "there is no such model") from error
        if using not in connections:
            raise MissingRowError(label, id, f"there is no database {using!r}")
        try:
            pk = model._meta.pk.to_python(id)
            return model._base_manager.using(using).get(pk=pk)
        except (ObjectDoesNotExist, ValidationError) as error:
            raise MissingRowError(label, id) from error
        finally:
            close_connections()
