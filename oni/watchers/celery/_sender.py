"""A watcher that tells a worker, by a message over a broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from uuid import uuid4

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from oni._clock import Clock
from oni.interfaces import IModelEventWatcher
from oni.watchers.celery._apps import BROKER, app_for, own_settings, settings_of
from oni.watchers.celery._messages import Action, Heard, write
from oni.watchers.celery._outgoing import Outgoing
from oni.watchers.celery._post import Post

__all__ = ["CAPACITY", "TIMEOUT", "ModelEventWatcherCelerySender"]

CAPACITY = 1024
"""So many messages wait to be sent, at most."""

TIMEOUT = 5.0
"""Seconds in which the broker has to confirm a message."""


@implementer(IModelEventWatcher)
class ModelEventWatcherCelerySender:
    """Sends what it hears to a :class:`ModelEventWatcherCeleryReceiver` in a worker of Celery's.

    It sends in a thread of its own: neither whoever commits nor the reactor waits for the broker.
    Any thread may tell it. The Deferreds fire when the broker has confirmed the message, and else
    fail with :class:`oni.errors.NotNowError`: the ledger that brought the event brings it again.
    The log says once that the broker is away, and once that it is back.

    Args:
        app: A Celery app. None: one is made for ``broker``.
        broker: The broker's address: ``redis://...``, ``amqp://...``, or any other that Celery
            knows. None, where no app is given either: files in ``folder``.
        folder: A folder for those who have no broker yet; ``oni-broker`` if none is said.
        queue: The queue. None: the app's own, ``oni`` in one that is made here.
        timeout: Seconds in which the broker must have confirmed a message.
        capacity: How many messages may wait to be sent.
        reactor: Where the Deferreds fire; the global one when first needed.

    Raises:
        MissingExtraError: The broker is a Redis, whose client is not installed.
        ValueError: More than one of app, broker and folder is given, or the address is none.
    """

    def __init__(
        self,
        app: Any = None,
        *,
        broker: str | None = None,
        folder: str | None = None,
        queue: str | None = None,
        timeout: float = TIMEOUT,
        capacity: int = CAPACITY,
        reactor: Any = None,
    ) -> None:
        self.app = app_for(app, broker, folder, queue)
        # A step of several may take the most of it, so that the thread ends by itself.
        self._outgoing = Outgoing(
            lambda: Post(self.app, 0.9 * timeout, queue), timeout, capacity, Clock(reactor)
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], task_name: str) -> Self:
        """Make one of a process's settings: ``<task_name>.celery.broker`` and the like.

        Raises:
            SettingsError: Some of them are wrong.
        """
        found = own_settings(settings, task_name, BROKER)
        with settings_of(task_name):
            return cls(**found)

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """Send it. See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._send("created", model, id, details)

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """Send it. See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._send("modified", model, id, details)

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[None]:
        """Send it. See :class:`oni.interfaces.IModelEventWatcher`."""
        return self._send("deleted", model, id, details)

    def _send(
        self, action: Action, model: str, id: Any, details: Mapping[str, Any]
    ) -> Deferred[None]:
        told = dict(details)
        key = told.pop("key", None) or uuid4().hex
        try:
            message = write(Heard(key, model, action, id, told))
        except TypeError:
            return fail()
        return self._outgoing.send(message, key)

    def statistics(self) -> Mapping[str, int]:
        """Give counters and gauges: ``sent``, ``refused``, ``waiting``, ``threads_lost``."""
        return self._outgoing.statistics()

    def stop(self) -> None:
        """Let the connection go. What waits to be sent fails, and stays in the ledger."""
        self._outgoing.stop()
