"""Which models have which sources. Any thread may ask."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Any

from oni.errors import InvalidSourceError
from oni.values import Event

__all__ = ["ModelSources", "Source"]

Source = Callable[[Any], Iterable[Event] | None]


class ModelSources(Mapping[type, tuple[Source, ...]]):
    """The sources of each model, by the model. What it gives does not change."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_model: Mapping[type, tuple[Source, ...]] = {}

    def add(self, model: type, source: Source) -> None:
        """Register a source. The second time nothing happens.

        Raises:
            InvalidSourceError: It is no function that gives events, or the model is no class.
        """
        if not isinstance(model, type):
            raise InvalidSourceError(source, f"the sender is a model, a class, not {model!r}")
        if not callable(source):
            raise InvalidSourceError(source, "it cannot be called")
        if inspect.iscoroutinefunction(source) or inspect.isasyncgenfunction(source):
            raise InvalidSourceError(
                source, "sources run where models are saved, and are called and done with"
            )
        with self._lock:
            known = self._by_model.get(model, ())
            if source not in known:
                self._by_model = {**self._by_model, model: (*known, source)}

    def events(self, instance: Any) -> list[Event]:
        """Give what the sources of an instance's model, and of those it inherits from, yield.

        Raises:
            InvalidSourceError: One yields what is no event.
        """
        found = []
        by_model = self._by_model
        for model in type(instance).__mro__:
            for source in by_model.get(model, ()):
                for event in source(instance) or ():
                    if not isinstance(event, Event):
                        raise InvalidSourceError(source, f"it yields {event!r}, which is no event")
                    found.append(event)
        return found

    def __getitem__(self, model: type) -> tuple[Source, ...]:
        """Give the sources of a model."""
        return self._by_model[model]

    def __iter__(self) -> Iterator[type]:
        """Give the models, as they are now."""
        return iter(self._by_model)

    def __len__(self) -> int:
        """Count the models."""
        return len(self._by_model)

    def __repr__(self) -> str:
        """Show models and sources."""
        return f"ModelSources({dict(self._by_model)!r})"
