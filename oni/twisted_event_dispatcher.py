"""The door to Oni's event dispatcher: what a program that fires and handles events imports."""

from oni.dispatcher import EventDispatcher, absent, in_thread, one_of, regex, where
from oni.interfaces import IBackgroundUtility, IEventDispatcher
from oni.values import EventResult, Phase

__all__ = [
    "EventDispatcher",
    "EventResult",
    "IBackgroundUtility",
    "IEventDispatcher",
    "Phase",
    "absent",
    "in_thread",
    "one_of",
    "regex",
    "where",
]
