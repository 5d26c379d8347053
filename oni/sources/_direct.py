"""Those who are told of changes by the thread that made them, right after its commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from threading import Lock
from typing import Any, NamedTuple

from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher import settled
from oni.errors import InvalidHandlerError
from oni.signals.models import post_delete, post_save
from oni.values import ChangeAction, Committed, ModelChange

__all__ = ["DirectHandlers"]

_log = Logger()


class _Handler(NamedTuple):
    function: Callable[[ModelChange], Any]
    actions: frozenset[str]


class DirectHandlers:
    """The direct handlers of each model, and the signals of models. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Never changed, only replaced: other threads read it as it is.
        self._by_model: Mapping[str, tuple[_Handler, ...]] = {}

    def add(
        self,
        model: str,
        function: Callable[[ModelChange], Any],
        actions: Collection[ChangeAction],
    ) -> None:
        """Register a handler.

        Raises:
            InvalidHandlerError: It cannot be called.
        """
        if not callable(function):
            raise InvalidHandlerError(function, "it cannot be called")
        with self._lock:
            known = self._by_model.get(model, ())
            added = _Handler(function, frozenset(actions))
            self._by_model = {**self._by_model, model: (*known, added)}

    def hears(self, model: str) -> bool:
        """Say whether anybody wants to know of a model."""
        return model in self._by_model or post_save.has_receivers or post_delete.has_receivers

    def tell(self, committed: Iterable[Committed]) -> None:
        """Tell all of them, each of whatever becomes of the others. It never fails."""
        for each in committed:
            for handler in self._by_model.get(each.change.model, ()):
                if each.change.action in handler.actions:
                    _call(handler.function, each.change)
            if each.instance is not None:
                _send(each.change, each.instance)


def _call(function: Callable[[ModelChange], Any], change: ModelChange) -> None:
    try:
        result = settled(function(change), "a direct handler")
    except BaseException:  # noqa: BLE001 - the row is there: who has saved it has not failed
        result = Failure()
    if isinstance(result, Failure):
        _log.failure(
            "{handler} failed with {model} {id!r}, which was {action}; it is not told again",
            failure=result,
            handler=function,
            model=change.model,
            id=change.id,
            action=change.action,
        )


def _send(change: ModelChange, instance: Any) -> None:
    try:
        if change.action == "deleted":
            if post_delete.has_receivers:
                post_delete.send_here(type(instance), instance=instance)
        elif post_save.has_receivers:
            created = change.action == "created"
            post_save.send_here(type(instance), instance=instance, created=created)
    except BaseException:  # noqa: BLE001 - receivers do not fail so, but too many may be nested
        _log.failure("The signal of {model} {id!r} was not sent", model=change.model, id=change.id)
