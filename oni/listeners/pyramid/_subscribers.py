"""Pyramid's own subscribers, as handlers of a dispatcher for resources' events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.registry import Registry
from zope.interface import providedBy

from oni.blocking import fire_here
from oni.dispatcher import EventDispatcher, one_of
from oni.errors import EventAbortedError
from oni.listeners._transaction import new_dispatcher
from oni.listeners.events import (
    ACTIONS,
    AfterResourceChanged,
    AfterResourceRead,
    ResourceChanged,
    ResourceEvent,
    ResourceRead,
)
from oni.values import Phase

__all__ = ["ForActions", "ForResources", "dispatcher_of_subscribers"]

_BEFORE = Phase("before", concurrent=False, on_error="abort")
_AFTER = Phase("after", concurrent=False)


def dispatcher_of_subscribers(registry: Registry) -> EventDispatcher:
    """Make a dispatcher for resources' events that tells them to a registry's subscribers, too."""
    dispatcher = new_dispatcher()

    def before(event: ResourceEvent) -> None:
        _tell(registry, event, _BEFORE)

    def after(event: ResourceEvent) -> None:
        _tell(registry, event, _AFTER)

    is_before = one_of(ResourceChanged, ResourceRead)
    dispatcher.add_event_handler(before, "before", use_weakref=False, kind=is_before)
    is_after = one_of(AfterResourceChanged, AfterResourceRead)
    dispatcher.add_event_handler(after, "after", use_weakref=False, kind=is_after)
    return dispatcher


def _tell(registry: Registry, event: ResourceEvent, phase: Phase) -> None:
    """Call the subscribers for an event, one after the other, and wait for each.

    The registry would stop at the first that fails, and drop what they return.
    """
    dispatcher = EventDispatcher((), phases=[phase])
    dispatcher.start()
    for subscriber in registry.adapters.subscriptions([providedBy(event)], None):
        dispatcher.add_event_handler(subscriber, phase.name, use_weakref=False)
    try:
        fire_here(dispatcher, event)
    except EventAbortedError as error:
        raise (error.__cause__ or error) from None


class _Words:
    """A subscriber predicate: what an event says by one name is one of some words."""

    name = ""

    def __init__(self, value: str | Sequence[str], config: Any) -> None:
        self.words = (value,) if isinstance(value, str) else tuple(value)
        wrong = [word for word in self.words if not isinstance(word, str)]
        if wrong or not self.words:
            raise ConfigurationError(f"{self.name} is a word, or some of them, not {value!r}")

    def text(self) -> str:
        """Say it to whoever looks at the subscribers."""
        return f"{self.name} = {', '.join(self.words)}"

    phash = text


class ForActions(_Words):
    """``for_actions=("create", "update")``: whether an event is of one of these actions."""

    name = "for_actions"

    def __init__(self, value: str | Sequence[str], config: Any) -> None:
        super().__init__(value, config)
        unknown = [action for action in self.words if action not in ACTIONS]
        if unknown:
            raise ConfigurationError(
                f"for_actions has {', '.join(unknown)}; actions are {', '.join(ACTIONS)}"
            )

    def __call__(self, event: Any) -> bool:
        """Say whether it is."""
        return isinstance(event, ResourceEvent) and event.action in self.words


class ForResources(_Words):
    """``for_resources=("article",)``: whether an event is of one of these resources."""

    name = "for_resources"

    def __call__(self, event: Any) -> bool:
        """Say whether it is."""
        return isinstance(event, ResourceEvent) and event.resource_name in self.words
