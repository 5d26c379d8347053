"""Lets watchers hear of models, by the hand-over of event sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from twisted.logger import Logger

from oni.interfaces import IEventSources, IModelEventWatcher
from oni.values import ChangeAction, Event, ModelChange, model_name
from oni.watchers._base import CompositeModelEventWatcher
from oni.watchers._configure import get_model_watcher
from oni.watchers._direct import DirectModelEventWatcher
from oni.watchers._methods import MethodModelEventWatcher

__all__ = ["details_of", "parts_of", "tell", "watch_models"]

_log = Logger()

_ACTIONS: tuple[ChangeAction, ...] = ("created", "modified", "deleted")

_ATTEMPTS = 1_000_000  # with five minutes between two of them, for ever


def watch_models(
    source: Any,
    models: Iterable[type | str],
    watcher: Any = None,
    *,
    name: str | None = None,
    **options: Any,
) -> Sequence[str]:
    """Let a watcher hear what becomes of the rows of models, after it was committed.

    The models have to be watched for the source, see :func:`oni.sources.sqlalchemy.watch` and
    :doc:`/how-to/django`. What is heard was kept in the transaction that did it, and is brought
    until the watcher has succeeded. Of a :class:`CompositeModelEventWatcher` each part succeeds
    and fails for itself. A :class:`DirectModelEventWatcher` is told by the thread that has
    committed, and by no ledger. A :class:`MethodModelEventWatcher` without any method for one of
    the models is named in the log.

    Args:
        source: The event sources, an :class:`oni.interfaces.IEventSources`.
        models: The models, or their names.
        watcher: Who hears. None: :func:`get_model_watcher`, asked for now.
        name: What the ledger's deliveries are named after; it has to stay the same. None: the
            watcher's class, or that of the object whose methods it calls.
        options: How the watcher is called, as for
            :meth:`oni.sources.EventSources.register_change_handler`: ``threaded=True`` for one
            that blocks, ``on_crash``, ``timeout``, ``phase``, and ``max_attempts``: if it is not
            said there is no end to them.

    Returns:
        The handlers' names in the ledger, which has none for what is told directly.
    """
    options.setdefault("max_attempts", _ATTEMPTS)
    sources = IEventSources(source)
    found = get_model_watcher() if watcher is None else IModelEventWatcher(watcher)
    names = []
    for model in dict.fromkeys(models):
        for part, named in parts_of(found, name):
            if isinstance(part, DirectModelEventWatcher):
                for direct, _ in parts_of(part.watcher, None):
                    _warn_if_deaf(direct, model)
                    sources.register_direct_handler(model, _Direct(direct), actions=_ACTIONS)
                continue
            _warn_if_deaf(part, model)
            handler = _Handler(part)
            names.append(
                sources.register_change_handler(
                    model,
                    handler,
                    actions=_ACTIONS,
                    name=f"{named}.{model_name(model)}",
                    **options,
                )
            )
    return names


def parts_of(watcher: Any, name: str | None) -> Iterator[tuple[Any, str]]:
    """Give those that succeed and fail for themselves, each with a name."""
    if type(watcher) is CompositeModelEventWatcher:
        for number, part in enumerate(watcher.watchers):
            yield from parts_of(part, f"{name}.{number}" if name else None)
    else:
        kind = type(watcher.target if isinstance(watcher, MethodModelEventWatcher) else watcher)
        yield watcher, name or f"{kind.__module__}.{kind.__qualname__}"


def _warn_if_deaf(watcher: Any, model: type | str) -> None:
    """Say where names have to agree, and do not: what is misspelt would never be called."""
    name = model_name(model)
    if isinstance(watcher, MethodModelEventWatcher) and not watcher.hears(name):
        _log.warn(
            "{watcher} hears of {model}, and has no method for it, as process{short}Created is",
            watcher=watcher,
            model=name,
            short=name.rpartition(".")[2],
        )


class _Handler:
    """What a ledger brings to a watcher."""

    def __init__(self, watcher: Any) -> None:
        self._watcher = watcher

    def __call__(self, event: Event) -> Any:
        return tell(self._watcher, event["context"]["change"], event.idempotency_key)


class _Direct:
    """What the thread that has committed tells a watcher."""

    def __init__(self, watcher: Any) -> None:
        self._watcher = watcher

    def __call__(self, change: ModelChange) -> Any:
        return tell(self._watcher, change)

    def __repr__(self) -> str:
        return repr(self._watcher)


def tell(watcher: Any, change: ModelChange, key: str = "") -> Any:
    """Tell a watcher of a change, with the key that its attempts have; give what it gives."""
    details = {**details_of(change), "key": key} if key else details_of(change)
    return getattr(watcher, change.action)(change.model, change.id, details)


def details_of(change: ModelChange) -> Mapping[str, Any]:
    """Give a change's details, as :class:`oni.interfaces.IModelEventWatcher` has them."""
    return {
        "new": change.new,
        "old": change.old,
        "changed": sorted(change.changed),
        "using": change.using,
    }
