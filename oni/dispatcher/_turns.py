"""Whose turn it is: the order between top-level events, and the bounds of the queues."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oni.errors import QueueFullError, UnhashableDetailError

__all__ = ["Lane", "Turns"]


_NOBODY: OrderedDict[Any, None] = OrderedDict()  # nothing is ever put into it


class Lane:
    """Events that run one at a time, first in first out.

    Attributes:
        active: What has the turn: the frame of a running event, or None.
        waiting: The queued runs, oldest first (a dict, so that a cancelled one leaves at once).
        draining: Whether the next ones are being started further up the stack.
        suspect: What had the turn when the search for cycles last looked.
        warned: What a stall warning was given for.
    """

    __slots__ = ("active", "draining", "key", "suspect", "waiting", "warned")

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key
        self.active: Any = None
        self.waiting: OrderedDict[Any, None] = _NOBODY  # most lanes are never waited for
        self.draining = False
        self.suspect: Any = None
        self.warned: Any = None


class Turns:
    """The lanes of a dispatcher, by the details that order its events.

    ``order_by=()`` is one lane for all events, ``None`` is none.
    """

    def __init__(
        self,
        order_by: Sequence[str] | None,
        max_pending: int | None,
        max_pending_per_key: int | None,
    ) -> None:
        self.order_by = None if order_by is None else tuple(order_by)
        self.only = Lane(()) if self.order_by == () else None
        self.waiting = 0
        self._max_pending = max_pending
        self._max_per_key = max_pending_per_key
        self._lanes: dict[tuple[Any, ...], Lane] = {}

    def lane(self, details: Mapping[str, Any]) -> Lane | None:
        """Give the lane of an event with these details.

        Raises:
            UnhashableDetailError: A detail that orders events is unhashable.
        """
        if self.only is not None or self.order_by is None:
            return self.only
        key = tuple(map(details.get, self.order_by))
        try:
            lane = self._lanes.get(key)
        except Exception:
            self._check_hashable(details)
            raise
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        return lane

    def _check_hashable(self, details: Mapping[str, Any]) -> None:
        for name in self.order_by or ():
            try:
                hash(details.get(name))
            except Exception as error:
                raise UnhashableDetailError(name, details[name]) from error

    def put(self, lane: Lane, run: Any) -> None:
        """Queue a run.

        Raises:
            QueueFullError: A bound is reached.
        """
        if self._max_pending is not None and self.waiting >= self._max_pending:
            raise QueueFullError("queue of the dispatcher (max_pending)", self._max_pending)
        if self._max_per_key is not None and len(lane.waiting) >= self._max_per_key:
            raise QueueFullError(
                f"queue of the events with {self._named(lane)} (max_pending_per_key)",
                self._max_per_key,
            )
        if lane.waiting is _NOBODY:
            lane.waiting = OrderedDict()
        lane.waiting[run] = None
        self.waiting += 1

    def _named(self, lane: Lane) -> str:
        if not self.order_by:
            return "any details"
        values = zip(self.order_by, lane.key, strict=True)
        return ", ".join(f"{name}={value!r}" for name, value in values)

    def take(self, lane: Lane) -> Any:
        """Take the oldest queued run."""
        self.waiting -= 1
        return lane.waiting.popitem(last=False)[0]

    def discard(self, lane: Lane, run: Any) -> None:
        """Take one queued run out, wherever it stands."""
        if run in lane.waiting:
            del lane.waiting[run]
            self.waiting -= 1

    def leave(self, lane: Lane) -> None:
        """Forget a lane that nobody is in."""
        if (
            lane is not self.only
            and lane.active is None
            and not lane.waiting
            and not lane.draining
        ):
            self._lanes.pop(lane.key, None)

    def crowded(self) -> Iterator[Lane]:
        """Give the lanes in which somebody waits."""
        lanes = [self.only] if self.only is not None else list(self._lanes.values())
        return (lane for lane in lanes if lane.waiting)
