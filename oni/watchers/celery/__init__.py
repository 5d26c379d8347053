"""Watchers over a broker: a sender, and a receiver in Celery's workers. The extra ``celery``."""

from __future__ import annotations

from oni.watchers.celery._post import TASK
from oni.watchers.celery._receiver import (
    LONGEST_DELAY,
    VISIBILITY_TIMEOUT,
    ModelEventWatcherCeleryReceiver,
)
from oni.watchers.celery._sender import CAPACITY, TIMEOUT, ModelEventWatcherCelerySender

__all__ = [
    "CAPACITY",
    "LONGEST_DELAY",
    "ModelEventWatcherCeleryReceiver",
    "ModelEventWatcherCelerySender",
    "TASK",
    "TIMEOUT",
    "VISIBILITY_TIMEOUT",
]
