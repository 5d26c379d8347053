"""The reactor's thread, as the other threads see it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from threading import Lock, Thread, current_thread, get_ident
from typing import Any, Protocol, cast

from twisted.python import threadable
from twisted.python.failure import Failure

from oni.blocking._call import Call
from oni.errors import CallTimeoutError, ForkedProcessError, NotRunningError, ReactorThreadError

__all__ = ["IsReactor", "ReactorThread", "reactor_thread", "setup"]

_FORKED = (
    "this process was forked after Twisted's reactor was made, and the reactor's thread stayed "
    "behind in process {parent}; nothing would ever answer here. Call oni.blocking.setup() in "
    "each process after the fork, never before: with gunicorn in the hook post_fork (or leave "
    "preload_app off); elsewhere start processes by 'spawn'"
)


class IsReactor(Protocol):
    """What is asked of a reactor."""

    running: bool

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        """Run a function in the reactor's thread, soon. In any thread."""

    def addSystemEventTrigger(
        self, phase: str, event_type: str, function: Callable[..., Any]
    ) -> Any:
        """Run a function when the reactor stops."""


class ReactorThread:
    """Hands calls over to the reactor's thread and waits for their answers.

    Each call crosses into that thread once; a call that is given up crosses a second time, to be
    cancelled. All methods may be used in any thread.
    """

    def __init__(self, start: Callable[[], Any], get_reactor: Callable[[], IsReactor]) -> None:
        """Know how to come by a running reactor.

        Args:
            start: Runs the reactor in a thread, the second time nothing: ``crochet.setup``.
            get_reactor: Gives the reactor; it is made at the first call.
        """
        self._start = start
        self._get_reactor = get_reactor
        self._lock = Lock()
        self._calls: set[Call] = set()
        self._pid: int | None = None
        self._watched = False
        self._stopped = False
        self._parent: int | None = None

    @property
    def reactor(self) -> Any:
        """The reactor."""
        return self._get_reactor()

    def setup(self) -> None:
        """Run the reactor in a thread, if it does not run yet. The second time nothing happens.

        Raises:
            ForkedProcessError: The reactor belongs to the process that this one was forked from.
        """
        if not self._is_ours():
            if self._get_reactor().running:
                self._adopt()
            else:
                self._start()
                self._pid = os.getpid()

    def forked(self, reactor_made: bool) -> None:
        """Learn that this process is a fork of the one in which everything so far was done.

        Args:
            reactor_made: Whether that process had made its reactor: its file descriptors are
                shared with this process, so that it is of no use here even if it never ran.
        """
        if reactor_made:
            self._parent = os.getppid()
        self._lock = Lock()

    def call(self, name: str, seconds: float | None, function: Callable[[], Any]) -> Any:
        """Run a function in the reactor's thread and wait for what it, or its Deferred, gives.

        Args:
            name: What is called, for messages.
            seconds: How long to wait, or None for ever.
            function: What to run, in a copy of the caller's context.

        Returns:
            The function's result.

        Raises:
            ForkedProcessError: The reactor's thread is in another process.
            ReactorThreadError: This is the reactor's thread.
            NotRunningError: The reactor does not run, or stopped meanwhile.
            CallTimeoutError: There was no answer in time; the call was cancelled.
        """
        reactor = self._reach(name)
        call = Call(name, function)
        self._expect(call)
        answered = False
        try:
            reactor.callFromThread(self._begin, call)
            answered = call.wait(seconds)
        finally:  # also when a signal interrupts the wait
            with self._lock:
                self._calls.discard(call)
            if not answered and call.give_up():
                reactor.callFromThread(call.cancel)
            else:
                answered = True
        if answered:
            return call.result()
        if reactor.running:
            raise CallTimeoutError(name, cast(float, seconds))
        raise _not_running(name)

    # In the caller's thread.

    def _is_ours(self) -> bool:
        """Whether :meth:`setup` was called, or the reactor seen running, in this process."""
        if self._parent is not None or self._pid not in (None, os.getpid()):
            raise ForkedProcessError(_FORKED.format(parent=self._parent or self._pid))
        return self._pid is not None

    def _reach(self, name: str) -> IsReactor:
        """Give the reactor, if a call from this thread can be answered."""
        ours = self._is_ours()
        self._refuse_stopped(name)
        reactor = self._get_reactor()
        if not ours:
            if not reactor.running:
                raise _not_running(name)
            self._adopt()
        if threadable.ioThread == get_ident():
            raise ReactorThreadError(
                f"{name}() blocks, and was called in the reactor's own thread, which would have "
                f"to answer it. Use what this is the face of there, and its Deferred"
            )
        return reactor

    def _adopt(self) -> None:
        """Use a reactor that somebody else has started, if its thread is in this process."""
        if cast("int | None", threadable.ioThread) not in sys._current_frames():
            raise ForkedProcessError(_FORKED.format(parent="unknown"))
        self._pid = os.getpid()

    def _expect(self, call: Call) -> None:
        """Remember a call, so that it is answered when the reactor stops."""
        with self._lock:
            self._refuse_stopped(call.name)
            self._calls.add(call)

    def _refuse_stopped(self, name: str) -> None:
        if self._stopped:
            raise NotRunningError(f"{name}() cannot be answered: the reactor has stopped")

    # In the reactor's thread.

    def _begin(self, call: Call) -> None:
        if not self._watched:
            self._watched = True
            self._get_reactor().addSystemEventTrigger("before", "shutdown", self._stop)
        call.begin()

    def _stop(self) -> None:
        """Let nobody wait for a reactor that stops."""
        with self._lock:
            self._stopped = True
            waiting = list(self._calls)
        for call in waiting:
            reason = f"{call.name}() was not answered: the reactor has stopped"
            call.answer(Failure(NotRunningError(reason)))


