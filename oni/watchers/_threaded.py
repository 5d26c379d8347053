"""A watcher that is called in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import Any, Self

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oni._clock import Clock
from oni.dispatcher import settled
from oni.errors import NotNowError, NotRunningError
from oni.interfaces import IModelEventWatcher
from oni.watchers._configure import make_watcher

__all__ = ["CAPACITY", "ThreadedModelEventWatcher"]

CAPACITY = 1024
"""So many events wait for the thread, at most."""

_log = Logger()

_Call = tuple[Callable[[], Any], Deferred[Any]]


@implementer(IModelEventWatcher)
class ThreadedModelEventWatcher:
    """Calls another watcher, which may block, in one thread, event after event.

    The thread outlives whatever the watcher raises. It begins with the first event, and ends by
    :meth:`stop`, which the reactor calls when it has stopped: the process ends when the thread has
    done what waits for it, or when the time for that is over, though the watcher may hang. When
    too many wait, no more is taken: the Deferred fails with :class:`oni.errors.NotNowError`, and
    the event stays where it came from, a ledger for example.

    Events are given to it in the reactor's thread.

    Args:
        watcher: Is called in the thread. It may return nothing that has to be waited for.
        capacity: How many events may wait.
        reactor: Where its Deferreds fire; the global one when first needed.
    """

    def __init__(self, watcher: Any, capacity: int = CAPACITY, reactor: Any = None) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ValueError(f"capacity is a positive integer, not {capacity!r}")
        self.watcher = IModelEventWatcher(watcher)
        self._clock = Clock(reactor)
        self._capacity = capacity
        self._calls: Queue[_Call | None] = Queue(capacity)
        self._lock = Lock()  # held while a thread begins or ends
        self._thread: Thread | None = None
        self._is_full = False
        self._stops_with_reactor = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], task_name: str) -> Self:
        """Make one around the watcher, or watchers, that ``TASK.threadedmodelwatcher`` names.

        Raises:
            WatcherNameError: The settings name none there.
        """
        return cls(make_watcher(settings, task_name, "threadedmodelwatcher"))

    # --- What it hears

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[Any]:
        """Let the thread do it. The Deferred fires when the watcher has returned."""
        return self._put(lambda: self.watcher.created(model, id, details))

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[Any]:
        """Let the thread do it. The Deferred fires when the watcher has returned."""
        return self._put(lambda: self.watcher.modified(model, id, details))

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Deferred[Any]:
        """Let the thread do it. The Deferred fires when the watcher has returned."""
        return self._put(lambda: self.watcher.deleted(model, id, details))

    @property
    def waiting(self) -> int:
        """How many events wait for the thread."""
        return self._calls.qsize()

    def _put(self, call: Callable[[], Any]) -> Deferred[Any]:
        self._begin()
        done: Deferred[Any] = Deferred()
        try:
            self._calls.put_nowait((call, done))
        except Full:
            if not self._is_full:
                self._is_full = True
                _log.warn(
                    "A watcher's thread is behind: {waiting} events wait for it, and no more is "
                    "taken. What a ledger has brought stays there",
                    waiting=self._capacity,
                )
            reason = f"{self._capacity} events wait for it"
            return fail(NotNowError("a watcher's thread", reason))
        return done

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(
                    target=self._live, args=(self._calls,), name="oni-watcher", daemon=True
                )
                self._thread.start()
                self._stop_with_reactor()

    def _stop_with_reactor(self) -> None:
        """Let the reactor stop it: of one that settings have made nobody else may know.

        It does so at its very end. Event sources stop before, and wait for what they have told it.
        """
        reactor = self._clock.reactor
        if not self._stops_with_reactor and IReactorCore.providedBy(reactor):
            self._stops_with_reactor = True
            reactor.addSystemEventTrigger("after", "shutdown", self.stop)

    # --- The thread

    def _live(self, calls: Queue[_Call | None]) -> None:
        while (found := calls.get()) is not None:
            call, done = found
            self._is_full = False
            try:
                result: Any = settled(call(), "a watcher in a thread of its own")
            except BaseException:  # noqa: BLE001 - also SystemExit: the thread goes on
                result = Failure()
            self._clock.reactor.callFromThread(done.callback, result)  # a Failure: an errback

    # --- The end

    def stop(self, timeout: float | None = 10.0) -> Deferred[int]:
        """Take nothing more, and let the thread do what waits for it.

        Args:
            timeout: Seconds after which it is given up. None: wait for it.

        Returns:
            A Deferred that fires with how many events were given up, when the thread has ended,
            or when the time is over. Those fail with :class:`oni.errors.NotRunningError`. An
            event after that begins a new thread.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            calls, self._calls = self._calls, Queue(self._capacity)
        ended: Deferred[int] = Deferred()
        if thread is None:
            ended.callback(0)
            return ended
        # No daemon: the process waits for it, and by it for the other one, but not for ever.
        Thread(target=self._end, args=(thread, calls, timeout, ended), daemon=False).start()
        return ended

    def _end(
        self, thread: Thread, calls: Queue[_Call | None], timeout: float | None, ended: Any
    ) -> None:
        """Wait for the thread's end, in another one."""
        end = None if timeout is None else time.monotonic() + timeout
        with suppress(Full):  # then it hangs
            calls.put(None, timeout=timeout)
        thread.join(None if end is None else max(0.0, end - time.monotonic()))
        given_up = _rest(calls)
        calls.put(None)  # whenever it comes back, it ends
        if given_up:
            _log.warn("A watcher's thread was given up, with {n} events", n=len(given_up))
        for _, done in given_up:
            failure = Failure(NotRunningError("the watcher's thread has stopped"))
            self._clock.reactor.callFromThread(done.errback, failure)
        self._clock.reactor.callFromThread(ended.callback, len(given_up))


def _rest(calls: Queue[_Call | None]) -> list[_Call]:
    rest: list[_Call] = []
    while True:
        try:
            found = calls.get_nowait()
        except Empty:
            return rest
        if found is not None:
            rest.append(found)
