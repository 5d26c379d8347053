"""Decode the tables of a settings file into typed structs, and name everything that is wrong.

``msgspec`` stops at the first error. So each key is converted by itself, and what is wrong is
collected: a person corrects a file once, not once per mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

__all__ = ["article", "convert_table", "suggest", "words_for"]

_S = TypeVar("_S", bound=msgspec.Struct)
_SHOWN = 60  # characters of a wrong value that are repeated in the message


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or ``""``."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def article(value: object) -> str:
    """Say what a wrong value is, in TOML's words, in little room."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."


def words_for(kind: Any) -> str:
    """Say in words which values a type takes."""
    info = kind if isinstance(kind, inspect.Type) else inspect.type_info(kind)
    if isinstance(info, inspect.Metadata):
        return words_for(info.type)
    if isinstance(info, inspect.UnionType):
        return " or ".join(
            words_for(part) for part in info.types if not isinstance(part, inspect.NoneType)
        )
    if isinstance(info, inspect.BoolType):
        return "true or false"
    if isinstance(info, inspect.IntType):
        return "an integer" + _bounds(info)
    if isinstance(info, inspect.FloatType):
        return "a number" + _bounds(info)
    if isinstance(info, inspect.StrType):
        return _string(info)
    if isinstance(info, inspect.LiteralType):
        return " or ".join(map(repr, info.values))
    if isinstance(info, inspect.VarTupleType):
        if isinstance(info.item_type, inspect.LiteralType):
            return "a list of these"
        if isinstance(info.item_type, inspect.StructType):
            return "a list of tables"
        return "a list of strings" + (" that is not empty" if info.min_length else "")
    return "a table"


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    low = ""
    if info.ge is not None:
        low = f"of {info.ge} or more"
    elif info.gt is not None:
        low = f"above {info.gt}"
    high = f"at most {info.le:g}" if info.le is not None else ""
    both = ", ".join(filter(None, (low, high)))
    return f" {both}" if both else ""


def _string(info: inspect.StrType) -> str:
    if info.min_length and info.min_length > 1:
        return f"a string of {info.min_length} characters or more"
    return "a string that is not empty" if info.min_length else "a string"


def convert_table(
    struct: type[_S],
    table: object,
    path: str,
    problems: list[str],
    *,
    secrets: Sequence[str] = (),
) -> _S | None:
    """Convert one table, key by key.

    Args:
        struct: What to make of it. Its fields are plain values or lists of strings.
        table: What the file holds there.
        path: The table's path, for the messages.
        problems: Gets one line for everything that is wrong.
        secrets: Keys whose values are never repeated in a message.

    Returns:
        The struct, with defaults for keys that are missing or wrong; or None where there is no
        table at all.
    """
    if not isinstance(table, Mapping):
        problems.append(f"{path}: expected a table, got {article(table)}")
        return None
    fields = _fields_of(struct)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{path}.{key}"
        if key not in fields:
            problems.append(
                f"{where}: unknown key{suggest(key, fields)}; known: {', '.join(fields)}"
            )
            continue
        kind = fields[key].type
        if isinstance(value, list):
            value = _only_strings(value, where, problems)
        try:
            values[key] = msgspec.convert(value, kind)
        except msgspec.ValidationError:
            others = _others(value, kind, where) if isinstance(value, list) else []
            if others:
                problems += others
                continue
            got = "something else" if key in secrets else article(value)
            problems.append(f"{where}: expected {words_for(kind)}, got {got}")
    return struct(**values)


@cache
def _fields_of(struct: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(struct)}


def _words_within(kind: Any) -> tuple[str, ...]:
    """Give the words that a list of this type may have; none where it may have others, too."""
    info = kind if isinstance(kind, inspect.Type) else inspect.type_info(kind)
    if isinstance(info, inspect.Metadata):
        return _words_within(info.type)
    if isinstance(info, inspect.UnionType):
        return tuple(word for part in info.types for word in _words_within(part))
    if isinstance(info, inspect.VarTupleType) and isinstance(info.item_type, inspect.LiteralType):
        return tuple(map(str, info.item_type.values))
    return ()


def _others(entries: Sequence[str], kind: Any, path: str) -> Sequence[str]:
    """Name the entries that are none of the words which a list of this type may have."""
    words = _words_within(kind)
    expected = " or ".join(map(repr, words))
    return [
        f"{path}[{place}]: expected {expected}, got {article(entry)}{suggest(entry, words)}"
        for place, entry in enumerate(entries)
        if words and entry not in words
    ]


def _only_strings(entries: list[Any], path: str, problems: list[str]) -> list[str]:
    """Name the entries that are no strings (every list here is one of strings), keep the rest."""
    for place, entry in enumerate(entries):
        if not isinstance(entry, str):
            problems.append(f"{path}[{place}]: expected a string, got {article(entry)}")
    return [entry for entry in entries if isinstance(entry, str)]
