"""How handlers are registered by code that does so for others: where, and how they are held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Registering", "registering", "registering_here"]


@dataclass(slots=True)
class Registering:
    """What is said of the registrations in a ``with`` block.

    Attributes:
        strongly: Hold every handler strongly.
        at: Where they are written: file and line. None: where ``add_event_handler`` is called.
        outer: What is said in the block around this one, or None.
        over: Whether the block has ended. A coroutine that was started in it goes on with a copy
            of its context variables.
    """

    strongly: bool
    at: tuple[str, int] | None
    outer: Registering | None
    over: bool = False


_innermost: ContextVar[Registering | None] = ContextVar("oni_registering", default=None)


def registering_here() -> Registering | None:
    """Give what the innermost block says that has not ended."""
    said = _innermost.get()
    while said is not None and said.over:
        said = said.outer
    return said


@contextmanager
def registering(*, strongly: bool = False, at: tuple[str, int] | None = None) -> Iterator[None]:
    """Say something of all registrations that are made in a ``with`` block, in this context.

    Args:
        strongly: Hold the handlers strongly, whatever ``use_weakref`` says: nobody else may.
        at: The file and line where they are written, for logs and ``handlers()``.
    """
    said = Registering(strongly, at, registering_here())
    token = _innermost.set(said)
    try:
        yield
    finally:
        said.over = True
        _innermost.reset(token)
