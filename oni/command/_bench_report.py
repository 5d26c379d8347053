"""What ``oni bench`` shows: how far it is, and what it has found."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from oni.command._show import is_terminal, note

__all__ = ["Progress", "Result", "percentile", "print_result"]

_SHOWN = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured.

    Attributes:
        subscribers: How many heard the channel.
        messages: How many publications were to be made.
        size: Bytes added to each.
        in_flight: How many at once.
        seconds: From the first publish to the last arrival or answer.
        published: How many were made.
        refused: How many were refused.
        delivered: How many arrivals there were.
        ended_early: Why not all was done, ``""`` if all was.
        publish_times: Seconds from the begin of a publish to its answer.
        delivery_times: Seconds from the begin of a publish to one arrival.
    """

    subscribers: int
    messages: int
    size: int
    in_flight: int
    seconds: float
    published: int
    refused: int
    delivered: int
    ended_early: str
    publish_times: array[float]
    delivery_times: array[float]

    @property
    def missing(self) -> int:
        """How many arrivals there were not."""
        return max(self.published * self.subscribers - self.delivered, 0)

    @property
    def is_whole(self) -> bool:
        """Whether everything was published and arrived."""
        return not (self.ended_early or self.refused or self.missing)

    def told(self) -> dict[str, Any]:
        """Give it for programs; times in milliseconds."""
        seconds = self.seconds or 1e-9
        return {
            "subscribers": self.subscribers,
            "messages": self.messages,
            "size": self.size,
            "in_flight": self.in_flight,
            "seconds": round(self.seconds, 3),
            "published": self.published,
            "refused": self.refused,
            "delivered": self.delivered,
            "missing": self.missing,
            "ended_early": self.ended_early or None,
            "publishes_per_second": round(self.published / seconds, 1),
            "deliveries_per_second": round(self.delivered / seconds, 1),
            "publish_ms": _times(self.publish_times),
            "delivery_ms": _times(self.delivery_times),
        }


def percentile(ordered: array[float] | list[float], percent: float) -> float:
    """Give the value below or at which so many percent of these are (nearest rank)."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def _times(found: array[float]) -> dict[str, float] | None:
    if not found:
        return None
    ordered = sorted(found)
    times = {f"p{percent}": percentile(ordered, percent) for percent in _SHOWN}
    times["max"] = ordered[-1]
    return {name: round(value * 1000, 3) for name, value in times.items()}


def print_result(result: Result, as_json: bool) -> None:
    """Print it: JSON, plain lines, or a table for people."""
    told = result.told()
    if as_json:
        click.echo(msgspec.json.encode(told).decode())
        return
    rows = list(_rows(told))
    if is_terminal():
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(style="cyan")
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        Console(file=sys.stdout, highlight=False).print(table)
    else:
        for name, value in rows:
            click.echo(f"{name}: {value}")
    if told["ended_early"]:
        note(f"ended early: {told['ended_early']}")


def _rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("subscribers", f"{told['subscribers']:,}"),
        ("published", f"{told['published']:,} of {told['messages']:,}"),
        ("refused", f"{told['refused']:,}"),
        ("delivered", f"{told['delivered']:,}"),
        ("missing", f"{told['missing']:,}"),
        ("seconds", f"{told['seconds']:.3f}"),
        ("publishes/s", f"{told['publishes_per_second']:,.0f}"),
        ("deliveries/s", f"{told['deliveries_per_second']:,.0f}"),
    ]
    for kind in ("publish", "delivery"):
        for name, value in (told[f"{kind}_ms"] or {}).items():
            rows.append((f"{kind} {name}", f"{value:,.2f} ms"))
    return rows


class Progress:
    """A progress bar on standard error, where that is a terminal; else nothing.

    Args:
        subscribers: How many there will be.
        messages: How many publications there will be.
    """

    def __init__(self, subscribers: int, messages: int) -> None:
        console = Console(file=sys.stderr, highlight=False)
        self._is_shown = sys.stderr.isatty()
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not self._is_shown,
        )
        self._connecting = self._bar.add_task("connect", total=subscribers)
        self._publishing = self._bar.add_task("publish", total=messages)
        self._delivering = self._bar.add_task("deliver", total=subscribers * messages)

    def start(self) -> None:
        """Show it."""
        self._bar.start()

    def show(self, ready: int, published: int, delivered: int) -> None:
        """Show how far it is."""
        self._bar.update(self._connecting, completed=ready)
        self._bar.update(self._publishing, completed=published)
        self._bar.update(self._delivering, completed=delivered)
        self._bar.refresh()

    def say(self, text: str) -> None:
        """Say something beside it."""
        note(text)

    def stop(self) -> None:
        """Take it away."""
        self._bar.stop()
