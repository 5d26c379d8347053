"""Places to run functions in that are no threads: at once, or when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute, succeed


class AtOnce:
    """Runs each function within the call."""

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run it."""
        return execute(function)

    def stop(self) -> Deferred[None]:
        """There is nothing to wait for."""
        return succeed(None)


class WhenTold:
    """Keeps functions until :meth:`go`.

    Attributes:
        waiting: How many there are.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._calls)

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Keep it."""
        done: Deferred[Any] = Deferred()
        self._calls.append((function, done))
        return done

    def go(self) -> None:
        """Run what was kept so far."""
        calls, self._calls = self._calls, []
        for function, done in calls:
            execute(function).chainDeferred(done)

    def stop(self) -> Deferred[None]:
        """There is nothing to wait for."""
        return succeed(None)