def _not_running(name: str) -> NotRunningError:
    return NotRunningError(
        f"{name}() cannot be answered: the reactor does not run. Call oni.blocking.setup() first, "
        f"or, where the program runs the reactor itself, wait until it does"
    )


def _global_reactor() -> IsReactor:
    from twisted.internet import reactor

    return cast(IsReactor, reactor)


def _start_reactor() -> None:
    """Let crochet run the reactor in a thread that is no daemon, in whichever thread this is."""
    if not current_thread().daemon:
        _set_up_crochet()
        return
    # Threads are daemons if the one is that makes them, like those that some servers call an
    # application in. As daemons crochet's would die with the main thread, and nothing would be
    # done that is to be done before the reactor stops.
    raised: list[BaseException] = []

    def start() -> None:
        try:
            _set_up_crochet()
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    starting = Thread(target=start, name="OniReactorStart", daemon=False)
    starting.start()
    starting.join()
    if raised:
        raise raised[0]


def _set_up_crochet() -> None:
    # Not before it is needed: crochet makes a thread when it is imported, and the first releases
    # of Python 3.13 do not start a thread that was made before a fork.
    import crochet

    try:
        crochet.setup()
    except RuntimeError as error:
        reactor = cast(Any, _global_reactor())
        reactor.callFromThread(reactor.stop)
        raise ForkedProcessError(
            "crochet was imported before this process was forked, which this release of Python "
            "does not get over; import it after the fork"
        ) from error


reactor_thread = ReactorThread(_start_reactor, _global_reactor)


def setup() -> None:
    """Run Twisted's reactor in a thread of its own, and connect its log to Python's.

    To be called once in each process, after any ``fork``; from the second time on nothing
    happens. Where the reactor runs already, or ``crochet.no_setup()`` has been called (``twistd``
    runs the reactor then), nothing is started. The reactor is not waited for here: the first
    call does that.

    Raises:
        oni.errors.ForkedProcessError: The reactor was made in the process that this one was
            forked from.
    """
    reactor_thread.setup()


# A forked process shares the file descriptors of a reactor that was made before, so that even
# starting it anew would mix up the two; only the moment of the fork knows.
os.register_at_fork(
    after_in_child=lambda: reactor_thread.forked("twisted.internet.reactor" in sys.modules)
)
