"""Every instance of models through their sources, in a process that does nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeoutError
from twisted.python.failure import Failure

from oni.command._failures import FAILED, INTERRUPTED, UNREACHABLE, CommandError
from oni.command._ledger_many import Bar
from oni.errors import LedgerUnavailableError, OniError, StopTimeoutError
from oni.sources import EventSources, SourcesProgress, model_name

__all__ = ["Processing", "chosen_models", "count_instances"]

_GIVEN_UP = 75


def chosen_models(sources: EventSources, names: Sequence[str]) -> list[type]:
    """Find models that have sources by their names; all of them where none is named.

    Raises:
        CommandError: There is no such model, or none at all.
    """
    known = {model_name(model): model for model in sources.model_sources}
    if not known:
        raise CommandError("no model has a source: sources.configure registers none")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CommandError(f"no model {unknown[0]!r} has a source; known: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def count_instances(
    instances_of: Callable[[type], Iterable[Any]], models: Iterable[type]
) -> int | None:
    """Count what there is to do, None where nobody can."""
    count = getattr(instances_of, "count", None)
    return None if count is None else sum(count(model) for model in models)


class Processing:
    """What runs while the reactor does.

    Args:
        sources: The event sources, not started.
        instances_of: Gives a model's instances.
        models: The models.
        batch: How many instances are looked at before their events are processed.
        stop_timeout: Seconds that handlers have at the end.
        bar: Shows how far it is.
        clock: The reactor.

    Attributes:
        exit_code: How it ended.
        so_far: How far it came.
        error: Why it went no further, for people; ``""`` for nothing.
    """

    def __init__(
        self,
        sources: EventSources,
        instances_of: Callable[[type], Iterable[Any]],
        models: Sequence[type],
        batch: int,
        stop_timeout: float,
        bar: Bar,
        clock: Any,
    ) -> None:
        self.exit_code = 0
        self.so_far = SourcesProgress()
        self.error = ""
        self._sources = sources
        self._instances_of = instances_of
        self._models = models
        self._batch = batch
        self._stop_timeout = stop_timeout
        self._bar = bar
        self._clock = clock
        self._is_interrupted = False
        self._ended: Deferred[None] = Deferred()

    def start(self, end: Callable[[], None]) -> None:
        """Open the ledger, and begin."""
        run = Deferred.fromCoroutine(self._run())
        run.addErrback(self._failed)
        run.addCallback(lambda _: self._ended.callback(None))
        run.addCallback(lambda _: end())

    async def _run(self) -> None:
        await self._sources.start()
        self.so_far = await self._sources.process_sources(
            self._instances, self._models, batch=self._batch, progress=self._progressed
        )
        if self.so_far.failures:
            self.exit_code = FAILED

    def _instances(self, model: type) -> Iterator[Any]:
        """Give a model's instances until somebody interrupts; in a thread."""
        for instance in self._instances_of(model):
            if self._is_interrupted:
                return
            yield instance

    def _progressed(self, so_far: SourcesProgress) -> None:
        self._bar.advance(so_far.instances - self.so_far.instances)
        self.so_far = so_far

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self.exit_code = UNREACHABLE if failure.check(LedgerUnavailableError) else FAILED
        self.error = str(error) if isinstance(error, OniError) else repr(error)
        if not isinstance(error, OniError):
            failure.printTraceback(file=sys.stderr)

    def stop(self, by_signal: bool) -> Deferred[None]:
        """End after the batch that is under way, within a time limit, and close the ledger."""
        return Deferred.fromCoroutine(self._stop(by_signal))

    async def _stop(self, by_signal: bool) -> None:
        if by_signal and not self._ended.called:
            self.exit_code = INTERRUPTED
            self._is_interrupted = True
            ended: Deferred[None] = Deferred()
            self._ended.chainDeferred(ended)
            ended.addTimeout(self._stop_timeout / 2, self._clock)
            with suppress(DeferTimeoutError):
                await ended
        try:
            await self._sources.stop(self._stop_timeout / 2)
        except StopTimeoutError as error:
            self.exit_code = _GIVEN_UP
            self.error = f"handlers were given up: {error}"
