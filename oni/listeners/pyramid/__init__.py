"""Resources' events in Pyramid: ``config.include("oni.listeners.pyramid")``.

Views say what becomes of records by ``request.resource_events.record(...)``. Subscribers that were
added by ``config.add_subscriber(fn, ResourceChanged, for_actions=..., for_resources=...)`` hear of
it before the request's transaction is committed, in its thread, and may veto it; those of
``AfterResourceChanged`` hear after the commit. Listeners that the settings name are switched on.
"""

from __future__ import annotations

from oni.listeners.pyramid._including import includeme, set_event_sources
from oni.listeners.pyramid._requests import RequestEvents, events_tween_factory

__all__ = ["RequestEvents", "events_tween_factory", "includeme", "set_event_sources"]
