"""Log events as lines: text for people, JSON for programs. One event is one line of either.

What comes from outside is in an event's values. They are made harmless: control characters are
written out, long ones cut, tokens and keys taken out. So nobody can write a line of their own
into the log, or find a secret there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any

import msgspec
from twisted.logger import LogEvent, LogLevel

__all__ = ["MAX_TEXT", "MAX_VALUE", "JsonLines", "TextLines"]

#: Characters of a value, at most.
MAX_VALUE = 256

#: Characters of a line that a program printed, or of a traceback's, at most.
MAX_TEXT = 4096

_MAX_LINES = 200  # of a traceback or of stacks
_PRINTED = frozenset(("log_io", "log_legacy", "log_text"))
# Controls, among them what readers take for a line's end, and what turns writing around.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Three parts of base64 of which the first is JSON: nobody can use what is left of it.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*)?")
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
# What the older log puts into each event.
_LEGACY = frozenset(("format", "isError", "message", "system", "time", "why", "failure"))
_PLAIN = (bool, int, float, type(None))


class _Lines:
    """What both formats have in common.

    Args:
        secrets: What must never be in a line.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        self._secrets = tuple(filter(None, secrets))
        self._values = _Values(self)

    def write(self, event: LogEvent) -> bytes:
        """Write an event. It does not raise."""
        try:
            return self._write(event)
        except Exception as error:  # noqa: BLE001 - a log must take whatever it is given
            about = f"an event could not be written: {type(error).__name__}"
            return self._write({"log_format": about, "log_time": event.get("log_time", 0.0)})

    def _write(self, event: LogEvent) -> bytes:
        raise NotImplementedError

    def plain(self, text: str, limit: int = MAX_VALUE) -> str:
        """Make a text from outside harmless."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[secret]")
        if "eyJ" in text:
            text = _TOKEN.sub("[token]", text)
        if len(text) > limit:
            text = f"{text[:limit]}..."
        return text if text.isprintable() else _CONTROLS.sub(_written_out, text)

    def message(self, event: LogEvent) -> str:
        """Say what happened in a sentence."""
        template = event.get("log_format")
        if template is None:
            return ""
        return self._values.vformat(str(template), (), event)

    def lines_below(self, event: LogEvent) -> list[str]:
        """Give the lines that belong to an event: of a failure, or of stacks."""
        lines: list[str] = [str(line) for line in event.get("log_lines", ())]
        failure = event.get("log_failure")
        if failure is not None:
            lines += str(failure.getTraceback()).splitlines()
        if len(lines) > _MAX_LINES:
            left = len(lines) - _MAX_LINES
            lines[_MAX_LINES // 2 : -_MAX_LINES // 2] = [f"... {left} lines left out ..."]
        return [self.plain(line.replace("\t", "    "), MAX_TEXT) for line in lines]


class _Values(Formatter):
    """Fills in a template as :mod:`twisted.logger` does, with each value made harmless."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def get_field(
        self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Find a value; one whose name ends with parentheses is called."""
        name = field_name.removesuffix("()")
        value, used = super().get_field(name, args, kwargs)
        value = value() if name != field_name else value
        if name in _PRINTED:
            return _Printed(value), used
        return value, used

    def format_field(self, value: Any, format_spec: str) -> str:
        """Write a value."""
        limit = MAX_TEXT if isinstance(value, _Printed) else MAX_VALUE
        return self._lines.plain(str(super().format_field(value, format_spec)), limit)


class _Printed:
    """What a program has printed: longer than a value, but a value all the same."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __str__(self) -> str:
        return str(self._value)


class TextLines(_Lines):
    """Lines as Twisted writes them; what belongs to an event follows it, indented by a tab."""

    def _write(self, event: LogEvent) -> bytes:
        level = event.get("log_level", LogLevel.info)
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level.name}"
        first = f"{_time(event):%Y-%m-%dT%H:%M:%S+0000} [{self.plain(str(system))}] "
        lines = [first + self.message(event), *self.lines_below(event)]
        return "\n\t".join(lines).encode("utf-8", "backslashreplace") + b"\n"


class JsonLines(_Lines):
    """One JSON object for each event.

    ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``event`` (the same name for events of the
    same kind), ``message`` (for people), ``fields`` (the values), and ``lines``: a traceback, or
    stacks.
    """

    def _write(self, event: LogEvent) -> bytes:
        told: dict[str, Any] = {
            "time": f"{_time(event):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": event.get("log_level", LogLevel.info).name,
            "logger": self.plain(str(event.get("log_namespace", ""))),
            "event": name_of(str(event.get("log_format", ""))),
            "message": self.message(event),
        }
        fields = {
            self.plain(str(key)): self._value(value)
            for key, value in event.items()
            if not key.startswith("log_") and key not in _LEGACY
        }
        if fields:
            told["fields"] = fields
        if lines := self.lines_below(event):
            told["lines"] = lines
        return msgspec.json.encode(told) + b"\n"

    def _value(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            # JSON has no numbers that are none, and some readers none above 2 ** 53.
            return value if abs(value or 0) < 2**53 else str(value)
        return self.plain(str(value))


@lru_cache(1024)
def name_of(template: str) -> str:
    """Name a kind of event after the words of its template: what does not change."""
    if template.strip("{}") in _PRINTED:
        return "printed"
    return _NOT_A_WORD.sub("_", template.lower()).strip("_")[:MAX_VALUE]


def _time(event: LogEvent) -> datetime:
    return datetime.fromtimestamp(event.get("log_time", 0.0), UTC)


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
