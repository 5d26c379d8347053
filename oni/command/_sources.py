"""``oni sources``: a process that delivers, and every instance through its sources."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import click
import msgspec

from oni.command._failures import CommandError
from oni.command._ledger_many import progress
from oni.command._options import read_settings
from oni.command._reactor import run
from oni.command._show import one_line
from oni.command._sources_process import Processing, chosen_models, count_instances
from oni.errors import LedgerUrlError, MissingExtraError, SettingsError
from oni.server import Settings
from oni.server.sources import (
    find_instances,
    make_worker_service,
    run_worker,
    settings_for_django,
)

__all__ = ["sources"]

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(short_help="Deliver events of sources.", no_args_is_help=False)
def sources() -> None:
    """Deliver what sources have brought into a ledger.

    Handlers and sources are those that [sources] configure of the settings file registers, or
    those of a Django project.
    """


def _settings_options(command: _F) -> _F:
    """Give a command the options that name settings; it is called with ``settings``."""

    @click.option(
        "--config",
        "-c",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="The settings file.",
    )
    @click.option(
        "--django",
        metavar="MODULE",
        help="Instead of it: the settings of a Django project, like mysite.settings, which is "
        "looked for from the current folder on.",
    )
    @click.pass_context
    @functools.wraps(command)
    def with_settings(ctx: click.Context, /, *arguments: Any, **options: Any) -> Any:
        config, module = options.pop("config"), options.pop("django")
        if (config is None) is (module is None):
            raise click.UsageError("say what holds: either --config or --django")
        with _said_in_one_line(config or module):
            if module is not None:
                settings = settings_for_django(module, os.getcwd())
            else:
                settings = read_settings(config)
            return ctx.invoke(command, *arguments, settings=settings, **options)

    return with_settings  # type: ignore[return-value]


@sources.command(short_help="Run handlers until SIGTERM.")
@_settings_options
def work(settings: Settings) -> int:
    """Run the handlers of what is due in the ledger, until Ctrl-C or SIGTERM comes.

    It listens nowhere. Any number of such processes may share a ledger. What is logged goes to
    standard output, as [log] says. At the end nothing more is begun, what runs is waited for as
    long as server.stop_timeout allows, and what was not begun is given back. The exit code is 75
    if handlers were given up.
    """
    return run_worker(settings)


@sources.command(short_help="Run every instance through its sources.")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many instances are looked at before their events are processed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@_settings_options
def process(models: tuple[str, ...], settings: Settings, batch: int, as_json: bool) -> int:
    """Run every instance of each MODEL, or of all that have sources, through all its sources.

    What was admitted before is not admitted again. Where sources.deliver is "here" the handlers
    of what is new run in this process, and are waited for. sources.instances says where instances
    come from. An instance with which a source fails is passed over, and the exit code is 1.
    """
    # A Django project says itself where handlers run.
    deliver = None if settings.sources.django_settings else settings.sources.deliver
    with ExitStack() as stack:

        def make(reactor: Any) -> Processing:
            service = make_worker_service(settings, reactor, deliver)
            instances_of = find_instances(settings)
            chosen = chosen_models(service.sources, models)
            total = count_instances(instances_of, chosen)
            made.append(
                Processing(
                    service.sources,
                    instances_of,
                    chosen,
                    batch,
                    settings.server.stop_timeout,
                    stack.enter_context(progress("process", total)),
                    reactor,
                )
            )
            return made[0]

        made: list[Processing] = []
        code = run(make)
    if made[0].error:
        click.echo(f"oni: {one_line(made[0].error)}", err=True)
    so_far = made[0].so_far
    figures = {name: getattr(so_far, name) for name in _FIGURES}
    if as_json:
        click.echo(msgspec.json.encode(figures).decode())
    else:
        click.echo(", ".join(f"{number} {name}" for name, number in figures.items()))
    return code


_FIGURES = ("instances", "events", "admitted", "failures")


@contextmanager
def _said_in_one_line(where: str) -> Iterator[None]:
    """Say in one line what is wrong with a settings file, or what it names.

    Raises:
        CommandError: Something is.
    """
    try:
        yield
    except SettingsError as error:
        raise CommandError(f"{where}: {error.problems[0]}") from error
    except (LedgerUrlError, MissingExtraError) as error:
        raise CommandError(f"{where}: {error}") from error
