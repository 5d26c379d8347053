"""Words for people."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

__all__ = ["few"]

_FEW = 10


def few(separator: str, names: Iterable[str]) -> str:
    """Join names for a text that must not grow without end: the first ones, and how many more."""
    rest = iter(names)
    first = list(islice(rest, _FEW))
    more = sum(1 for _ in rest)
    return separator.join([*first, f"and {more} more"] if more else first)
