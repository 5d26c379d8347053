"""Blocking handlers: called in a pool of threads of their own, not in the reactor's."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import Any
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from oni.errors import InvalidHandlerError, QueueFullError

__all__ = ["InThread", "ThreadLimit", "in_thread", "lost_threads"]

_log = Logger()

_pools: WeakSet[ThreadLimit] = WeakSet()


class ThreadLimit:
    """A bounded pool of threads with a bounded queue, started when first used.

    Its threads end when the reactor stops. One that still runs what was given up is lost: nothing
    can stop it. Up to so many are replaced as there are threads; with more of them calls wait.

    Args:
        threads: How many calls run at once at most.
        queue: How many more may wait for a thread. One more fails with
            :class:`oni.errors.QueueFullError`.
        reactor: Where results are handed over; the global one when first needed.
    """

    def __init__(self, threads: int = 10, queue: int = 1_000, reactor: Any = None) -> None:
        if threads < 1 or queue < 0:
            raise ValueError(f"at least one thread and no negative queue: {threads}, {queue}")
        self._reactor = reactor
        self._threads = threads
        self._queue = queue
        self._busy = 0
        self._lost = 0
        self._pool: ThreadPool | None = None
        _pools.add(self)

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call a function in one of the threads, in a copy of this context.

        Call this in the reactor's thread only.

        Returns:
            A Deferred that fires, in the reactor's thread, with what the function returned.
            Cancelling it ends the wait. A call that has not begun is not made then; one that has
            goes on, as a thread cannot be stopped, and its failure is logged.

        Raises:
            QueueFullError: Too many calls wait for a thread.
        """
        if self._busy >= self._threads + self._queue:
            raise QueueFullError("queue of the threads for blocking handlers", self._queue)
        pool = self._pool or self._start()
        self._busy += 1
        marks: set[str] = set()
        deferred: Deferred[Any] = Deferred(lambda _: self._give_up(marks))
        context = copy_context()

        def work() -> Any:  # called in the pool's thread
            if deferred.called:
                return None
            marks.add("begun")
            return context.run(_value, function, args)

        def ended(success: bool, result: Any) -> None:  # called in the pool's thread
            self._reactor.callFromThread(self._done, deferred, result, marks)

        pool.callInThreadWithCallback(ended, work)
        return deferred

    def _give_up(self, marks: set[str]) -> None:
        """Replace the thread, if the call has begun: it may never end."""
        if "begun" in marks:
            marks.add("lost")
            self._busy -= 1
            self._lost += 1
            _log.warn("a thread is lost: what it calls was given up, and goes on", lost=self._lost)
            self._fit()

    def _fit(self) -> None:
        """Have as many threads as there should be, besides the lost ones."""
        pool = self._pool
        if pool is not None:
            threads = self._threads + min(self._lost, self._threads)
            if threads > pool.max:
                # Only a pool that must have more threads gives them what waits already.
                pool.adjustPoolsize(min(pool.workers + 1, threads), threads)
            pool.adjustPoolsize(0, threads)

    def _done(self, deferred: Deferred[Any], result: Any, marks: set[str]) -> None:
        if "lost" in marks:
            self._lost -= 1
            self._fit()
        else:
            self._busy -= 1
        if not deferred.called:
            deferred.callback(result)
        elif isinstance(result, Failure):
            _log.failure("a blocking handler failed after it was given up", failure=result)

    def _start(self) -> ThreadPool:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = IReactorFromThreads(reactor)
        pool = self._pool = ThreadPool(0, self._threads, name="oni-handlers")
        pool.start()
        self._reactor.addSystemEventTrigger("during", "shutdown", pool.stop)
        return pool

    def statistics(self) -> dict[str, int]:
        """Give the numbers of running and waiting calls, of lost threads, and the limits."""
        return {
            "calls": self._busy,
            "lost": self._lost,
            "threads_max": self._threads,
            "queue_max": self._queue,
        }


def _value(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    value = function(*args)
    if isinstance(value, CoroutineType):
        value.close()
    elif not isinstance(value, Deferred):
        return value
    kind = type(value).__name__
    raise InvalidHandlerError(function, f"in a thread it must return a value, not a {kind}")


_shared = ThreadLimit()


def lost_threads() -> int:
    """Count the threads of blocking handlers that were given up and still run, of all pools."""
    return sum(pool.statistics()["lost"] for pool in tuple(_pools))


class InThread:
    """A handler that runs another function in a thread."""

    __slots__ = ("__weakref__", "function", "pool")

    def __init__(self, function: Callable[[Any], Any], pool: ThreadLimit) -> None:
        self.function = function
        self.pool = pool

    def __call__(self, event: Any, **more: Any) -> Deferred[Any]:
        """Call the function in a thread, in a copy of this context."""
        function = partial(self.function, **more) if more else self.function
        return self.pool.call(function, event)


def in_thread(function: Callable[[Any], Any], pool: ThreadLimit | None = None) -> InThread:
    """Make a handler of a function that blocks: it is called in a thread.

    Registered weakly, as handlers are by default, it lives as long as the function.

    Args:
        function: Is called with the event, in a copy of the context of the event.
        pool: Whose threads; those that all such handlers share, if None.

    Raises:
        InvalidHandlerError: The function cannot be called, or runs in a thread already.
    """
    if not callable(function):
        raise InvalidHandlerError(function, "it cannot be called")
    if isinstance(function, InThread):
        raise InvalidHandlerError(function, "it runs in a thread already")
    return InThread(function, pool or _shared)
