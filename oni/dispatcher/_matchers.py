"""What a match spec may hold instead of a literal value."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from oni.errors import InvalidMatchSpecError

__all__ = ["MISSING", "Matcher", "OneOf", "absent", "one_of", "regex", "where"]


class _Missing:
    """Stands for a detail that an event does not have."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Matcher:
    """A condition on one detail."""

    __slots__ = ()

    def matches(self, value: Any) -> bool:
        """Say whether a detail fits; it is :data:`MISSING` where the event does not have it."""
        raise NotImplementedError


class OneOf(Matcher):
    """Fits a detail that equals one of several hashable values. The index looks it up."""

    __slots__ = ("values",)

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values

    def matches(self, value: Any) -> bool:
        """Compare with ``==``."""
        return any(value == candidate for candidate in self.values)

    def __repr__(self) -> str:
        return f"one_of({', '.join(map(repr, self.values))})"


class _Regex(Matcher):
    __slots__ = ("pattern",)

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self.pattern = pattern

    def matches(self, value: Any) -> bool:
        return isinstance(value, type(self.pattern.pattern)) and (
            self.pattern.search(value) is not None
        )

    def __repr__(self) -> str:
        return f"regex({self.pattern.pattern!r})"


class _Where(Matcher):
    __slots__ = ("predicate",)

    def __init__(self, predicate: Callable[[Any], object]) -> None:
        self.predicate = predicate

    def matches(self, value: Any) -> bool:
        return value is not MISSING and bool(self.predicate(value))

    def __repr__(self) -> str:
        return f"where({getattr(self.predicate, '__qualname__', repr(self.predicate))})"


class _Absent(Matcher):
    __slots__ = ()

    def matches(self, value: Any) -> bool:
        return value is None or value is MISSING

    def __repr__(self) -> str:
        return "absent()"


def one_of(*values: Any) -> Matcher:
    """Match a detail that is present and equals one of these values.

    Raises:
        InvalidMatchSpecError: No value is given, or one is unhashable.
    """
    try:
        distinct = tuple(dict.fromkeys(values))
    except Exception as error:  # a hash may raise anything, and so may a comparison
        reason = f"every value must be hashable and comparable: {values!r} ({error})"
        raise InvalidMatchSpecError("one_of", reason) from error
    if not distinct:
        raise InvalidMatchSpecError("one_of", "at least one value is needed")
    return OneOf(distinct)


def regex(pattern: str | bytes | re.Pattern[Any]) -> Matcher:
    """Match a detail that is a string in which the pattern is found (searched, not anchored).

    A pattern of bytes matches bytes.

    Raises:
        InvalidMatchSpecError: The pattern is not a regular expression.
    """
    try:
        return _Regex(re.compile(pattern))
    except (re.error, TypeError) as error:
        raise InvalidMatchSpecError("regex", f"{pattern!r}: {error}") from error


def where(predicate: Callable[[Any], object]) -> Matcher:
    """Match a detail that is present and for which the predicate is true.

    A predicate that raises counts as its handler's failure.

    Raises:
        InvalidMatchSpecError: The predicate cannot be called, or is a coroutine function.
    """
    if not callable(predicate):
        raise InvalidMatchSpecError("where", f"{predicate!r} cannot be called")
    if inspect.iscoroutinefunction(predicate):
        raise InvalidMatchSpecError("where", f"{predicate!r} is a coroutine function: always true")
    return _Where(predicate)


def absent() -> Matcher:
    """Match a detail that is None, or that the event does not have."""
    return _Absent()
