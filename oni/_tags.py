"""Values that JSON does not know, as objects with one key that begins with a dollar sign."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

__all__ = ["SCALARS", "UNREADABLE"]

UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading a value that somebody has damaged may raise."""


def _write_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _read_timedelta(kept: Any) -> timedelta:
    days, seconds, microseconds = kept
    return timedelta(days, seconds, microseconds)


def _write_time(value: datetime | time) -> str | list[str]:
    # A clock that is set back shows an hour twice; which one it was is not in the text.
    text = value.isoformat()
    return [text] if value.fold else text


def _reader(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read_time(kept: Any) -> Any:
        return read(kept) if isinstance(kept, str) else read(kept[0]).replace(fold=1)

    return read_time


# A datetime is a date, so it comes first.
SCALARS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime: ("$datetime", _write_time, _reader(datetime.fromisoformat)),
    date: ("$date", date.isoformat, date.fromisoformat),
    time: ("$time", _write_time, _reader(time.fromisoformat)),
    timedelta: ("$timedelta", _write_timedelta, _read_timedelta),
    Decimal: ("$decimal", str, Decimal),
    UUID: ("$uuid", str, UUID),
    bytes: ("$bytes", lambda value: b64encode(value).decode(), b64decode),
}
"""By type, the first that fits: its tag, what writes it, and what reads it."""
