"""A listener that fires at a dispatcher: ``use = oni.listeners.dispatcher`` in the settings."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.component import getGlobalSiteManager

from oni.dispatcher import fire_whole
from oni.errors import SettingsError
from oni.interfaces import IEventDispatcher
from oni.listeners._base import ListenerBase, own_settings
from oni.listeners.events import ResourceEvent

__all__ = ["Listener", "load_from_config"]

_KEYWORDS = ("kind", "resource_name", "action", "user_id")


class Listener(ListenerBase):
    """Fires each event, to be matched by ``kind``, ``resource_name``, ``action``, ``user_id``.

    ``kind`` is the event's class; the others are the payload's.

    A handler that fails lets the listener fail, so that a ledger brings the event again: to all
    of the handlers.

    Args:
        dispatcher: Where it fires. None: this process's utility ``IEventDispatcher``. An
            :class:`oni.dispatcher.EventDispatcher` is given those of the keywords that it allows.
    """

    in_reactor = True

    def __init__(self, dispatcher: Any = None) -> None:
        self._dispatcher = dispatcher

    def __call__(self, event: ResourceEvent) -> Deferred[None]:
        """Fire an event; the Deferred fires when its handlers have ended."""
        dispatcher = self._dispatcher
        if dispatcher is None:
            dispatcher = getGlobalSiteManager().getUtility(IEventDispatcher)
        known = {**event.payload, "kind": type(event)}
        return fire_whole(dispatcher, event, {name: known.get(name) for name in _KEYWORDS})


def load_from_config(config: Any, prefix: str) -> Listener:
    """Make one; it has no settings of its own."""
    own = own_settings(config, prefix)
    if own:
        raise SettingsError([f"{prefix}{name}: there is no such setting" for name in own])
    given = config if hasattr(config, "get") else config.get_settings()
    return Listener(given.get("oni.dispatcher"))
