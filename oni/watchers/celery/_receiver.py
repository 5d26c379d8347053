"""What a worker of Celery's does with the messages of a sender."""

from __future__ import annotations

import inspect
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NoReturn, Self, cast
from weakref import WeakSet

from celery.exceptions import Reject, WorkerShutdown, WorkerTerminate
from celery.signals import worker_ready
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.blocking import setup
from oni.errors import NotNowError, UnreadableMessageError
from oni.interfaces import ILedger, IModelEventWatcher
from oni.ledger import Ledger, store_for
from oni.watchers._base import PassingOn
from oni.watchers._configure import make_watcher
from oni.watchers._watch import parts_of
from oni.watchers.celery._apps import (
    BROKER,
    app_for,
    own_settings,
    prepare_worker,
    read_address,
    read_seconds,
    read_truth,
    settings_of,
)
from oni.watchers.celery._inbox import Inbox, NotYetError, in_reactor
from oni.watchers.celery._lost import LostAndFound
from oni.watchers.celery._messages import Heard, NewerMessageError, read
from oni.watchers.celery._post import TASK, Post

__all__ = ["LONGEST_DELAY", "VISIBILITY_TIMEOUT", "ModelEventWatcherCeleryReceiver"]

_log = Logger()

LONGEST_DELAY = 60.0
"""Seconds from one attempt to the next, at most."""

VISIBILITY_TIMEOUT = 300.0
"""Seconds after which Redis gives what a worker has not ended to another one."""

_OF_KOMBU = 3600.0  # seconds, where its user has taken away what was said

_MOMENT = 1.0  # seconds, before what cannot be sent again is given back

_SIGNALLED = range(-255, -128)  # what a child of Celery's pool exits with when it gets a signal

_taken: WeakSet[Any] = WeakSet()  # apps that have a receiver


