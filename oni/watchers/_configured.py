"""Lets every watcher hear whose settings say of which models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oni.errors import WatcherNameError
from oni.watchers._configure import flat_settings, listed, make_model_watcher, tasks_of
from oni.watchers._direct import DirectModelEventWatcher
from oni.watchers._watch import watch_models

__all__ = ["watch_configured"]

_TRUTH = {"true": True, "yes": True, "on": True, "1": True} | dict.fromkeys(
    ("false", "no", "off", "0"), False
)


def watch_configured(source: Any, settings: Mapping[str, Any]) -> Sequence[str]:
    """Let the watchers hear whose settings name models, as :func:`watch_models` does.

    Of each process in the settings that has ``<task_name>.models`` the watcher is made that
    :func:`configure_model_watcher` would choose, and hears of these models; with
    ``<task_name>.threaded = true`` in a thread, as it may block. In TOML both are keys of its
    table. So a program that saves and one that delivers read the same settings, and agree on the
    names of deliveries: they begin with the process's.

    Args:
        source: The event sources, an :class:`oni.interfaces.IEventSources`.
        settings: As for :func:`configure_model_watcher`.

    Returns:
        The handlers' names in the ledger.

    Raises:
        WatcherNameError: The settings name what cannot be found, or is no watcher, or models and
            nobody who hears of them; or ``threaded`` is neither true nor false, or true of a
            :class:`DirectModelEventWatcher`.
    """
    said = flat_settings(settings)
    names: list[str] = []
    for task in tasks_of(settings):
        models = listed(said, f"{task}.models")
        if models:
            options = {"threaded": True} if _is_threaded(said, task) else {}
            watcher = make_model_watcher(task, settings)
            if options and isinstance(watcher, DirectModelEventWatcher):
                reason = "it is called by the thread that has committed, and in none of its own"
                raise WatcherNameError(f"{task}.threaded", reason)
            names += watch_models(source, models, watcher, name=task, **options)
    return names


def _is_threaded(settings: Mapping[str, Any], task: str) -> bool:
    value = settings.get(f"{task}.threaded", False)
    found = _TRUTH.get(str(value).lower())
    if found is None:
        raise WatcherNameError(f"{task}.threaded", f"it is true or false, not {value!r}")
    return found
