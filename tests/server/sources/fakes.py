"""Event sources and a ledger that do what a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from oni.values import Delivery


class SomeLedger:
    """Stands for a ledger."""

    def __init__(self) -> None:
        self.pending: Sequence[Delivery] = ()
        self.pruned = 0

    def count(self) -> Deferred[Mapping[str, int]]:
        """Count nothing."""
        return succeed({"pending": 3, "dead": 1})

    def lag(self) -> Deferred[float]:
        """Say it."""
        return succeed(2.5)

    def prune(self, older_than: float, limit: int) -> Deferred[int]:
        """Forget nothing."""
        self.pruned += 1
        return succeed(0)

    def deliveries(self, state: str, handler: Any, limit: int) -> Deferred[Sequence[Delivery]]:
        """Give what the test says."""
        return succeed(self.pending)

    def statistics(self) -> Mapping[str, int]:
        """Give numbers."""
        names = "admitted duplicate conflict claimed completed failed stale held rescued lost"
        return dict.fromkeys([*names.split(), "waiting", "commits"], 7)


class SomeSources:
    """Stands for event sources.

    Attributes:
        told: What was called.
        starts: What the next starts come to.
        stopped: What the stop comes to.
    """

    def __init__(self) -> None:
        self.ledger = SomeLedger()
        self.told: list[Any] = []
        self.starts: list[Any] = []
        self.stopped: Any = None

    def start(self) -> Deferred[None]:
        """Start."""
        self.told.append("start")
        return maybeDeferred(_give, self.starts.pop(0) if self.starts else None)

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Stop."""
        self.told.append(("stop", timeout))
        return maybeDeferred(_give, self.stopped)

    def statistics(self) -> Mapping[str, int]:
        """Give numbers."""
        return {"under_way": 7, "threads_lost": 7}

    def hold(self) -> None:
        """Claim nothing more."""
        self.told.append("hold")

    def handler_names(self) -> Sequence[str]:
        """Name one."""
        return ["mail"]


def _give(what: Any) -> Any:
    if isinstance(what, Exception):
        raise what
    return what