class ModelEventWatcherCeleryReceiver(PassingOn):
    """Lets a worker of Celery's call a watcher for each message of a sender.

    It adds a task to a Celery app, whose workers then deal with the messages:
    ``celery -A package.module:app worker``. A message is acknowledged when the watcher has
    succeeded. One that has failed is sent again, for later, until it succeeds. One whose worker
    was killed comes again by itself.

    With a ledger the watcher is not called again for what it has succeeded with, however often a
    message comes. Without one it may be.

    Called as a watcher, it passes on what it hears.

    Args:
        watcher: Is called in the worker's thread. What it returns is waited for; a coroutine or a
            Deferred in the reactor's thread, which is started then.
        app: A Celery app. None: one is made for ``broker``.
        broker: As for the sender.
        folder: As for the sender.
        queue: The queue of an app that is made here. Workers of one that is given take from the
            queues that they are told.
        ledger: Remembers which messages were dealt with: its address as
            :func:`oni.ledger.store_for` has it, or what makes one. Each process makes its own.
        transaction: Whether the watcher is called within the ledger's transaction that completes
            the message. It finds it as ``details["transaction"]``, and what it writes through that
            is kept together with that, once. It may return nothing that has to be waited for.
        name: What the ledger's deliveries are named after. None: the watcher's class.
        timeout: Seconds in which the broker must take what is sent again.
        visibility_timeout: Seconds after which Redis gives what a worker has not ended to another
            one. It is longer than the watcher ever needs. Other brokers notice by themselves.

    Raises:
        LedgerUrlError: The ledger's address is none.
        MissingExtraError: What that ledger, or a broker that is a Redis, needs is not installed.
        ValueError: ``transaction`` without a ledger, or the app has a receiver already; or as for
            the sender.
    """

    def __init__(
        self,
        watcher: Any,
        app: Any = None,
        *,
        broker: str | None = None,
        folder: str | None = None,
        queue: str | None = None,
        ledger: str | Callable[[], ILedger] | None = None,
        transaction: bool = False,
        name: str | None = None,
        timeout: float = 5.0,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
    ) -> None:
        if transaction and ledger is None:
            raise ValueError("the transaction is a ledger's: give one")
        self.watcher = IModelEventWatcher(watcher)
        self.app = app_for(app, broker, folder, queue)
        if self.app in _taken:
            raise ValueError(
                "this app has a receiver, and only one would be called: give that one a "
                "CompositeModelEventWatcher of all watchers"
            )
        prepare_worker(self.app, visibility_timeout)
        self._parts = _named_parts(self.watcher, name)
        self._inbox = None if ledger is None else Inbox(_maker(ledger), transaction)
        self._timeout = timeout
        # What waits longer in one worker Redis would give to a second one meanwhile.
        self._longest = min(LONGEST_DELAY, visibility_timeout / 2)
        self._posts = threading.local()
        self._failed_in = 0  # which process
        _taken.add(self.app)
        self.task = self.app.task(
            self._make_task(),
            name=TASK,
            bind=True,
            acks_late=True,
            reject_on_worker_lost=True,
            acks_on_failure=False,
            acks_on_timeout=False,
            ignore_result=True,
            shared=False,
        )
        worker_ready.connect(self._look_for_lost)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], task_name: str) -> Self:
        """Make one around the watcher, or watchers, that ``TASK.celerymodelwatcher`` names.

        Its other settings are ``TASK.celery.broker`` and the like. The ledger's deliveries are
        named after the task.

        Raises:
            SettingsError: Some of these are wrong.
            WatcherNameError: The settings name no watcher there.
        """
        found = own_settings(
            settings,
            task_name,
            {
                **BROKER,
                "ledger": read_address,
                "transaction": read_truth,
                "visibility_timeout": read_seconds,
            },
        )
        watcher = make_watcher(settings, task_name, "celerymodelwatcher")
        with settings_of(task_name):
            return cls(watcher, name=task_name, **found)

    # --- In a worker

    def _look_for_lost(self, sender: Any, **_: object) -> None:
        """Begin, in the main process of a worker, when it is ready."""
        if sender.app is not self.app:
            return
        options = self.app.conf.broker_transport_options
        LostAndFound(
            lambda: Post(self.app, self._timeout),
            self.app.amqp.queues.consume_from,
            # What another worker is busy with comes again by itself before that.
            2 * options.get("visibility_timeout", _OF_KOMBU),
        ).start()

    def _make_task(self) -> Callable[..., None]:
        def receive(
            task: Any,
            message: str,
            attempt: int = 1,
            token: str | None = None,
            queue: str | None = None,
        ) -> None:
            """Let the watcher deal with a message, which came from a queue."""
            self._set_up()
            self._receive(task, message, attempt, token, queue)

        return receive

    def _set_up(self) -> None:
        """Let what is logged go where the worker's log goes, and have a reactor."""
        try:
            setup()
        except Exception as error:  # noqa: BLE001 - it is told, and nothing is dropped
            if self._failed_in != os.getpid():
                self._failed_in = os.getpid()
                # Twisted's log is not heard then.
                logging.getLogger(__name__).critical(
                    "this worker can do nothing, and gives back all messages: %s", error
                )
            _give_back(error)

    def _receive(
        self,
        task: Any,
        message: str,
        attempt: int,
        token: str | None = None,
        queue: str | None = None,
    ) -> None:
        queue = queue or _queue_of(task)
        key = ""
        try:
            heard = read(message)
            key = heard.key
            kept = None if token is None else self._post().kept(queue)
            if kept is not None and not kept.is_current(key, cast(str, token)):
                return  # there is a later copy of it
            failures = self._handle(heard)
            if kept is not None and not failures:
                kept.forget(key)
        except UnreadableMessageError as error:
            _log.error(
                "A message cannot be read, and is dropped (task {id}): {error}",
                id=task.request.id,
                error=error,
            )
            raise Reject(error, requeue=False) from error
        except NewerMessageError as error:
            key, failures = error.key, [error]
        except Exception as error:  # noqa: BLE001 - it is tried again, whatever it is
            failures = [error]
        if failures:
            delay = self._delay(attempt)
            self._log_failures(key, attempt, failures, delay)
            self._again(key, queue, message, attempt, delay)

    def _handle(self, heard: Heard) -> list[Any]:
        parts = {name: partial(self._call, part, heard) for name, part in self._parts.items()}
        if self._inbox is not None:
            return list(self._inbox.handle(heard, parts))
        failures: list[Any] = []
        for call in parts.values():
            try:
                call(None)
            except Exception as error:  # noqa: BLE001 - the others are called all the same
                failures.append(error)
        return failures

    def _call(self, part: Any, heard: Heard, transaction: Any) -> None:
        details = {**heard.details, "key": heard.key}
        if transaction is not None:
            details["transaction"] = transaction
        try:
            result = getattr(part, heard.action)(heard.model, heard.id, details)
            _settle(result, can_wait=transaction is None)
        except Exception:
            raise
        except BaseException as error:
            if _is_end(error):
                raise
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def _post(self) -> Post:
        """Give this thread's connection to the broker."""
        post: Post | None = getattr(self._posts, "mine", None)
        if post is None:
            post = self._posts.mine = Post(self.app, self._timeout)
        return post

    def _again(
        self, key: str, queue: str | None, message: str, attempt: int, delay: float
    ) -> None:
        """Send it again, for later; it is acknowledged then."""
        try:
            self._post().send(message, key, attempt=attempt + 1, countdown=delay, queue=queue)
        except Exception as error:  # noqa: BLE001 - whatever it is, the broker still has it
            _give_back(error)

    def _delay(self, attempt: int) -> float:
        delay = min(self._longest, 2.0 ** min(attempt - 1, 20)) * (0.5 + random.random() / 2)
        return max(1.0, delay)  # a broker that waits itself knows whole seconds

    def _log_failures(self, key: str, attempt: int, failures: list[Any], delay: float) -> None:
        told = [error for error in failures if not isinstance(error, NotNowError | NotYetError)]
        said = (
            "A watcher has failed with {key} in attempt {attempt}, and is called again in "
            "{delay:.0f} s: {error}"
        )
        for error in told:
            words: dict[str, Any] = {
                "key": key,
                "attempt": attempt,
                "delay": delay,
                "error": f"{type(error).__name__}: {error}",
            }
            if attempt == 1:
                _log.failure(said, failure=Failure(error), **words)
            else:
                _log.warn(said, **words)


