"""``oni sources``: a process that delivers, and every instance through its sources."""

from __future__ import annotations

import click

from oni.command._failures import CommandError
from oni.command._options import read_settings
from oni.errors import LedgerUrlError, MissingExtraError, SettingsError
from oni.server.sources import run_worker

__all__ = ["sources"]

_FILE = click.Path(dir_okay=False)


@click.group(short_help="Deliver events of sources.")
def sources() -> None:
    """Deliver what sources have brought into a ledger.

    Handlers and sources are those that [sources] configure of the settings file registers.
    """


@sources.command(short_help="Run handlers until SIGTERM.")
@click.option(
    "--config", "-c", type=_FILE, required=True, metavar="FILE", help="The settings file."
)
def work(config: str) -> int:
    """Run the handlers of what is due in the ledger, until Ctrl-C or SIGTERM comes.

    It listens nowhere. Any number of such processes may share a ledger. What is logged goes to
    standard output, as [log] says. At the end nothing more is begun, what runs is waited for as
    long as server.stop_timeout allows, and what was not begun is given back. The exit code is 75
    if handlers were given up.
    """
    settings = read_settings(config)
    try:
        return run_worker(settings)
    except SettingsError as error:
        raise CommandError(f"{config}: {error.problems[0]}") from error
    except (LedgerUrlError, MissingExtraError) as error:
        raise CommandError(f"{config}: ledger.url: {error}") from error
