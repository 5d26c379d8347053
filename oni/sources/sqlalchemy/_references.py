"""Names instances of mapped classes, so that an event's context can be kept."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import InstanceState, Mapper, Session
from zope.interface import implementer

from oni.errors import MissingRowError, UnkeptContextError
from oni.interfaces import IModelReferences
from oni.sources.sqlalchemy._models import mapper_of
from oni.sources.sqlalchemy._reading import Reading
from oni.values import model_name

__all__ = ["SqlAlchemyReferences"]

_TAGS: Mapping[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "uuid": (UUID, str, UUID),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


@implementer(IModelReferences)
class SqlAlchemyReferences:
    """Names instances by their class and primary key, and loads them in sessions of its own.

    A class is found by the module and name in its reference, and that module is imported when
    nobody else has done so. What is loaded is detached from its session: its columns can be read,
    and a relationship if it is loaded eagerly.

    Args:
        make_session: Makes a session: a ``sessionmaker``. For an asynchronous program it is a
            synchronous one on the same database, as handlers' instances are loaded in threads.
        models: Mapped classes that no module has under their own name.
        options: Given to each load: what is loaded with an instance, ``selectinload(...)``.
    """

    name = "sqlalchemy"

    def __init__(
        self,
        make_session: Callable[[], Session],
        models: Iterable[type] = (),
        *,
        options: Sequence[Any] = (),
    ) -> None:
        self._reading = Reading(make_session)
        self._models = {model_name(mapper_of(model).class_): model for model in models}
        self._options = tuple(options)

    def refer(self, value: Any) -> Mapping[str, Any] | None:
        """See :class:`oni.interfaces.IModelReferences`."""
        state = sa.inspect(value, raiseerr=False)
        if not isinstance(state, InstanceState):
            return None
        model = state.mapper.class_
        if state.identity is None:
            raise UnkeptContextError(
                "", "", f"this {model.__name__} has no primary key yet; flush the session before"
            )
        named = model_name(model)
        if self._find(named) is not model:
            raise UnkeptContextError(
                "",
                "",
                f"no module has the class {named} under this name, so that it could not be found "
                f"again: name it in SqlAlchemyReferences(models=...)",
            )
        return {"model": named, "id": [_written(part, named) for part in state.identity]}

    def load(self, reference: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelReferences`."""
        named = reference["model"]
        shown = reference["id"][0] if len(reference["id"]) == 1 else reference["id"]
        model = self._find(named)
        if model is None:
            raise MissingRowError(named, shown, "there is no such mapped class any more")
        identity = tuple(_read(part) for part in reference["id"])
        if len(identity) != len(mapper_of(model).primary_key):
            raise MissingRowError(named, shown, "the class has another primary key by now")
        with self._reading() as session:
            instance: object = session.get(model, identity, options=self._options)
            if instance is None:
                raise MissingRowError(named, shown)
            return instance

    def _find(self, named: str) -> type | None:
        """Give the mapped class of a name."""
        found = self._models.get(named)
        if found is not None:
            return found
        parts = named.split(".")
        for length in range(len(parts) - 1, 0, -1):
            try:
                inner: Any = importlib.import_module(".".join(parts[:length]))
            except ImportError:
                continue
            for part in parts[length:]:
                inner = getattr(inner, part, None)
            if isinstance(inner, type) and isinstance(sa.inspect(inner, raiseerr=False), Mapper):
                return inner
        return None


def _written(part: Any, named: str) -> Any:
    """Give a part of a primary key as JSON."""
    if part is None or isinstance(part, str | int):
        return part
    for tag, (kind, write, _) in _TAGS.items():
        if isinstance(part, kind):
            return [tag, write(part)]
    raise UnkeptContextError(
        "", "", f"a primary key of {named} has a {type(part).__qualname__}, which has no JSON"
    )


def _read(part: Any) -> Any:
    if isinstance(part, list):
        tag, text = part
        return _TAGS[tag][2](text)
    return part
