"""Listeners: handlers of what becomes of resources, switched on by settings.

Whoever handles a request says what becomes of records by :class:`ResourceEvents`; subscribers
hear of it in the transaction, where they may veto it, and after the commit; listeners that
settings name hear of it then, see :func:`activate`.
"""

from __future__ import annotations

from oni.listeners._activate import Listeners, activate
from oni.listeners._base import ListenerBase, own_settings
from oni.listeners._settings import flat
from oni.listeners._transaction import ResourceEvents, new_dispatcher
from oni.listeners.events import (
    AfterResourceChanged,
    AfterResourceRead,
    ResourceChanged,
    ResourceEvent,
    ResourceRead,
)

__all__ = [
    "AfterResourceChanged",
    "AfterResourceRead",
    "ListenerBase",
    "Listeners",
    "ResourceChanged",
    "ResourceEvent",
    "ResourceEvents",
    "ResourceRead",
    "activate",
    "flat",
    "new_dispatcher",
    "own_settings",
]
