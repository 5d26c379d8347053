"""``[watchers.NAME]``: watchers of models, each in a table of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from oni.server._tables import article, convert_table, suggest

__all__ = ["NO_WATCHERS", "WatcherSettings", "doubts_of", "read_watchers", "watched_models"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")

NO_WATCHERS: Mapping[str, Any] = MappingProxyType({})
"""What there is where nothing is said."""


class WatcherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every table ``[watchers.NAME]`` may have, besides the watcher's own keys."""

    imodeleventwatcher: Annotated[
        Annotated[str, Meta(min_length=1)] | Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(
            description="The watcher, or watchers, like 'myapp.Notifications': a class, which may "
            "lie beside the settings file. The table's other keys are the watcher's own."
        ),
    ] = None
    models: Annotated[
        Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(
            description="The models that it hears of, like 'blog.Post'. Without any the table is "
            "for a process of another program."
        ),
    ] = None
    threaded: Annotated[
        bool | None,
        Meta(description="Whether it is called in a thread, as it may block. Without it: no."),
    ] = None


def read_watchers(value: object, problems: list[str]) -> Mapping[str, Any] | None:
    """Check the tables, but for the watchers' own keys: these they know themselves.

    What is no table is the short form of a program's own: a name, or a list of them.

    Args:
        value: What the file holds as ``watchers``.
        problems: Gets one line for everything that is wrong.
    """
    if not isinstance(value, Mapping):
        problems.append(f"watchers: expected tables [watchers.NAME], got {article(value)}")
        return None
    for name, said in value.items():
        path = f"watchers.{name}"
        if not _NAME.fullmatch(name):
            problems.append(f"{path}: a watcher's name has letters, digits, '_' and '-' only")
        is_short = not isinstance(said, Mapping)
        table = {"imodeleventwatcher": said} if is_short else said
        common = {k: v for k, v in table.items() if k in WatcherSettings.__struct_fields__}
        convert_table(WatcherSettings, common, path, problems)
        if "imodeleventwatcher" not in table:
            example = "a name like 'myapp.Notifications'"
            problems.append(f"{path}.imodeleventwatcher: expected {example}")
    return MappingProxyType(dict(value))


def doubts_of(watchers: Mapping[str, Any]) -> Iterator[str]:
    """Say which of a watcher's own keys are probably not meant to be its own."""
    for name, table in watchers.items():
        if not isinstance(table, Mapping):
            continue
        missing = [key for key in ("models", "threaded") if key not in table]
        for key in table:
            if hint := suggest(key, missing):
                yield f"watchers.{name}.{key} is left to the watcher itself{hint}"


def watched_models(watchers: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Give the tables that name models: those that are for this program."""
    return {
        name: table
        for name, table in watchers.items()
        if isinstance(table, Mapping) and table.get("models")
    }