def _queue_of(task: Any) -> str | None:
    """Say from which queue a task came that another program has sent; None: it cannot be told."""
    delivery = task.request.delivery_info or {}
    return None if delivery.get("exchange") else delivery.get("routing_key")


def _is_end(error: BaseException) -> bool:
    """Say whether this is no watcher's failure, but the end of the worker, or of this process."""
    if isinstance(error, SystemExit) and error.code in _SIGNALLED:
        return True
    return isinstance(error, WorkerShutdown | WorkerTerminate | KeyboardInterrupt)


def _give_back(error: Exception) -> NoReturn:
    """Let the broker give a message to somebody else."""
    time.sleep(_MOMENT)  # else it would come again at once, and again
    raise Reject(error, requeue=True) from error


def _named_parts(watcher: Any, name: str | None) -> dict[str, Any]:
    """Give those that succeed and fail for themselves."""
    found: dict[str, Any] = {}
    for part, named in parts_of(watcher, name):
        if named in found:
            raise ValueError(f"two parts of the watcher are called {named!r}: say a name")
        found[named] = part
    return found


def _settle(result: Any, can_wait: bool) -> None:
    """Wait for what a watcher returned."""
    if isinstance(result, Deferred) and result.called and not result.paused:
        ended: list[Any] = []
        result.addBoth(ended.append)
        if ended:
            if isinstance(ended[0], Failure):
                ended[0].raiseException()
            return
    if isinstance(result, Deferred) or inspect.isawaitable(result):
        if not can_wait:
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                "a watcher within a transaction has returned what must be waited for: "
                f"{type(result).__name__}"
            )
        waited: Deferred[Any] | Awaitable[Any] = result
        in_reactor(lambda: waited)


def _maker(ledger: str | Callable[[], ILedger]) -> Callable[[], ILedger]:
    if not isinstance(ledger, str):
        return ledger
    url = ledger
    store_for(url)  # what is wrong with it is said now
    return lambda: Ledger(store_for(url))
