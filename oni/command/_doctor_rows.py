"""What a look at something finds."""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["Level", "Row", "error", "fine", "warning"]


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Row(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        level: How bad it is.
        what: What was looked at.
        found: How it is.
        todo: What to do, ``""`` for nothing.
    """

    level: Level
    what: str
    found: str
    todo: str = ""


def fine(what: str, found: str) -> Row:
    """Make a row of something that is as it should be."""
    return Row(Level.OK, what, found)


def warning(what: str, found: str, todo: str) -> Row:
    """Make a row of something that is probably not meant so."""
    return Row(Level.WARNING, what, found, todo)


def error(what: str, found: str, todo: str) -> Row:
    """Make a row of something that does not work, or is not safe."""
    return Row(Level.ERROR, what, found, todo)
