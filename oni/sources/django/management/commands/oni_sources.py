"""``manage.py oni_sources``: a process that delivers, and every instance through its sources."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

import crochet
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from twisted.logger import STDLibLogObserver, globalLogBeginner

from oni.errors import OniError
from oni.sources import SourcesProgress, model_name
from oni.sources.django._home import home
from oni.sources.django._processing import process_models

__all__ = ["Command"]

_FAILED = 1
_GAVE_UP = 75  # what sysexits.h calls a temporary failure


class Command(BaseCommand):
    """Delivers, or processes what was missed."""

    help = "Deliver the events of sources, or send every instance through its sources."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say what it can be told."""
        what = parser.add_subparsers(dest="what", required=True, metavar="work|process")
        what.add_parser(
            "work",
            help="Run handlers of what is due, until SIGTERM or Ctrl-C comes. The exit code is "
            "75 where handlers did not end within ONI['stop_timeout'].",
        )
        process = what.add_parser(
            "process",
            help="Send every instance of each MODEL, or of all that have sources, through its "
            "sources, and process what is new.",
        )
        process.add_argument("models", nargs="*", metavar="MODEL", help="As in blog.Post.")
        process.add_argument("--database", default=None, help="The alias of the database.")
        process.add_argument(
            "--batch", type=int, default=500, help="How many instances are read at once."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        if options["what"] == "work":
            self._work()
        else:
            self._process(options["models"], options["database"], options["batch"])

    def _work(self) -> None:
        crochet.no_setup()  # nobody but this function runs the reactor
        from twisted.internet import reactor as the_reactor

        reactor: Any = the_reactor
        globalLogBeginner.beginLoggingTo([STDLibLogObserver()], redirectStandardIO=False)
        running = home.work(reactor)
        running.on_unsafe = reactor.stop
        names = ", ".join(sorted(home.sources.handler_names())) or "none"
        self.stdout.write(f"Handlers: {names}")
        self.stdout.flush()
        reactor.run()
        if running.gave_up:
            sys.exit(_GAVE_UP)
        if running.error is not None:
            raise CommandError(str(running.error), returncode=_FAILED)

    def _process(self, names: list[str], using: str | None, batch: int) -> None:
        if batch < 1:
            raise CommandError(f"--batch is a positive number, not {batch}")
        models = [_model(name) for name in names] or None
        try:
            done = process_models(models, using=using, batch=batch, progress=self._tell)
        except OniError as error:
            raise CommandError(str(error)) from error
        self._tell(done, "\n")
        if done.failures:
            sys.exit(_FAILED)

    def _tell(self, so_far: SourcesProgress, end: str = "\r") -> None:
        """Show how far it is, on a terminal; and in the end anywhere."""
        if end == "\n" or self.stdout.isatty():
            text = f"{so_far.instances} instances, {so_far.events} events, {so_far.admitted} new"
            failures = f", {so_far.failures} failures" if so_far.failures else ""
            self.stdout.write(f"{text}{failures}", ending=end)


def _model(name: str) -> Any:
    sources = home.sources.model_sources
    try:
        model = apps.get_model(name)
    except (LookupError, ValueError) as error:
        raise CommandError(f"{name}: {error}") from error
    if model not in sources:
        known = ", ".join(sorted(map(model_name, sources))) or "none"
        raise CommandError(f"{name} has no sources; those that have: {known}")
    return model
