"""What a project registers: sources, handlers, watches and vetoes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from re import Pattern
from typing import Any

from django.db.models import Model

from oni.errors import WatchError
from oni.sources import EventSources
from oni.sources._models import Source
from oni.sources._sources import ACTIONS
from oni.sources.django._atomic import Veto
from oni.sources.django._home import home
from oni.sources.django._observe import run_sources_of, watch_model
from oni.sources.django._watched import Bulk, OldValues, concrete, make_watch, watched
from oni.values import ChangeAction, OnCrash

__all__ = [
    "MODEL_SOURCES",
    "event_sources",
    "register_change_handler",
    "register_group_handler",
    "register_model_event_source",
    "register_veto",
    "watch",
]


def event_sources() -> EventSources:
    """Give the project's event sources, for the reactor's thread and its Deferreds."""
    return home.sources


def register_group_handler(
    handler: Callable[..., Any],
    group: str | Pattern[str],
    *,
    phase: str = "during",
    times: int | None = None,
    on_crash: OnCrash = "retry",
    **options: Any,
) -> str:
    """Register a handler for events whose group fits a regular expression.

    A synchronous handler runs in one of ``ONI["threads"]`` threads, and its database connections
    are closed afterwards as after a request. A coroutine function, or what a Deferred stands for,
    runs in the reactor's thread, where nothing may block: the ORM cannot be used there.

    Args:
        handler: Is called with the event; with ``on_crash="transaction"`` with the event and the
            connection, within ``transaction.atomic`` of the ledger's database.
        group: Is searched in the event's group, anywhere in it.
        phase: The phase in which it is called.
        times: It is for so many events only.
        on_crash: What becomes of a delivery whose process dies.
        options: As for :meth:`oni.sources.EventSources.register_group_handler`: ``name``,
            ``timeout``, ``max_attempts``, ``threaded``.

    Returns:
        Its name in the ledger.
    """
    return home.sources.register_group_handler(
        group, handler, phase=phase, times=times, on_crash=on_crash, **options
    )


def register_model_event_source(sender: type[Model], source: Source) -> None:
    """Let each saved instance of a model go through a source.

    The events are admitted in the transaction that saves the instance: a rollback takes them
    back. Instances that fixtures bring are left out.

    Args:
        sender: The model. Instances of proxies, and of models that inherit from it, count, too.
        source: Is called with the instance, in the thread that saves it, and gives events. What
            it raises undoes the save.
    """
    home.sources.register_model_event_source(sender, source)
    run_sources_of(sender)


def register_change_handler(
    sender: type[Model],
    handler: Callable[..., Any],
    *,
    actions: Collection[ChangeAction] = ACTIONS,
    **options: Any,
) -> str:
    """Register a handler for what becomes of a model's rows.

    The model is watched from now on; :func:`watch` says how, before or after.

    Args:
        sender: The model.
        handler: Is called with an event whose context has a :class:`oni.values.ModelChange` as
            ``"change"``.
        actions: What it is called for.
        options: As for :func:`register_group_handler`.

    Returns:
        Its name in the ledger.
    """
    name = home.sources.register_change_handler(
        concrete(sender), handler, actions=actions, **options
    )
    if watched.get(sender) is None:
        watch(sender)
    return name


def watch(
    model: type[Model],
    *,
    columns: Collection[str] | None = None,
    bulk: Bulk = "strict",
    old: OldValues = "loaded",
) -> None:
    """Watch a model's rows, and say how.

    Args:
        model: The model, whose proxies are watched with it.
        columns: The fields whose values changes tell; None: all of them.
        bulk: What becomes of ``update()``, ``bulk_create()`` and ``bulk_update()`` where the
            manager is an :class:`oni.sources.django.OniManager`. ``"strict"``: they are refused.
            ``"coarse"``: one change says how many rows. ``"expand"``: one for each row, which are
            read before and after.
        old: Where old values come from. ``"loaded"``: what the instance was loaded with;
            :data:`oni.values.UNKNOWN` where it was not. ``"select"``: each save reads the row
            first.

    Raises:
        WatchError: The model cannot be watched so.
    """
    watch_model(make_watch(model, columns, old, bulk))


def register_veto(veto: Veto) -> None:
    """Ask a function before changes of watched models are kept. The second time nothing happens.

    Args:
        veto: Is called with the changes, in the thread that makes them: with one save's or
            delete's at once, with those of an :func:`oni.sources.django.atomic_events` block at
            its end. What it raises undoes them, and reaches whoever made them.
    """
    if not callable(veto):
        raise WatchError(f"{veto!r} cannot be asked: it cannot be called")
    if veto not in watched.vetoes:
        watched.vetoes.append(veto)


class _ModelSources(Mapping[type, tuple[Source, ...]]):
    """The sources of each model, as they are registered now."""

    def __getitem__(self, model: type) -> tuple[Source, ...]:
        """Give the sources of a model."""
        return home.sources.model_sources[model]

    def __iter__(self) -> Iterator[type]:
        """Give the models."""
        return iter(home.sources.model_sources)

    def __len__(self) -> int:
        """Count the models."""
        return len(home.sources.model_sources)

    def __repr__(self) -> str:
        """Show them."""
        return repr(home.sources.model_sources)


MODEL_SOURCES: Mapping[type, tuple[Source, ...]] = _ModelSources()
"""The sources of each model, by the model."""
