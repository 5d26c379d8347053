"""What is printed: plain and stable for programs, with colours for people.

Names and data come from anywhere. What is not printable is escaped, so that no publication moves
a terminal's cursor or hides a line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from oni.values import Position

__all__ = [
    "Printer",
    "compact",
    "is_terminal",
    "note",
    "one_line",
    "position_text",
]


def one_line(text: str) -> str:
    """Give the text with everything escaped that is not printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    """Escape as JSON does: text that was JSON stays the same JSON."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n] << 8 | units[n + 1]:04x}" for n in range(0, len(units), 2))


def compact(data: bytes | msgspec.Raw) -> str:
    """Give JSON as one line without white space, its numbers as they were written."""
    return one_line(msgspec.json.format(bytes(data), indent=-1).decode("utf-8"))


def position_text(position: Position) -> str:
    """Give a position as options take it."""
    return f"{one_line(position.epoch)}:{position.offset}"


def is_terminal() -> bool:
    """Say whether a person reads standard output."""
    return sys.stdout.isatty()


def note(text: str) -> None:
    """Tell a person something that is no output, on standard error."""
    Console(file=sys.stderr, highlight=False).print(
        Text(f"oni: {one_line(text)}"), style="dim", soft_wrap=True
    )


class Printer:
    """Prints publications, one a line, each at once.

    Args:
        as_json: JSON objects; else columns with tabs between them, and on a terminal colours.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console: Console | None = None
        if is_terminal() and not as_json:
            self._console = Console(file=sys.stdout, highlight=False)

    def publication(
        self,
        channel: str,
        position: Position,
        tags: Mapping[str, str],
        data: bytes | msgspec.Raw,
        info: Any = None,
    ) -> None:
        """Print a publication."""
        event = tags.get("event", "message")
        if self._as_json:
            found = {
                "channel": channel,
                "epoch": position.epoch,
                "offset": position.offset,
                "event": event,
                "tags": {name: value for name, value in tags.items() if name != "event"},
                "data": msgspec.Raw(bytes(data)),
            }
            self._write(compact(msgspec.json.encode(found)))
        elif self._console is not None:
            line = Text(one_line(channel), style="cyan")
            line.append(f" {position.offset} ", style="dim")
            line.append(one_line(event), style="bold green")
            line.append(" " + compact(data), style="default")
            self._console.print(line, soft_wrap=True)
        else:
            self._write(
                "\t".join(
                    (one_line(channel), position_text(position), one_line(event), compact(data))
                )
            )

    def gap(self, channel: str, position: Position) -> None:
        """Print, for programs, that publications up to this position are missing."""
        if self._as_json:
            told = {
                "channel": channel,
                "epoch": position.epoch,
                "offset": position.offset,
                "gap": True,
            }
            self._write(compact(msgspec.json.encode(told)))

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
