"""A watcher whose methods are named after models and actions: ``processPostCreated(id)``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from zope.interface import implementer

from oni.interfaces import IModelEventWatcher

__all__ = ["MethodModelEventWatcher", "has_methods"]

_ACTIONS = ("Created", "Modified", "Deleted")
_NAME = re.compile(rf"process\w+({'|'.join(_ACTIONS)})")


@implementer(IModelEventWatcher)
class MethodModelEventWatcher:
    """Calls ``process<Model><Action>(id)`` for what becomes of a model's rows.

    The model's name is its class's, without what stands before the last dot; the actions are
    ``Created``, ``Modified`` and ``Deleted``. What there is no method for is passed over.

    Further parameters of a method are given the column of their name, as it is afterwards, or was
    before a deletion, None where there is no such column; ``details`` is given all of them.

    Attributes:
        target: Whose methods these are.

    Args:
        target: The same. None: this object's own, to inherit from.
    """

    def __init__(self, target: object | None = None) -> None:
        self.target = self if target is None else target

    def __repr__(self) -> str:
        """Name whose methods are called, as logs do."""
        kind = type(self.target)
        return f"<{type(self).__qualname__} of {kind.__module__}.{kind.__qualname__}>"

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._call("Created", model, id, details)

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._call("Modified", model, id, details)

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._call("Deleted", model, id, details)

    def hears(self, model: str) -> bool:
        """Say whether there is a method for anything that becomes of a model's rows."""
        return any(self._method(action, model) is not None for action in _ACTIONS)

    def _call(self, action: str, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        method = self._method(action, model)
        if method is None:
            return None
        return method(id, **_wanted(method, details))

    def _method(self, action: str, model: str) -> Callable[..., Any] | None:
        name = f"process{model.rpartition('.')[2]}{action}"
        found: Callable[..., Any] | None = getattr(self.target, name, None)
        return found


def has_methods(target: object) -> bool:
    """Say whether any of an object's methods is named after a model and an action."""
    return any(_NAME.fullmatch(name) and callable(getattr(target, name)) for name in dir(target))


def _wanted(method: Callable[..., Any], details: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a method's further parameters are called for."""
    known = {**details.get("old", {}), **details.get("new", {}), "details": details}
    first, *parameters = inspect.signature(method).parameters.values()
    known.pop(first.name, None)  # the id, which is given by its place
    needed = {p.name: None for p in parameters if p.default is p.empty and p.kind in _BY_NAME}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return needed | known
    return needed | {p.name: known[p.name] for p in parameters if p.name in known}


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
