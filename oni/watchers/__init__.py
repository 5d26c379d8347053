"""Watchers: how the changes of models are carried on, in or out of the process that made them.

A watcher hears of rows that were created, modified or deleted, after that was committed. Which
one a process has is said by its settings, see :func:`configure_model_watcher`;
:func:`watch_models` lets it hear.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from oni.interfaces import IModelEventWatcher
from oni.watchers._base import (
    BaseModelEventWatcher,
    CompositeModelEventWatcher,
    NoopModelEventWatcher,
)
from oni.watchers._configure import (
    configure_model_watcher,
    get_model_watcher,
    make_model_watcher,
    settings_from_ini,
)
from oni.watchers._configured import watch_configured
from oni.watchers._direct import DirectModelEventWatcher
from oni.watchers._dispatcher import DispatcherModelEventWatcher, ModelEvent
from oni.watchers._methods import MethodModelEventWatcher
from oni.watchers._threaded import ThreadedModelEventWatcher
from oni.watchers._watch import watch_models

if TYPE_CHECKING:
    from oni.watchers.celery import (
        ModelEventWatcherCeleryReceiver,
        ModelEventWatcherCelerySender,
    )

__all__ = [
    "BaseModelEventWatcher",
    "CompositeModelEventWatcher",
    "DirectModelEventWatcher",
    "DispatcherModelEventWatcher",
    "IModelEventWatcher",
    "MethodModelEventWatcher",
    "ModelEvent",
    "ModelEventWatcherCeleryReceiver",
    "ModelEventWatcherCelerySender",
    "NoopModelEventWatcher",
    "ThreadedModelEventWatcher",
    "configure_model_watcher",
    "get_model_watcher",
    "make_model_watcher",
    "settings_from_ini",
    "watch_configured",
    "watch_models",
]


def __getattr__(name: str) -> Any:
    if name in ("ModelEventWatcherCeleryReceiver", "ModelEventWatcherCelerySender"):
        try:
            return getattr(import_module("oni.watchers.celery"), name)
        except ImportError as error:
            from oni.errors import MissingExtraError

            raise MissingExtraError(f"oni.watchers.{name}", "celery", error) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
