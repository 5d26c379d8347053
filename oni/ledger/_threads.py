"""A few threads of the ledger's own, in which it works with its database."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oni.errors import LedgerBusyError, NotRunningError

__all__ = ["RunsElsewhere", "Threads"]


class RunsElsewhere(Protocol):
    """What runs a function somewhere, and tells what came of it in the reactor's thread."""

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run a function."""

    def stop(self) -> Deferred[None]:
        """Take no more, and fire when everything taken has been run."""


class Threads:
    """So many threads at most, and so many calls that wait for one. All in the reactor's thread.

    The threads do not keep the process from ending: one that hangs, hangs alone.

    Args:
        name: What the threads are called.
        size: How many there may be.
        limit: How many calls may wait or run.
        call_from_thread: Runs a function in the reactor's thread, called in any other.
    """

    def __init__(
        self,
        name: str,
        size: int,
        limit: int,
        call_from_thread: Callable[..., object],
    ) -> None:
        self._name = name
        self._size = size
        self._limit = limit
        self._call_from_thread = call_from_thread
        self._calls: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._threads = 0
        self._under_way = 0
        self._stopped: Deferred[None] | None = None

    @property
    def under_way(self) -> int:
        """How many calls wait or run."""
        return self._under_way

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run a function in one of the threads.

        Returns:
            A Deferred that fires in the reactor's thread with what the function gave. It fails
            with :class:`oni.errors.LedgerBusyError` when too many wait, and with
            :class:`oni.errors.NotRunningError` after :meth:`stop`. Cancelling it forgets the
            answer; the function runs to its end.
        """
        done: Deferred[Any] = Deferred()
        if self._stopped is not None:
            done.errback(NotRunningError("the ledger has stopped"))
        elif self._under_way >= self._limit:
            done.errback(LedgerBusyError(self._limit))
        else:
            self._under_way += 1
            if self._threads < min(self._size, self._under_way):
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                Thread(target=self._work, name=name, daemon=True).start()
            self._calls.put((function, done))
        return done

    def stop(self) -> Deferred[None]:
        """Take no more calls, and end the threads when those taken have been run."""
        if self._stopped is None:
            self._stopped = Deferred()
            for _ in range(self._threads):
                self._calls.put(None)
            self._see_end()
        done: Deferred[None] = Deferred()
        self._stopped.addCallback(_tell, done)
        return done

    def _see_end(self) -> None:
        if self._stopped is not None and not self._under_way and not self._stopped.called:
            self._stopped.callback(None)

    def _work(self) -> None:
        """Live as a thread."""
        while (call := self._calls.get()) is not None:
            function, done = call
            try:
                result: Any = function()
            except BaseException:  # noqa: BLE001 - whoever waits for the answer is told
                result = Failure()
            self._call_from_thread(self._answer, done, result)

    def _answer(self, done: Deferred[Any], result: Any) -> None:
        """Tell in the reactor's thread what came of a call."""
        self._under_way -= 1
        done.callback(result)  # a Failure is an errback
        self._see_end()


def _tell(result: None, done: Deferred[None]) -> None:
    done.callback(None)
