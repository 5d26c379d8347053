"""Events that a project processes by itself, beside those of what it saves. Calls block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from django.db.models import Model
from twisted.logger import Logger

from oni.sources import SourcesProgress, model_name
from oni.sources.django._hand_over import hand_over
from oni.sources.django._home import home, refuse_reactor_thread
from oni.sources.django._instances import Instances
from oni.values import Event, LedgerRecord

__all__ = ["only_new_events", "process_events", "process_models"]

_log = Logger()


def only_new_events(events: Iterable[Event]) -> Sequence[Event]:
    """Admit events, and give those whose key was not known: nobody else is given these.

    Handlers are found for them from then on; :func:`process_events` waits for that. In a
    transaction they are admitted within it, and delivered after its commit. Where they go through
    an outbox nobody knows yet which are new, and all of them are given.

    Args:
        events: They are asked for in this thread, and cross over to the reactor's all at once.

    Raises:
        ReactorThreadError: This is the reactor's thread.
    """
    refuse_reactor_thread()
    alias = _place()
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
    alias = _place()
    if alias is None:
        return home.face().process_events(events)
    hand_over(alias, events)
    return []


def process_models(
    models: Iterable[type[Model]] | None = None,
    *,
    using: str | None = None,
    batch: int = 500,
    progress: Callable[[SourcesProgress], object] | None = None,
) -> SourcesProgress:
    """Let every instance of models go through all sources of theirs, and process the events.

    An instance with which a source fails is logged, counted and passed over.

    Args:
        models: The models; None: all of :data:`oni.sources.django.api.MODEL_SOURCES`.
        using: The database's alias; None: as the project's routers say.
        batch: So many instances are read at once, and their events processed together.
        progress: Is told how far it is, after each batch.

    Returns:
        How far it came.
    """
    instances = Instances(using, batch)
    so_far = SourcesProgress()
    for model in list(home.sources.model_sources) if models is None else models:
        for some in instances.batches(model):
            found = [_events_of(instance) for instance in some]
            events = [event for each in found if each is not None for event in each]
            new = only_new_events(events)
            process_events(new)
            so_far = SourcesProgress(
                model=model_name(model),
                instances=so_far.instances + len(some),
                events=so_far.events + len(events),
                admitted=so_far.admitted + len(new),
                failures=so_far.failures + found.count(None),
            )
            if progress is not None:
                progress(so_far)
    return so_far


def _events_of(instance: Model) -> Sequence[Event] | None:
    """Give what an instance's sources yield, or None where one fails."""
    try:
        return home.sources.model_events(instance)
    except Exception:  # noqa: BLE001 - one row must not keep all others from their turn
        _log.failure(
            "A source failed with an instance of {model}", model=model_name(type(instance))
        )
        return None


def _place() -> str | None:
    """Give the alias of the database in which events are admitted in this thread, if any."""
    alias = home.transaction()
    if alias is None and not home.sources.delivers and not home.settings.is_own_ledger:
        return home.settings.ledger
    return alias
