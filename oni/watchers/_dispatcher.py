"""A watcher that fires what it hears at a dispatcher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred
from zope.interface import implementer

from oni.dispatcher import fire_whole
from oni.interfaces import IEventDispatcher, IModelEventWatcher
from oni.values import ChangeAction

__all__ = ["DispatcherModelEventWatcher", "ModelEvent"]


class ModelEvent(Struct, frozen=True):
    """What has become of a row.

    Attributes:
        model: The model's name.
        action: ``"created"``, ``"modified"`` or ``"deleted"``.
        id: The row's primary key.
        details: See :class:`oni.interfaces.IModelEventWatcher`.
    """

    model: str
    action: ChangeAction
    id: Any
    details: Mapping[str, Any]


@implementer(IModelEventWatcher)
class DispatcherModelEventWatcher:
    """Fires a :class:`ModelEvent` at a dispatcher, to be matched by ``model``, ``action``, ``id``.

    A handler that fails lets the watcher fail, so that a ledger brings the event again: to all of
    the handlers.

    Args:
        dispatcher: Is started by whoever made it. An :class:`oni.dispatcher.EventDispatcher` is
            given those of the three keywords that it allows, any other one all of them.
    """

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = IEventDispatcher(dispatcher)

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._fire(ModelEvent(model, "created", id, details))

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._fire(ModelEvent(model, "modified", id, details))

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._fire(ModelEvent(model, "deleted", id, details))

    def _fire(self, event: ModelEvent) -> Deferred[None]:
        details = {"model": event.model, "action": event.action, "id": event.id}
        return fire_whole(self._dispatcher, event, details)
