"""Puts points, and mistakes, between a ledger and its store, in this process.

They sit at :class:`oni.interfaces.ILedgerStore`, so that they are the same for every store, and
nothing of them is in the product.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from oni.errors import StaleClaimError
from oni.values import Claim, Delivery, LedgerEvent
from tests.integration.kill_harness.history import History
from tests.integration.kill_harness.points import Points

__all__ = ["Watched", "watch"]


class Watched:
    """A transaction of a store that comes by the points; see :data:`.points.POINTS`.

    Args:
        inner: The store's own.
        points: The points.
        history: Where rescues are written.
        anew: Gives another transaction of the same store, unwatched.
    """

    def __init__(
        self, inner: Any, points: Points, history: History, anew: Callable[[], Any]
    ) -> None:
        self._inner = inner
        self._points = points
        self._history = history
        self._anew = anew
        self._steps: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Give what is not watched."""
        return getattr(self._inner, name)

    def admit(self, event: LedgerEvent) -> Any:
        """Admit."""
        self._points.hit("admit.before")
        return self._written("admit", self._inner.admit(event))

    def claim(
        self,
        handlers: Collection[str],
        limit: int,
        owner: str,
        lease: float,
        keys: Collection[str] | None = None,
    ) -> Sequence[Claim]:
        """Claim. Where nothing is due nothing is written."""
        self._points.hit("claim.before")
        claims: Sequence[Claim] = self._inner.claim(handlers, limit, owner, lease, keys)
        return self._written("claim", claims) if claims else claims

    def complete(self, claim: Claim) -> None:
        """Complete."""
        self._points.hit("complete.before")
        try:
            self._inner.complete(claim)
        except StaleClaimError:
            self._history.add("stale", handler=claim.handler, key=claim.key, token=claim.token)
            raise
        self._written("complete", None)

    def running(self) -> Sequence[Delivery]:
        """Look what runs."""
        running: Sequence[Delivery] = self._inner.running()
        if running:
            self._points.hit("running.seen")
        return running

    def rescue(self, delivery: Delivery) -> bool:
        """Rescue."""
        self._points.hit("rescue.before")
        taken: bool = self._inner.rescue(delivery)
        if taken:
            # Before the commit: who dies right behind it has written it all the same.
            self._history.add(
                "rescued",
                handler=delivery.handler,
                key=delivery.key,
                token=delivery.token,
                owner=delivery.owner,
            )
            self._written("rescue", None)
        else:
            self._history.add("too late", handler=delivery.handler, key=delivery.key)
        return taken

    def prune(self, older_than: float, limit: int) -> int:
        """Prune."""
        self._points.hit("prune.before")
        pruned: int = self._inner.prune(older_than, limit)
        return self._written("prune", pruned) if pruned else 0

    def committed(self) -> None:
        """Come by what lies behind the commit."""
        for step in dict.fromkeys(self._steps):
            self._points.hit(f"{step}.committed")

    def _written(self, step: str, result: Any) -> Any:
        self._steps.append(step)
        self._points.hit(f"{step}.written")
        return result


def watch(
    stores: Sequence[type[Any]],
    points: Points,
    history: History,
    kind: type[Watched] = Watched,
) -> None:
    """Let every transaction of some stores be watched, from now on in this process.

    Args:
        stores: Their classes.
        points: The points.
        history: Where rescues are written.
        kind: What watches; a mutant makes mistakes of its own.
    """

    def watching(original: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def transaction(self: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
            with original(self, *arguments, **named) as inner:
                watched = kind(inner, points, history, lambda: original(self))
                yield watched
            watched.committed()

        return transaction

    for store in stores:
        for name in ("transaction", "repeatable"):  # not every store has the second one
            if hasattr(store, name):
                setattr(store, name, watching(getattr(store, name)))
