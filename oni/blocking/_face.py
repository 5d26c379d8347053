"""What all synchronous faces have in common: how a call reaches the reactor, and its patience."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import TIMEOUT_MAX
from typing import Any

from oni.blocking._reactor_thread import ReactorThread, reactor_thread
from oni.errors import InvalidTimeoutError
from oni.values import is_seconds

__all__ = ["Face"]


class Face:
    """Calls methods in the reactor's thread, and waits for what their Deferreds fire with.

    Its methods may be called in any thread but the reactor's, by several threads at once. Each
    runs whole in the reactor's thread, in a copy of the caller's context, and raises, beside what
    it raises there:

    * :class:`oni.errors.CallTimeoutError`: There was no answer in time. The call's Deferred was
      cancelled.
    * :class:`oni.errors.ReactorThreadError`: It was called in the reactor's thread.
    * :class:`oni.errors.NotRunningError`: The reactor does not run: :func:`oni.blocking.setup`
      was not called, or the reactor stopped.
    * :class:`oni.errors.ForkedProcessError`: This process was forked from the one in which the
      reactor runs.
    """

    def __init__(
        self, timeout: float | None = 5.0, *, thread: ReactorThread = reactor_thread
    ) -> None:
        """Know how long to wait. Nothing runs for it.

        Args:
            timeout: Seconds that each call waits for its answer; None: for ever.
            thread: How to reach the reactor's thread; for tests.

        Raises:
            InvalidTimeoutError: ``timeout`` is not a positive number.
        """
        if timeout is not None and not (is_seconds(timeout) and timeout <= TIMEOUT_MAX):
            raise InvalidTimeoutError("timeout", timeout)
        self._timeout = timeout
        self._thread = thread

    @property
    def timeout(self) -> float | None:
        """Seconds that each call waits for its answer, or None."""
        return self._timeout

    def _call(self, name: str, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._thread.call(name, self._timeout, partial(method, *args, **kwargs))
