"""A watcher that is called directly: by the thread that has committed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Self

from oni.errors import InvalidHandlerError
from oni.interfaces import IModelEventWatcher
from oni.watchers._base import CompositeModelEventWatcher, PassingOn
from oni.watchers._configure import make_watcher
from oni.watchers._threaded import ThreadedModelEventWatcher

__all__ = ["DirectModelEventWatcher"]


class DirectModelEventWatcher(PassingOn):
    """Lets another watcher be called in the thread that made a change, right after its commit.

    That thread goes on when the watcher has returned. No ledger is needed, and nothing is kept:
    what the watcher raises is logged, and neither told to whoever has committed nor tried again;
    a process that dies between the commit and the call has not called it. Of several watchers
    each is called whatever becomes of the others.

    :func:`oni.watchers.watch_models` knows it, and asks the event sources for this; called by
    itself it only passes on what it hears.

    Args:
        watcher: Is called, by several threads at once where several commit. It returns nothing
            that would have to be waited for.

    Raises:
        InvalidHandlerError: The watcher is one that has to be waited for.
    """

    def __init__(self, watcher: Any) -> None:
        self.watcher = IModelEventWatcher(watcher)
        _check(self.watcher)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], task_name: str) -> Self:
        """Make one around the watcher, or watchers, that ``TASK.directmodelwatcher`` names.

        Raises:
            WatcherNameError: The settings name none there.
        """
        return cls(make_watcher(settings, task_name, "directmodelwatcher"))


def _check(watcher: Any) -> None:
    """Refuse what nobody would wait for."""
    if type(watcher) is CompositeModelEventWatcher:
        for part in watcher.watchers:
            _check(part)
        return
    methods = (watcher.created, watcher.modified, watcher.deleted)
    if isinstance(watcher, ThreadedModelEventWatcher) or any(
        inspect.iscoroutinefunction(method) for method in methods
    ):
        raise InvalidHandlerError(
            watcher,
            "it has to be waited for, and nobody waits for what is called directly; let a ledger "
            "bring it the changes",
        )
