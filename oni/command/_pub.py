"""``oni pub``: publish."""

from __future__ import annotations

import sys

import click
import msgspec

from oni.command._failures import CommandError
from oni.command._http import call
from oni.command._options import daemon_options, json_option
from oni.command._show import compact, position_text
from oni.command._target import Target
from oni.values import Position

__all__ = ["pub"]

_MAX_INPUT = 64 * 1024 * 1024


class _Published(msgspec.Struct):
    epoch: str = ""
    offset: int = 0


@click.command(short_help="Publish on a channel.")
@click.argument("channel")
@click.argument("data")
@click.option("--event", "-e", metavar="NAME", help="The event's name.  [default: message]")
@click.option(
    "--tag", "-t", "tags", multiple=True, metavar="NAME=VALUE", help="A tag; may be repeated."
)
@click.option("--text", is_flag=True, help="DATA is no JSON but text.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Publish once only, however often this is said with the same key within five minutes.",
)
@json_option
@daemon_options
def pub(
    channel: str,
    data: str,
    event: str | None,
    tags: tuple[str, ...],
    text: bool,
    idempotency_key: str | None,
    as_json: bool,
    target: Target,
) -> None:
    """Publish DATA on CHANNEL, and print the position that it got.

    DATA is JSON, or text with --text; - reads it from standard input.

    \b
      oni pub news '{"user": "bob"}' --event user_created --config oni.toml
      date | oni pub news - --text
    """  # noqa: D301 - click reads the \b
    body: dict[str, object] = {"channel": channel, "data": _data(data, text)}
    named = dict(map(_tag, tags))
    if event is not None:
        named["event"] = event
    if named:
        body["tags"] = named
    if idempotency_key is not None:
        body["idempotency_key"] = idempotency_key
    found = call(target, "publish", body, _Published)
    if as_json:
        told = {"channel": channel, "epoch": found.epoch, "offset": found.offset}
        click.echo(compact(msgspec.json.encode(told)))
    else:
        click.echo(position_text(Position(found.epoch, found.offset)))


def _data(argument: str, is_text: bool) -> object:
    """Give what is published; JSON stays as it was written.

    Raises:
        CommandError: It is neither.
    """
    if argument == "-":
        raw = bytes(sys.stdin.buffer.read(_MAX_INPUT))
    else:
        raw = argument.encode("utf-8", "surrogateescape")
    try:
        if is_text:
            return raw.decode("utf-8").rstrip("\n")
        msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise CommandError("DATA is not UTF-8") from error
    except msgspec.DecodeError as error:
        raise CommandError(f"DATA is no JSON: {error}. For a text say --text") from error
    return msgspec.Raw(raw)


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--tag")
    if name == "event":
        raise click.BadParameter("the event's name is said with --event", param_hint="--tag")
    return name, value
