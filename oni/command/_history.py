"""``oni history``: what a channel keeps."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from oni.command._failures import CommandError
from oni.command._http import call
from oni.command._options import POSITION, daemon_options, json_option
from oni.command._show import Printer, note, one_line, position_text
from oni.command._target import Target
from oni.values import Position

__all__ = ["history"]

_HINTS = {108: "; nothing is kept there: see history_size and history_ttl of its namespace"}
_PAGE = 300  # publications that are asked for at once


class _Entry(msgspec.Struct):
    data: msgspec.Raw
    offset: int = 0
    tags: dict[str, str] = {}


class _Page(msgspec.Struct):
    publications: list[_Entry] = []
    epoch: str = ""
    offset: int = 0


@click.command(short_help="Print what a channel keeps.")
@click.argument("channel")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    metavar="N",
    help="How many, at most; 0 for all.",
)
@click.option(
    "--since",
    type=POSITION,
    metavar="EPOCH:OFFSET",
    help="Begin after this position, with the oldest. Without it the newest are printed.",
)
@click.option("--reverse", is_flag=True, help="The newest first; with --since: from there back.")
@json_option
@daemon_options
def history(
    channel: str,
    limit: int,
    since: Position | None,
    reverse: bool,
    as_json: bool,
    target: Target,
) -> None:
    """Print the publications that CHANNEL keeps, one a line.

    Columns with tabs between them: channel, position, event, data. The position at the end, on
    standard error, is that of the newest publication; `oni sub --since` goes on from there.
    """
    backwards = reverse or since is None
    entries, top = _read(target, channel, limit, since, backwards)
    if backwards and not reverse:
        entries.reverse()
    printer = Printer(as_json)
    for entry in entries:
        position = Position(top.epoch, entry.offset)
        printer.publication(channel, position, entry.tags, entry.data)
    many = "1 publication" if len(entries) == 1 else f"{len(entries)} publications"
    note(f"{many} of {one_line(channel)}, which stands at {position_text(top)}")


def _read(
    target: Target, channel: str, limit: int, since: Position | None, reverse: bool
) -> tuple[list[_Entry], Position]:
    """Read page after page, until there are enough or there is no more."""
    found: list[_Entry] = []
    at, top = since, None
    while True:
        wanted = min(_PAGE, limit - len(found)) if limit else _PAGE
        body: dict[str, Any] = {"channel": channel, "limit": wanted, "reverse": reverse}
        if at is not None:
            body["since"] = {"epoch": at.epoch, "offset": at.offset}
        page = call(target, "history", body, _Page, _HINTS)
        if top is None:
            top = Position(page.epoch, page.offset)
        if page.epoch != top.epoch:
            raise CommandError("the channel began anew meanwhile; ask again")
        found += page.publications
        if not page.publications or (limit and len(found) >= limit):
            return found, top
        at = Position(page.epoch, page.publications[-1].offset)
