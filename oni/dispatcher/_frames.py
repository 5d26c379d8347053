"""Which event is being handled here: what makes a fire a nested one."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["Frame", "ancestors", "current_frame"]


class Frame:
    """An event while its handlers are called, as the context variable holds it.

    A background coroutine keeps the context it was started in, and so this frame, for as long as
    it lives. Therefore the frame is emptied when its event ends, and keeps only the way to the
    next frame that is not empty.
    """

    __slots__ = ("details", "dispatcher", "event", "parent", "parts", "run")

    def __init__(
        self, dispatcher: Any, event: Any, details: dict[str, Any], parent: Frame | None
    ) -> None:
        self.dispatcher = dispatcher
        self.event = event
        self.details = details
        self.parent = parent
        self.parts: list[Any] = []
        self.run: Any = None

    def empty(self) -> None:
        """Forget the event: it has ended."""
        self.dispatcher = self.event = self.details = self.parts = self.run = None  # type: ignore[assignment]
        parent = self.parent
        while parent is not None and parent.dispatcher is None:
            parent = parent.parent
        self.parent = parent


current_frame: ContextVar[Frame | None] = ContextVar("oni_event", default=None)


def ancestors(frame: Frame | None) -> Iterator[Frame]:
    """Give a frame and those it is nested in, as far as their events still run."""
    while frame is not None:
        if frame.dispatcher is not None:
            yield frame
        frame = frame.parent
