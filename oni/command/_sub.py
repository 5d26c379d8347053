"""``oni sub``: hear channels, live, until told to stop."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from oni.command._options import POSITION, daemon_options, json_option
from oni.command._show import Printer
from oni.command._target import Target
from oni.command._tokens import token_options
from oni.values import Position

if TYPE_CHECKING:
    from oni.command._tail import Tail

__all__ = ["sub"]


@click.command(short_help="Hear channels, live.")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@click.option(
    "--since",
    multiple=True,
    metavar="[CHANNEL=]EPOCH:OFFSET",
    help="Begin after this position, if all since then is still kept; may be repeated.",
)
@click.option("--event", "-e", metavar="NAME", help="Only publications with this event name.")
@click.option(
    "--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many publications."
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing on standard error but errors.")
@json_option
@daemon_options
@token_options
def sub(
    channels: tuple[str, ...],
    since: tuple[str, ...],
    event: str | None,
    count: int | None,
    quiet: bool,
    as_json: bool,
    target: Target,
    token: Callable[[], str] | None,
) -> int:
    """Subscribe to each CHANNEL and print what is published, one publication a line.

    Columns with tabs between them: channel, position, event, data. When the connection is lost it
    is made again, and what was missed is printed, too; where that is not possible, a line on
    standard error says so (with --json also an object with "gap": true). Ctrl-C ends it, with the
    positions from which --since goes on.

    \b
      oni sub news --config oni.toml
      oni sub news sports --json | jq .data
    """  # noqa: D301 - click reads the \b
    # The other commands need no reactor, and begin sooner without these.
    from oni.command._reactor import run
    from oni.command._tail import Tail

    wanted = _places(tuple(dict.fromkeys(channels)), since)

    def make(reactor: Any) -> Tail:
        return Tail(target, wanted, Printer(as_json), reactor, event, count, quiet, token)

    return run(make)


def _places(channels: tuple[str, ...], since: tuple[str, ...]) -> dict[str, Position | None]:
    """Read where to begin in each channel."""
    wanted: dict[str, Position | None] = dict.fromkeys(channels)
    for text in since:
        channel, equals, place = text.rpartition("=")
        if not equals and len(channels) > 1:
            raise click.BadParameter(
                f"say of which channel: {shlex.quote(f'{channels[0]}={text}')}",
                param_hint="--since",
            )
        channel = channel or channels[0]
        if channel not in wanted:
            raise click.BadParameter(f"{channel!r} is not among CHANNEL", param_hint="--since")
        wanted[channel] = POSITION.convert(place, None, None)
    return wanted
