"""How handlers are registered by code that does so for others: where, and how they are held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Registering", "registering", "registering_here"]


@dataclass(frozen=True, slots=True)
class Registering:
    """What is said of the registrations in a ``with`` block.

    Attributes:
        strongly: Hold every handler strongly.
        at: Where they are written: file and line. None: where ``add_event_handler`` is called.
    """

    strongly: bool
    at: tuple[str, int] | None


registering_here: ContextVar[Registering | None] = ContextVar("oni_registering", default=None)


@contextmanager
def registering(*, strongly: bool = False, at: tuple[str, int] | None = None) -> Iterator[None]:
    """Say something of all registrations that are made in a ``with`` block, in this context.

    Args:
        strongly: Hold the handlers strongly, whatever ``use_weakref`` says: nobody else may.
        at: The file and line where they are written, for logs and ``handlers()``.
    """
    token = registering_here.set(Registering(strongly, at))
    try:
        yield
    finally:
        registering_here.reset(token)
