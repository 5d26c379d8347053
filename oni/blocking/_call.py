"""One call on its way into the reactor's thread and back."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Lock
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Call"]

_log = Logger()


class Call:
    """A function to run in the reactor's thread, and the place where its caller waits.

    The function runs in a copy of the context in which the call was made, so that a fire from
    inside a handler is nested wherever the handler runs.

    Whether the answer or the caller's patience came first is decided once, under a lock: an
    answer is given to the caller, or it is nobody's. crochet's ``EventualResult`` is not used for
    this, because it logs the cancellation of a call that was given up as an unhandled error.
    """

    __slots__ = (
        "_answered",
        "_context",
        "_deferred",
        "_function",
        "_given_up",
        "_lock",
        "_outcome",
        "name",
    )

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        """Make a call in the caller's thread.

        Args:
            name: What is called, for messages.
            function: Runs in the reactor's thread. It may return a Deferred.
        """
        self.name = name
        self._function = function
        self._context = copy_context()
        self._answered = Event()
        self._lock = Lock()
        self._given_up = False
        self._deferred: Deferred[Any] | None = None
        self._outcome: Any = None

    # In the reactor's thread.

    def begin(self) -> None:
        """Run the function, unless the caller is gone already. In the reactor's thread."""
        if self._given_up:
            return
        try:
            result = self._context.run(self._function)
        except BaseException:  # noqa: BLE001 - whatever it is, it is the caller's
            self.answer(Failure())
            return
        if isinstance(result, Deferred):
            self._deferred = result
            result.addBoth(self.answer)
        else:
            self.answer(result)

    def cancel(self) -> None:
        """Cancel what is still under way. In the reactor's thread."""
        if self._deferred is not None:
            self._deferred.cancel()

    def answer(self, outcome: Any) -> None:
        """Give the caller a value or a Failure. Only the first answer counts.

        The failure of a call whose caller is gone is logged, unless it is the cancellation.
        """
        with self._lock:
            if not self._given_up:
                if not self._answered.is_set():
                    self._outcome = outcome
                    self._answered.set()
                return
        if isinstance(outcome, Failure) and outcome.check(CancelledError) is None:
            _log.failure(
                "{call}() was given up by its caller and failed later",
                failure=outcome,
                call=self.name,
            )

    # In the caller's thread.

    def wait(self, seconds: float | None) -> bool:
        """Wait for the answer; say whether it is there. In the caller's thread."""
        return self._answered.wait(seconds)

    def give_up(self) -> bool:
        """Want no answer any more; False if it is there already. In the caller's thread."""
        with self._lock:
            if self._answered.is_set():
                return False
            self._given_up = True
            return True

    def result(self) -> Any:
        """Return the answer, or raise the exception that it is. In the caller's thread."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Failure):
            try:
                outcome.raiseException()
            finally:
                del outcome  # it holds this frame by its traceback
        return outcome
