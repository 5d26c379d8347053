"""The default event sources of a process, and shortcuts to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from re import Pattern
from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred

from oni.sources._models import Source
from oni.sources._sources import ACTIONS, Events, EventSources
from oni.values import ChangeAction, Event, LedgerRecord

__all__ = [
    "MODEL_SOURCES",
    "default",
    "fresh_default",
    "only_new_events",
    "process_events",
    "register_change_handler",
    "register_group_handler",
    "register_model_event_source",
]

_lock = Lock()
_sources: EventSources | None = None


def default() -> EventSources:
    """Give the default event sources of this process, which are made when first asked for.

    They have no ledger until ``default().configure(ledger)`` gives them one, and live from
    ``default().start()``. Any thread may ask.
    """
    global _sources
    with _lock:
        if _sources is None:
            _sources = EventSources()
        return _sources


@contextmanager
def fresh_default(sources: EventSources | None = None) -> Iterator[EventSources]:
    """Put others in the place of the default event sources while a ``with`` block runs.

    For tests, and for whole programs that live one after another in a process.

    Args:
        sources: The others; new ones if None.
    """
    global _sources
    with _lock:
        before, _sources = _sources, EventSources() if sources is None else sources
        fresh = _sources
    try:
        yield fresh
    finally:
        with _lock:
            _sources = before


def register_group_handler(
    group: str | Pattern[str], handler: Callable[..., Any], **options: Any
) -> str:
    """Register a handler at the default event sources; see :class:`oni.sources.EventSources`."""
    return default().register_group_handler(group, handler, **options)


def register_change_handler(
    sender: type | str,
    handler: Callable[..., Any],
    *,
    actions: Collection[ChangeAction] = ACTIONS,
    **options: Any,
) -> str:
    """Register a handler of changes; see :class:`oni.sources.EventSources`."""
    return default().register_change_handler(sender, handler, actions=actions, **options)


def register_model_event_source(sender: type, source: Source) -> None:
    """Register a source for a model; see :class:`oni.sources.EventSources`."""
    default().register_model_event_source(sender, source)


def only_new_events(events: Events) -> Deferred[Sequence[Event]]:
    """Admit events, and give those that were not known; see :class:`oni.sources.EventSources`."""
    return default().only_new_events(events)


def process_events(events: Events) -> Deferred[Sequence[LedgerRecord]]:
    """Run events' deliveries; see :class:`oni.sources.EventSources`."""
    return default().process_events(events)


class _DefaultModelSources(Mapping[type, tuple[Source, ...]]):
    """The sources of each model, as the default event sources have them now."""

    def __getitem__(self, model: type) -> tuple[Source, ...]:
        """Give the sources of a model."""
        return default().model_sources[model]

    def __iter__(self) -> Iterator[type]:
        """Give the models."""
        return iter(default().model_sources)

    def __len__(self) -> int:
        """Count the models."""
        return len(default().model_sources)

    def __repr__(self) -> str:
        """Show them."""
        return repr(default().model_sources)


MODEL_SOURCES = _DefaultModelSources()
"""The sources of each model, by the model, as they are registered now."""
