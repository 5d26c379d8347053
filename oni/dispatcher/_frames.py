"""Which event is being handled here: what makes a fire a nested one."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from msgspec import Struct

__all__ = ["Frame", "ancestors", "current_frame"]


class Frame(Struct, eq=False, gc=True):
    """An event while its handlers are called, as the context variable holds it.

    A background coroutine keeps the context it was started in, and so this frame, for as long as
    it lives. Therefore the frame is emptied when its event ends, and keeps only the way to the
    next frame that is not empty.

    It is a struct because one is made for every event that has handlers.

    Attributes:
        engine: The engine that runs the event; None when the frame is empty.
        result: The event with its details, and what its handlers have done so far.
        parent: The frame that this one is nested in, or None.
        outer: The frame whose handlers were being called when this one's were first.
        run: The record of an event that has to wait, or None.
    """

    engine: Any
    result: Any
    parent: Any
    outer: Any = None
    run: Any = None

    def empty(self) -> None:
        """Forget the event: it has ended."""
        self.engine = self.result = self.outer = self.run = None
        parent = self.parent
        while parent is not None and parent.engine is None:
            parent = parent.parent
        self.parent = parent


current_frame: ContextVar[Frame | None] = ContextVar("oni_event", default=None)


def ancestors(frame: Frame | None) -> Iterator[Frame]:
    """Give a frame and those it is nested in, as far as their events still run."""
    while frame is not None:
        if frame.engine is not None:
            yield frame
        frame = frame.parent
