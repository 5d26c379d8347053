"""A few threads of the ledger's own, in which it works with its database."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Literal, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import LedgerBusyError, NotRunningError

__all__ = ["RunsElsewhere", "Threads"]

_log = Logger()


class RunsElsewhere(Protocol):
    """What runs a function somewhere, and tells what came of it in the reactor's thread."""

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run a function."""

    def stop(self) -> Deferred[None]:
        """Take no more, and fire when everything taken has been run."""


class _Call:
    """A function that waits for a thread, or is in one.

    Args:
        function: What is called.
    """

    __slots__ = ("done", "function", "is_lost", "is_unwanted", "state")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done: Deferred[Any]
        self.state: Literal["waiting", "running", "over"] = "waiting"
        self.is_lost = False
        self.is_unwanted = False


class Threads:
    """So many threads at most, and so many calls that wait for one. All in the reactor's thread.

    The threads do not keep the process from ending. A call that was cancelled while it ran goes on
    in its thread, which nothing can stop: that thread is lost, and another one takes its place, as
    often as there are threads.

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
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = Lock()
        self._made = 0
        self._threads = 0  # those that are not lost
        self._lost = 0
        self._under_way = 0
        self._unwanted = 0  # of those under way: nobody waits for them, and they are not lost
        self._stopped: Deferred[None] | None = None

    @property
    def under_way(self) -> int:
        """How many calls wait or run, those aside whose threads are lost."""
        return self._under_way

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run a function in one of the threads.

        Returns:
            A Deferred that fires in the reactor's thread with what the function gave. It fails
            with :class:`oni.errors.LedgerBusyError` when too many wait, and with
            :class:`oni.errors.NotRunningError` after :meth:`stop`. Cancelling it keeps the
            function from being called, or forgets the answer.
        """
        call = _Call(function)
        done: Deferred[Any] = Deferred(lambda _: self._give_up(call))
        call.done = done
        if self._stopped is not None:
            done.errback(NotRunningError("the ledger has stopped"))
        elif self._under_way >= self._limit:
            done.errback(LedgerBusyError(self._limit))
        else:
            self._under_way += 1
            self._calls.put(call)
            self._make_thread()
        return done

    def _make_thread(self) -> None:
        """Make one more, if there may be one and it has something to do."""
        if self._threads < min(self._size, self._under_way):
            self._threads += 1
            self._made += 1
            name = f"{self._name}-{self._made}"
            Thread(target=self._work, name=name, daemon=True).start()

    def _give_up(self, call: _Call) -> None:
        """Let a call not begin; or, if it has begun, let it be alone with its thread."""
        with self._lock:
            is_running = call.state == "running"
            call.is_lost = is_running and self._lost < self._size
            if call.state == "waiting":
                call.state = "over"
        if is_running and not call.is_lost:
            call.is_unwanted = True
            self._unwanted += 1
            self._see_end()
        if not call.is_lost:
            return
        self._lost += 1
        self._threads -= 1
        self._under_way -= 1
        _log.warn(
            "A call to the ledger's database hangs, and its thread is lost ({lost} of {size})",
            lost=self._lost,
            size=self._size,
        )
        self._make_thread()
        self._see_end()

    def stop(self) -> Deferred[None]:
        """Take no more calls, and end the threads when those taken have been run.

        What was cancelled is not waited for.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            for _ in range(self._threads):
                self._calls.put(None)
            self._see_end()
        done: Deferred[None] = Deferred()
        self._stopped.addCallback(_tell, done)
        return done

    def _see_end(self) -> None:
        is_over = self._under_way == self._unwanted
        if self._stopped is not None and is_over and not self._stopped.called:
            self._stopped.callback(None)

    def _work(self) -> None:
        """Live as a thread."""
        while (call := self._calls.get()) is not None:
            result: Any = None
            if self._begins(call):
                try:
                    result = call.function()
                except BaseException:  # noqa: BLE001 - whoever waits for the answer is told
                    result = Failure()
            with self._lock:
                is_lost, call.state = call.is_lost, "over"
            self._call_from_thread(self._answer, call, result, is_lost)
            if is_lost:
                return

    def _begins(self, call: _Call) -> bool:
        with self._lock:
            if call.state == "over":
                return False
            call.state = "running"
            return True

    def _answer(self, call: _Call, result: Any, was_lost: bool) -> None:
        """Tell in the reactor's thread what came of a call."""
        if was_lost:
            self._lost -= 1
            return
        self._under_way -= 1
        self._unwanted -= call.is_unwanted
        if not call.done.called:
            call.done.callback(result)  # a Failure is an errback
        self._see_end()


def _tell(result: None, done: Deferred[None]) -> None:
    done.callback(None)
