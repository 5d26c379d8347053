"""Where events come from: what sources yield is admitted once, and given to every handler once.

:class:`EventSources` ties sources, group handlers and a ledger together; the functions of the same
names are shortcuts to the default ones of the process. :mod:`oni.sources.sqlalchemy` and
:mod:`oni.sources.django` watch models.
"""

from __future__ import annotations

from oni.sources._batches import SourcesProgress
from oni.sources._changes import ChangeBuffer, coalesce
from oni.sources._event import event
from oni.sources._group_handlers import GroupHandler
from oni.sources._models import ModelSources
from oni.sources._options import Options
from oni.sources._shortcuts import (
    MODEL_SOURCES,
    default,
    fresh_default,
    only_new_events,
    process_events,
    register_change_handler,
    register_group_handler,
    register_model_event_source,
)
from oni.sources._sources import EventSources
from oni.values import UNKNOWN, Event, ModelChange, model_name

__all__ = [
    "ChangeBuffer",
    "Event",
    "EventSources",
    "GroupHandler",
    "MODEL_SOURCES",
    "ModelChange",
    "ModelSources",
    "Options",
    "SourcesProgress",
    "UNKNOWN",
    "coalesce",
    "default",
    "event",
    "fresh_default",
    "model_name",
    "only_new_events",
    "process_events",
    "register_change_handler",
    "register_group_handler",
    "register_model_event_source",
]
