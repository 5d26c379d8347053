"""What a session's transaction has changed so far, and how far its commit has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session, SessionTransaction

from oni.sources._changes import ChangeBuffer
from oni.sources.sqlalchemy._capture import Capture, CapturedRow
from oni.sources.sqlalchemy._direct import DirectBuffer
from oni.sources.sqlalchemy._models import WatchedModels
from oni.values import ModelChange

__all__ = ["Pending", "Row"]

Row = tuple[str, Any]
"""A model's name and a primary key, as changes have them."""


class Pending:
    """Follows one transaction of a session, from its first change to its end.

    Every savepoint has a layer of its own. It is kept where the savepoint is released, and gone
    where it is rolled back, or closed: a transaction that nobody saw being committed was not.

    Args:
        session: The session.
        models: What is watched.
        hears_directly: Says whether somebody wants to be told of a model after the commit.

    Attributes:
        capture: Sees what the flush writes that is under way.
        direct: What is told after the commit.
        identities: For each changed row the mapped class of its instance, and its primary key.
        rounds: How often those who may refuse were asked.
        handed: Whether all of it was handed over, so that what comes now comes late.
        is_handing: Whether it is being handed over.
        admitted: Whether there is something to deliver once it is committed.
    """

    def __init__(
        self, session: Session, models: WatchedModels, hears_directly: Callable[[str], bool]
    ) -> None:
        self.capture = Capture(models)
        self.direct = DirectBuffer(hears_directly)
        self.identities: dict[Row, tuple[type, tuple[Any, ...]]] = {}
        self.rounds = 0
        self.handed = self.is_handing = self.admitted = False
        self._open: list[SessionTransaction] = []
        self._released: SessionTransaction | None = None
        self._announced: SessionTransaction | None = None
        self._outer_commits = False
        inner = session.get_nested_transaction()
        while inner is not None:  # those that were open before
            if inner.nested:
                self._open.insert(0, inner)
            inner = inner.parent
        self._net = self._empty()
        self._fresh = self._empty()
        for _ in self._open:
            self.direct.push()

    # --- Changes

    def add(self, row: CapturedRow) -> None:
        """Keep what was done to a row."""
        self.identities[row.change.model, row.change.id] = (row.model, row.identity)
        self.direct.add_row(row)
        self.add_change(row.change)

    def add_change(self, change: ModelChange) -> None:
        """Keep a change."""
        self._net.add(change)
        self._fresh.add(change)

    def net(self) -> list[ModelChange]:
        """Give what all of it comes to."""
        return self._net.coalesced()

    def take_fresh(self) -> list[ModelChange]:
        """Give what came since this was asked last."""
        changes = self._fresh.coalesced()
        self._fresh = self._empty()
        return changes

    def tell_again(self) -> list[ModelChange]:
        """Give everything, also what was given before: whoever refused it shall be asked again."""
        self._fresh = self._empty()
        return self.net()

    def forget(self) -> None:
        """Go on without what was handed over."""
        self._net = self._empty()
        self.identities = {}

    def _empty(self) -> ChangeBuffer:
        """Make a buffer with a layer for each savepoint that is open."""
        buffer = ChangeBuffer()
        for _ in self._open:
            buffer.push()
        return buffer

    def __bool__(self) -> bool:
        """Say whether there is anything to hand over."""
        return bool(len(self._net))

    # --- Savepoints

    def begin(self, savepoint: SessionTransaction) -> None:
        """A savepoint begins."""
        self._open.append(savepoint)
        for buffer in (self._net, self._fresh, self.direct):
            buffer.push()

    def commit_begins(self, savepoint: SessionTransaction) -> None:
        """Something is about to be committed while this savepoint is open.

        That it is the savepoint itself cannot be seen. But if it happens twice before the
        savepoint has ended, the first time it was something around it.
        """
        if self._announced is savepoint:
            self._outer_commits = True
        self._announced = savepoint

    def release(self, savepoint: SessionTransaction) -> None:
        """A savepoint was released."""
        self._released = savepoint

    def end(self, savepoint: SessionTransaction) -> bool:
        """A savepoint has ended.

        Returns:
            Whether this was within the commit of a transaction around it, which will not be
            announced any more, so that everything is to be handed over now.
        """
        if savepoint not in self._open:
            return False
        while self._open:
            inner = self._open.pop()
            for buffer in (self._net, self._fresh, self.direct):
                if inner is savepoint and savepoint is self._released:
                    buffer.merge()
                else:
                    buffer.drop()
            if inner is savepoint:
                break
        if savepoint is not self._released:
            self._outer_commits = False
            return False
        self._released = None
        if self._announced is not savepoint:
            self._outer_commits = False  # it was this one; what is around it has its turn yet
        if self._open or not self._outer_commits:
            return False
        self._outer_commits = False
        return True
