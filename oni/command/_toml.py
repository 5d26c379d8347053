"""Settings as TOML, complete: what was said and what holds where nothing was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from oni.server import Settings
from oni.values import Phase

__all__ = ["HIDDEN", "is_secret", "toml_text"]

HIDDEN = "..."
"""What stands for a secret."""

_SECRETS = ("key", "secret", "password", "token")
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def is_secret(name: str) -> bool:
    """Say whether a setting's value is for nobody's eyes, by the last part of its name."""
    return name.rpartition("_")[2] in _SECRETS


def toml_text(settings: Settings) -> str:
    """Write all settings. Those that are None are left out, as TOML has no word for it."""
    lines: list[str] = []
    for section in msgspec.structs.fields(settings):
        table = getattr(settings, section.name)
        if section.name == "channels":
            _write_table("channels", table.defaults, lines)
            for name, rules in table.namespaces.items():
                _write_table(f"channels.{_key(name)}", rules, lines)
        elif section.name in ("listeners", "watchers"):
            for name, own in table.items():
                said = own if isinstance(own, Mapping) else {"imodeleventwatcher": own}
                _write_items(f"{section.name}.{_key(name)}", said, lines)
        elif isinstance(table, msgspec.Struct):
            _write_table(section.name, table, lines)
    return "\n".join(lines[1:]) + "\n"


def _write_table(path: str, table: msgspec.Struct, lines: list[str]) -> None:
    names = table.__struct_fields__
    _write_items(path, {name: getattr(table, name) for name in names}, lines)


def _write_items(path: str, table: Mapping[str, Any], lines: list[str]) -> None:
    lines += ["", f"[{path}]"]
    for name, value in table.items():
        if value is not None:
            shown = HIDDEN if is_secret(name) else _without_password(value)
            lines.append(f"{_key(name)} = {_value(shown)}")


def _without_password(value: Any) -> Any:
    """Hide what stands before the ``@`` of an address."""
    if isinstance(value, str) and "://" in value and "@" in value:
        parts = urlsplit(value)
        _, at, place = parts.netloc.rpartition("@")
        if at:
            return parts._replace(netloc=f"{HIDDEN}@{place}").geturl()
    return value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Phase):
        return _inline(_fields_of(value))
    if isinstance(value, msgspec.Struct):
        return _inline(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return _inline(value)
    return "[" + ", ".join(map(_value, value)) + "]"


def _fields_of(phase: Phase) -> Mapping[str, Any]:
    """Give a phase as a file may write it: of the three that are always there only the timeout."""
    if phase.name in ("before", "during", "after"):
        return {"name": phase.name, "timeout": phase.timeout}
    names = ("name", "on_error", "concurrent", "timeout", "always", "holds_turn")
    return {name: getattr(phase, name) for name in names}


def _inline(table: Mapping[str, Any]) -> str:
    shown = (
        f"{_key(name)} = {_value(HIDDEN if is_secret(name) else _without_password(value))}"
        for name, value in table.items()
        if value is not None
    )
    return "{" + ", ".join(shown) + "}"


def _key(name: str) -> str:
    return name if name and _BARE.issuperset(name) else _string(name)


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
