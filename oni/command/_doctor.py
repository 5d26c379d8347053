"""``oni doctor``: look at everything that makes a daemon safe and well, and say what to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oni.command._doctor_daemon import look_at_daemon
from oni.command._doctor_here import look_here
from oni.command._doctor_rows import Level, Row
from oni.command._doctor_settings import look_at_settings
from oni.command._failures import FAILED
from oni.command._options import daemon_options, json_option
from oni.command._show import is_terminal, one_line
from oni.command._target import Target

__all__ = ["doctor"]

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}


@click.command(short_help="Look whether all is well.")
@json_option
@click.pass_context
@daemon_options
def doctor(ctx: click.Context, target: Target, as_json: bool) -> int:
    """Look at this machine, at the settings of --config and their ledger, and at a daemon.

    Each row is ok, a warning or an error, with what to do. The exit code is 1 if there is an
    error. A daemon that does not answer is an error only if --url or ONI_URL names it. To look at
    the headers' guard, requests are sent that a sound daemon refuses.

    \b
      oni doctor --config oni.toml
      oni doctor --url https://events.example.org
    """  # noqa: D301 - click reads the \b
    rows = list(look_here(target.settings))
    if target.settings is not None:
        path = str(_parameter(ctx, "config"))
        rows += look_at_settings(target.settings, path)
    is_named = _parameter(ctx, "url") is not None and target.settings is None
    is_named |= ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE
    rows += look_at_daemon(target, is_named)
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(row).decode())
    elif is_terminal():
        _show_table(rows)
    else:
        for row in rows:
            todo = f" -- {row.todo}" if row.todo else ""
            click.echo(one_line(f"{row.level.value:<7}  {row.what}: {row.found}{todo}"))
    return FAILED if any(row.level is Level.ERROR for row in rows) else 0


def _parameter(ctx: click.Context, name: str) -> object:
    return ctx.params.get(name)


def _show_table(rows: Sequence[Row]) -> None:
    console = Console(file=sys.stdout, highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold", ratio=1)
    for row in rows:
        text = Text(one_line(row.found))
        if row.todo:
            text.append(f"\n{one_line(row.todo)}", style="italic")
        table.add_row(Text(row.level.value, style=_STYLES[row.level]), row.what, text)
    console.print(table)
