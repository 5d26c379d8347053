"""Every instance of every model, through every source, a batch at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from twisted.logger import Logger

from oni.sources._pool import RunsElsewhere
from oni.values import Admission, Event, model_name

__all__ = ["Batches", "SourcesProgress"]

_log = Logger()


@dataclass(frozen=True, slots=True)
class SourcesProgress:
    """How far sources have come.

    Attributes:
        model: The name of the model whose instances were looked at last, ``""`` before the first.
        instances: How many instances were looked at, of all models.
        events: How many events their sources yielded.
        admitted: How many of these were new.
        failures: For how many instances a source failed.
    """

    model: str = ""
    instances: int = 0
    events: int = 0
    admitted: int = 0
    failures: int = 0


class Batches:
    """Looks at instances in a thread, and lets what their sources yield be processed.

    Args:
        instances_of: Gives a model's instances.
        events_of: Gives what the sources of an instance yield.
        process: Admits events and runs their deliveries; gives what became of each.
        size: How many instances make a batch.
        progress: Is told how far it is, after each batch.
        named: Says which one an instance is.
    """

    def __init__(
        self,
        instances_of: Callable[[type], Iterable[Any]],
        events_of: Callable[[Any], Sequence[Event]],
        process: Callable[[list[Event]], Awaitable[Sequence[Admission]]],
        size: int,
        progress: Callable[[SourcesProgress], object] | None,
        named: Callable[[Any], str],
    ) -> None:
        self._is_cancelled = False
        self._instances_of = instances_of
        self._events_of = events_of
        self._process = process
        self._size = size
        self._progress = progress
        self._named = named
        self._so_far = SourcesProgress()

    def cancel(self) -> None:
        """End it after the batch that is under way."""
        self._is_cancelled = True

    async def run(self, models: Sequence[type], thread: RunsElsewhere) -> SourcesProgress:
        """Look at all instances of these models.

        Args:
            models: The models.
            thread: A single one, in which instances are loaded and sources called: what a
                database gives belongs to the thread that asked for it.
        """
        for model in models:
            if self._is_cancelled:
                break
            await self._run_model(model, thread)
        return self._so_far

    async def _run_model(self, model: type, thread: RunsElsewhere) -> None:
        name = model_name(model)
        instances = await thread.run(name, lambda: _Wrapped(iter(self._instances_of(model))))
        while not self._is_cancelled:
            looked_at, events, failures = await thread.run(
                name, lambda: self._batch(instances.iterator)
            )
            if not looked_at:
                break
            admissions = await self._process(events)
            so_far = self._so_far
            self._so_far = SourcesProgress(
                model=name,
                instances=so_far.instances + looked_at,
                events=so_far.events + len(events),
                admitted=so_far.admitted + list(admissions).count("admitted"),
                failures=so_far.failures + failures,
            )
            if self._progress is not None:
                self._progress(self._so_far)

    def _batch(self, instances: Iterator[Any]) -> tuple[int, list[Event], int]:
        """Give how many instances there were, what their sources yielded, and how many failed."""
        events: list[Event] = []
        looked_at = failures = 0
        for instance in islice(instances, self._size):
            looked_at += 1
            try:
                events.extend(self._events_of(instance))
            except Exception:  # noqa: BLE001 - one row must not keep all others from their turn
                failures += 1
                _log.failure(
                    "A source failed with an instance of {model}: {instance}",
                    model=model_name(type(instance)),
                    instance=self._named(instance),
                )
        return looked_at, events, failures


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """Holds an iterator, which a Deferred might take for something to wait for."""

    iterator: Iterator[Any]
