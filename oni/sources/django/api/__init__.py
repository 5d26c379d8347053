"""What a Django project calls: register sources and handlers, and process events.

Calls block, and may be made in any thread but the reactor's. Importing this starts nothing.
"""

from oni.sources import event
from oni.sources.django._atomic import atomic_events
from oni.sources.django._processing import only_new_events, process_events, process_models
from oni.sources.django._registration import (
    MODEL_SOURCES,
    event_sources,
    register_change_handler,
    register_group_handler,
    register_model_event_source,
    register_veto,
    watch,
)
from oni.values import Event

__all__ = [
    "Event",
    "MODEL_SOURCES",
    "atomic_events",
    "event",
    "event_sources",
    "only_new_events",
    "process_events",
    "process_models",
    "register_change_handler",
    "register_group_handler",
    "register_model_event_source",
    "register_veto",
    "watch",
]
