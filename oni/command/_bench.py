"""``oni bench``: how fast a running daemon is, for these subscribers and publications."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from oni.command._failures import CommandError
from oni.command._options import DURATION, daemon_options
from oni.command._target import Target
from oni.command._tokens import token_options

if TYPE_CHECKING:
    from oni.command._bench_run import Bench

__all__ = ["bench"]

_MOST_DELIVERIES = 10_000_000
_SPARE_DESCRIPTORS = 64


@click.command(short_help="Measure a running daemon.")
@click.option(
    "--subscribers",
    "-s",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    metavar="N",
    help="How many connections hear the channel.",
)
@click.option(
    "--messages",
    "-m",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many publications are made.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="N",
    help="How many of them wait for their answer at once.",
)
@click.option(
    "--size",
    type=click.IntRange(0, 60_000),
    default=100,
    show_default=True,
    metavar="BYTES",
    help="How much is added to the data of each.",
)
@click.option(
    "--channel", default="bench", show_default=True, metavar="CHANNEL", help="On which channel."
)
@click.option(
    "--limit",
    type=DURATION,
    default=60.0,
    metavar="TIME",
    help="End after this time, with what there is until then.  [default: 1m]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@daemon_options
@token_options
def bench(
    subscribers: int,
    messages: int,
    in_flight: int,
    size: int,
    channel: str,
    limit: float,
    as_json: bool,
    target: Target,
    token: Callable[[], str] | None,
) -> int:
    """Connect subscribers to a channel, publish on it over the API, and print rates and times.

    The time of a delivery is that from the begin of the publish to the end of its arrival at one
    subscriber, both in this process. This is one process in Python: where it uses a whole core,
    the daemon could do more. The exit code is 1 if a publication was refused or did not arrive.

    \b
      oni bench --subscribers 100 --messages 5000 --config oni.toml
    """  # noqa: D301 - click reads the \b
    if subscribers * messages > _MOST_DELIVERIES:
        raise CommandError(
            f"{subscribers} subscribers and {messages} messages make "
            f"{subscribers * messages:,} deliveries; at most {_MOST_DELIVERIES:,} are measured"
        )
    if limit <= 0:
        raise click.UsageError("--limit: expected a time above 0")
    _check_descriptors(subscribers + in_flight)
    # The other commands need no reactor, and begin sooner without these.
    from oni.command._bench_run import Bench, Load
    from oni.command._reactor import run

    load = Load(channel, subscribers, messages, in_flight, size, limit)

    def make(reactor: Any) -> Bench:
        return Bench(target, load, reactor, as_json, token)

    return run(make)


def _check_descriptors(connections: int) -> None:
    """Raise this process's limit of open files as far as is needed and allowed.

    Raises:
        CommandError: That is not far enough.
    """
    needed = connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if needed > hard:
        raise CommandError(
            f"{connections} connections need {needed} file descriptors, this process may have "
            f"{hard}: raise `ulimit -n`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
