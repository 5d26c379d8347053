"""Events that a project processes by itself, beside those of what it saves. Calls block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from django.db.models import Model

from oni.sources.django._hand_over import hand_over
from oni.sources.django._home import home, refuse_reactor_thread
from oni.sources.django._instances import Instances
from oni.values import Event, LedgerRecord

__all__ = ["only_new_events", "process_events", "process_models"]


def only_new_events(events: Iterable[Event]) -> Sequence[Event]:
    """Admit events, and give those whose key was not known: nobody else is given these.

    Handlers are found for them from then on; :func:`process_events` waits for that. In a
    transaction they are admitted within it, and delivered after its commit.

    Args:
        events: They are asked for in this thread, and cross over to the reactor's all at once.

    Raises:
        ReactorThreadError: This is the reactor's thread.
    """
    refuse_reactor_thread()
    alias = _transaction()
    if alias is None:
        return home.face().only_new_events(events)
    return [each for each, admission in hand_over(alias, events) if admission == "admitted"]


def process_events(events: Iterable[Event]) -> Sequence[LedgerRecord]:
    """Admit events that are not yet, and wait until their handlers have run, here or elsewhere.

    Nothing is waited for where that cannot be: in a transaction, whose commit comes first, and
    where ``ONI["deliver"]`` is ``"worker"``. They are admitted then, and delivered later.

    Args:
        events: As for :func:`only_new_events`.

    Returns:
        What the ledger knows of each; nothing in a transaction or where workers deliver.

    Raises:
        ReactorThreadError: This is the reactor's thread.
    """
    refuse_reactor_thread()
    alias = _transaction()
    if alias is None:
        return home.face().process_events(events)
    hand_over(alias, events)
    return []


def process_models(
    models: Iterable[type[Model]] | None = None,
    *,
    using: str | None = None,
    batch: int = 500,
    progress: Callable[[type[Model], int, int], object] | None = None,
) -> Mapping[Literal["instances", "events", "new"], int]:
    """Let every instance of models go through all sources of theirs, and process the events.

    Args:
        models: The models; None: all of :data:`oni.sources.django.api.MODEL_SOURCES`.
        using: The database's alias; None: as the project's routers say.
        batch: So many instances are read at once, and their events processed together.
        progress: Is called after each batch: the model, how many of its instances are done, and
            how many there are.

    Returns:
        How many instances there were, how many events, and how many of these were new.
    """
    instances = Instances(using, batch)
    counted: dict[Literal["instances", "events", "new"], int]
    counted = {"instances": 0, "events": 0, "new": 0}
    for model in list(home.sources.model_sources) if models is None else models:
        total, done = instances.count(model), 0
        for some in instances.batches(model):
            events = [each for instance in some for each in home.sources.model_events(instance)]
            new = only_new_events(events)
            process_events(new)
            done += len(some)
            counted["events"] += len(events)
            counted["new"] += len(new)
            if progress is not None:
                progress(model, done, total)
        counted["instances"] += done
    return counted


def _transaction() -> str | None:
    """Give the alias of the database in whose transaction events are admitted here, if so."""
    alias = home.transaction()
    if alias is None and not home.sources.delivers and not home.settings.is_own_ledger:
        return home.settings.ledger
    return alias
