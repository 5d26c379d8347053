"""Fires what succeeds or fails as a whole, at whatever dispatcher a user has given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from oni.dispatcher._dispatcher import EventDispatcher
from oni.interfaces import IEventDispatcher
from oni.values import EventResult

__all__ = ["fire_whole"]


def fire_whole(
    dispatcher: IEventDispatcher, event: Any, details: Mapping[str, Any]
) -> Deferred[None]:
    """Fire an event, and fail where one of its handlers does.

    Args:
        dispatcher: The dispatcher. An :class:`EventDispatcher` is given those of the details that
            it allows now, any other one all of them.
        event: The event.
        details: What it may be matched by.

    Returns:
        A Deferred that fires when every handler has ended; it fails with
        :class:`oni.errors.WatchersFailedError` where some of them have failed.
    """
    allowed = dict(details)
    if isinstance(dispatcher, EventDispatcher):
        known = dispatcher.allowed_match_spec_keywords
        allowed = {name: value for name, value in allowed.items() if name in known}
    fired: Deferred[EventResult] = dispatcher.fire_event(event, **allowed)
    return fired.addCallback(EventResult.raise_failures)
