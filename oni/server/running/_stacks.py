"""What every thread is doing, for a log: named, and without asking the threads."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from types import FrameType

import oni

__all__ = ["culprit", "stack_lines"]

_MAX_FRAMES = 60  # of a thread, the innermost ones
_OURS = os.path.dirname(os.path.abspath(oni.__file__))
_OTHERS = tuple(
    os.path.join(path, "")
    for path in {*sysconfig.get_paths().values(), _OURS}
    if path and path != sysconfig.get_path("data")
)


def culprit(thread: int) -> str:
    """Say which function of a thread is being executed, and which of the application called it.

    Args:
        thread: The thread's identifier.
    """
    frames = list(_frames(sys._current_frames().get(thread)))
    if not frames:
        return "a thread that has ended"
    said = _where(frames[0])
    for frame in frames:
        if not frame.f_code.co_filename.startswith(_OTHERS):
            own = _where(frame)
            return said if own == said else f"{said}, called by {own}"
    return said


def stack_lines() -> list[str]:
    """Give every thread's stack, the innermost frame first, as lines."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for identifier, top in sys._current_frames().items():
        lines.append(f"thread {names.get(identifier, identifier)}:")
        frames = list(_frames(top))
        lines += [f"  {_where(frame)}" for frame in frames[:_MAX_FRAMES]]
        if len(frames) > _MAX_FRAMES:
            lines.append(f"  ... and {len(frames) - _MAX_FRAMES} more")
    return lines


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _where(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
