"""``[listeners.NAME]``: listeners of resources' events, each in a table of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from oni.server._tables import article, convert_table

__all__ = ["ListenerSettings", "NO_LISTENERS", "read_listeners"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")

NO_LISTENERS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
"""What there is where nothing is said."""


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every table ``[listeners.NAME]`` may have, besides the listener's own keys."""

    use: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="The module that makes the listener, like 'oni.listeners.redis'. It may "
            "lie beside the settings file. The table's other keys are the listener's own."
        ),
    ] = None
    actions: Annotated[
        tuple[Literal["create", "update", "delete", "read"], ...] | None,
        Meta(
            description="What it hears of: some of 'create', 'update', 'delete' and 'read'. "
            "Without it the first three."
        ),
    ] = None
    resources: Annotated[
        tuple[str, ...] | None,
        Meta(description="Of which resources. Without it of all."),
    ] = None


def read_listeners(value: object, problems: list[str]) -> Mapping[str, Mapping[str, Any]] | None:
    """Check the tables, but for the listeners' own keys: these their modules know.

    Args:
        value: What the file holds as ``listeners``.
        problems: Gets one line for everything that is wrong.
    """
    if not isinstance(value, Mapping):
        problems.append(f"listeners: expected tables [listeners.NAME], got {article(value)}")
        return None
    for name, table in value.items():
        path = f"listeners.{name}"
        if not _NAME.fullmatch(name):
            problems.append(f"{path}: a listener's name has letters, digits, '_' and '-' only")
        if not isinstance(table, Mapping):
            problems.append(f"{path}: expected a table, got {article(table)}")
            continue
        common = {k: v for k, v in table.items() if k in ListenerSettings.__struct_fields__}
        convert_table(ListenerSettings, common, path, problems)
        if "use" not in table:
            problems.append(f"{path}.use: expected a module like 'oni.listeners.redis'")
    return MappingProxyType(dict(value))
