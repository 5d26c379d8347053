"""Which event is being handled here: what makes a fire a nested one."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["Frame", "ancestors", "current_frame", "new_frame"]


class Frame:
    """An event while its handlers are called, as the context variable holds it.

    A background coroutine keeps the context it was started in, and so this frame, for as long as
    it lives. Therefore the frame is emptied when its event ends, and keeps only the way to the
    next frame that is not empty.

    One is made for every event that has handlers, so it has no ``__init__``: the hot path fills it
    in itself, everybody else asks :func:`new_frame`.

    Attributes:
        engine: The engine that runs the event; None when the frame is empty.
        event, details: The event, and what it is matched by.
        parts: What its handlers have done in the phases so far, as in its result.
        parent: The frame that this one is nested in, or None.
        outer: The frame whose handlers were being called when this one's were first.
        run: The record of an event that has to wait, or None.
    """

    __slots__ = ("details", "engine", "event", "outer", "parent", "parts", "run")

    engine: Any
    event: Any
    details: Any
    parent: Any
    parts: Any
    outer: Any
    run: Any

    def empty(self) -> None:
        """Forget the event: it has ended."""
        self.engine = self.event = self.details = self.outer = self.run = None
        self.parts = ()
        parent = self.parent
        while parent is not None and parent.engine is None:
            parent = parent.parent
        self.parent = parent


def new_frame(engine: Any, event: Any, details: Any, parent: Frame | None, parts: Any) -> Frame:
    """Make a frame."""
    frame = Frame()
    frame.engine = engine
    frame.event = event
    frame.details = details
    frame.parent = parent
    frame.parts = parts
    frame.outer = frame.run = None
    return frame


current_frame: ContextVar[Frame | None] = ContextVar("oni_event", default=None)


def ancestors(frame: Frame | None) -> Iterator[Frame]:
    """Give a frame and those it is nested in, as far as their events still run."""
    while frame is not None:
        if frame.engine is not None:
            yield frame
        frame = frame.parent
