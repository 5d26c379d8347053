"""Watchers that say what they hear, that do nothing, and that pass it to others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oni.errors import WatchersFailedError
from oni.interfaces import IModelEventWatcher

__all__ = [
    "BaseModelEventWatcher",
    "CompositeModelEventWatcher",
    "NoopModelEventWatcher",
    "PassingOn",
]


@implementer(IModelEventWatcher)
class BaseModelEventWatcher:
    """Logs what it hears, and does nothing else. For a beginning, and to inherit from."""

    _log: ClassVar[Logger] = Logger(namespace="oni.watchers")

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        self._log.info("{model} {id!r} was created", model=model, id=id)

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        changed = ", ".join(sorted(details.get("changed", ())))
        self._log.info(
            "{model} {id!r} was modified: {changed}", model=model, id=id, changed=changed
        )

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """See :class:`oni.interfaces.IModelEventWatcher`."""
        self._log.info("{model} {id!r} was deleted", model=model, id=id)


@implementer(IModelEventWatcher)
class NoopModelEventWatcher:
    """Does nothing."""

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> None:
        """Do nothing."""

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> None:
        """Do nothing."""

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> None:
        """Do nothing."""


@implementer(IModelEventWatcher)
class PassingOn:
    """Passes what it hears on to one other watcher. To inherit from.

    Attributes:
        watcher: Who is told.
    """

    watcher: Any

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Pass it on."""
        return self.watcher.created(model, id, details)

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Pass it on."""
        return self.watcher.modified(model, id, details)

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Pass it on."""
        return self.watcher.deleted(model, id, details)


@implementer(IModelEventWatcher)
class CompositeModelEventWatcher:
    """Calls several watchers, each of them whatever becomes of the others.

    Where a ledger brings the events, :func:`oni.watchers.watch_models` lets each of them have
    deliveries of its own, so that one that fails is brought the event again, and no other.

    Args:
        watchers: Are called in this order.
    """

    def __init__(self, *watchers: Any) -> None:
        self.watchers = tuple(IModelEventWatcher(watcher) for watcher in watchers)

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """Tell all of them; the Deferred fails with :class:`oni.errors.WatchersFailedError`."""
        return self._tell("created", model, id, details)

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """Tell all of them; the Deferred fails with :class:`oni.errors.WatchersFailedError`."""
        return self._tell("modified", model, id, details)

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """Tell all of them; the Deferred fails with :class:`oni.errors.WatchersFailedError`."""
        return self._tell("deleted", model, id, details)

    def _tell(self, action: str, *arguments: Any) -> Deferred[None]:
        called = [maybeDeferred(getattr(watcher, action), *arguments) for watcher in self.watchers]
        return DeferredList(called, consumeErrors=True).addCallback(_raise_failures)


def _raise_failures(results: Any) -> None:
    failures = [result for _, result in results if isinstance(result, Failure)]
    if failures:
        raise WatchersFailedError(failures)
