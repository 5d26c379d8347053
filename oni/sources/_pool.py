"""Threads for handlers that block: a few of our own, of which those that hang are replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.errors import NotRunningError

__all__ = ["Pool", "RunsElsewhere", "give_back"]

_log = Logger()


class RunsElsewhere(Protocol):
    """What runs functions somewhere. Everything is called in the reactor's thread."""

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing can run any more; see :attr:`Pool.is_exhausted`."""

    def run(
        self, name: str, function: Callable[[], Any], begun: Callable[[], object] | None = None
    ) -> Deferred[Any]:
        """Run a function; see :meth:`Pool.run`."""

    def stop(self) -> None:
        """Run nothing more; see :meth:`Pool.stop`."""

    def statistics(self) -> dict[str, int]:
        """Give the numbers; see :meth:`Pool.statistics`."""


class Pool:
    """So many threads at most. Calls that wait for one take turns by name.

    The threads do not keep the process from ending. A call that was given up goes on in its
    thread, which nothing can stop: it is lost, and another takes its place, up to a bound.

    Everything here is called in the reactor's thread.

    Args:
        size: How many threads there may be.
        most_lost: So many lost ones are replaced.
        call_from_thread: Runs a function in the reactor's thread, called in any other.
        after: Is called in the thread after each call: to give back what belongs to a thread.
        exhausted: Is called when a thread is lost that is not replaced any more.
    """

    def __init__(
        self,
        size: int,
        most_lost: int,
        call_from_thread: Callable[..., object],
        after: Callable[[], object] | None = None,
        exhausted: Callable[[], object] | None = None,
    ) -> None:
        self._size = size
        self._most_lost = most_lost
        self._call_from_thread = call_from_thread
        self._after = after
        self._exhausted = exhausted
        self._idle: list[_Worker] = []
        self._threads = 0  # without those that are lost
        self._lost = 0
        self._made = 0
        self._waiting: dict[str, deque[_Call]] = {}
        self._stopped = False

    @property
    def is_exhausted(self) -> bool:
        """Whether all threads are lost, and none is made until one of them has come to its end."""
        return self._most() <= 0

    def _most(self) -> int:
        return self._size - max(0, self._lost - self._most_lost)

    def run(
        self, name: str, function: Callable[[], Any], begun: Callable[[], object] | None = None
    ) -> Deferred[Any]:
        """Run a function in one of the threads, in a copy of this context.

        Args:
            name: Calls of the same name wait behind each other, and not behind others.
            function: What is run.
            begun: Is called, in the reactor's thread, when a thread takes it.

        Returns:
            A Deferred that fires in the reactor's thread with what the function gave. Cancelling
            it takes the call out, or gives it up. What waits is cancelled when the last thread is
            lost, and fails when the system gives no thread at all.
        """
        call = _Call(name, function, copy_context(), begun)
        call.done = Deferred(lambda _: self._give_up(call))
        if self._stopped:
            call.done.errback(NotRunningError("the threads for handlers have stopped"))
        else:
            self._waiting.setdefault(name, deque()).append(call)
            self._hand_out()
        return call.done

    def stop(self) -> None:
        """Run nothing more. What runs is left alone, what waits is cancelled."""
        self._stopped = True
        for call in self._all_waiting():
            call.done.cancel()
        while self._idle:
            self._idle.pop().calls.put(None)
            self._threads -= 1

    def statistics(self) -> dict[str, int]:
        """Give how many threads there are, lost ones, and calls that wait."""
        return {
            "threads": self._threads,
            "threads_busy": self._threads - len(self._idle),
            "threads_lost": self._lost,
            "threads_waited_for": sum(map(len, self._waiting.values())),
        }

    # --- Who is next

    def _hand_out(self) -> None:
        """Give calls to threads, as long as there are both."""
        while self._waiting:
            try:
                worker = self._free()
            except RuntimeError:  # the system gives none, and nobody is there to wait for
                self._next().done.errback(Failure())
                continue
            if worker is None:
                return
            call = self._next()
            call.worker = worker
            worker.calls.put(call)
            if call.begun is not None:
                call.begun()

    def _next(self) -> _Call:
        """Take out the call whose turn it is."""
        name = next(iter(self._waiting))
        calls = self._waiting.pop(name)
        call = calls.popleft()
        if calls:
            self._waiting[name] = calls  # behind all others
        return call

    def _free(self) -> _Worker | None:
        if self._idle:
            return self._idle.pop()
        if self._threads >= self._most():
            return None
        name = f"oni-sources-{self._made + 1}"
        try:
            worker = _Worker(name, self._ended, self._call_from_thread, self._after)
        except RuntimeError:
            if self._threads:
                return None
            raise
        self._threads += 1
        self._made += 1
        return worker

    def _all_waiting(self) -> list[_Call]:
        return [call for calls in self._waiting.values() for call in calls]

    # --- What comes of it

    def _give_up(self, call: _Call) -> None:
        if call.worker is None:
            calls = self._waiting[call.name]
            calls.remove(call)
            if not calls:
                del self._waiting[call.name]
            return
        call.is_lost = True
        self._threads -= 1
        self._lost += 1
        if self._lost <= self._most_lost:
            _log.warn("A thread is lost: {name} was given up in it, and goes on", name=call.name)
        else:
            _log.error(
                "{lost} threads are lost, and no more are replaced: {name} was given up in the "
                "last one. This process should be started again",
                lost=self._lost,
                name=call.name,
            )
            if self._exhausted is not None:
                self._exhausted()
        if self.is_exhausted:
            for each in self._all_waiting():
                each.done.cancel()
        self._hand_out()

    def _ended(self, worker: _Worker, call: _Call, result: Any) -> None:
        if call.is_lost:
            self._lost -= 1
            worker.calls.put(None)
            _log.info("A lost thread has come to its end: {name}", name=call.name)
        elif self._stopped:
            self._threads -= 1
            worker.calls.put(None)
        else:
            self._idle.append(worker)
        if not call.done.called:
            call.done.callback(result)  # a Failure is an errback
        elif isinstance(result, Failure):
            _log.failure("{name} failed after it was given up", failure=result, name=call.name)
        self._hand_out()


class _Call:
    """Something to run."""

    __slots__ = ("begun", "context", "done", "function", "is_lost", "name", "worker")

    done: Deferred[Any]

    def __init__(
        self,
        name: str,
        function: Callable[[], Any],
        context: Context,
        begun: Callable[[], object] | None,
    ) -> None:
        self.name = name
        self.function = function
        self.context = context
        self.begun = begun
        self.worker: _Worker | None = None
        self.is_lost = False


class _Worker:
    """A thread, and what it is given to run."""

    def __init__(
        self,
        name: str,
        ended: Callable[[_Worker, _Call, Any], object],
        call_from_thread: Callable[..., object],
        after: Callable[[], object] | None,
    ) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended = ended
        self._call_from_thread = call_from_thread
        self._after = after
        Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            try:
                result: Any = call.context.run(call.function)
            except BaseException:  # noqa: BLE001 - whoever waits for it is told
                result = Failure()
            give_back(self._after)
            self._call_from_thread(self._ended, self, call, result)
            del call, result


def give_back(after: Callable[[], object] | None) -> None:
    """Give back what belongs to the thread that this is called in."""
    try:
        if after is not None:
            after()
    except BaseException:  # noqa: BLE001 - the next call may have nothing to do with it
        _log.failure("What belongs to a thread could not be given back")
