"""A project's event sources in a process that is somebody else's: Oni's daemon, or a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from oni.ledger import Relay
from oni.sources import EventSources
from oni.sources.django._home import home

__all__ = ["Lent", "lend"]


@dataclass(frozen=True, slots=True)
class Lent:
    """What is opened, looked after and closed by whoever it was lent to.

    Attributes:
        sources: The event sources, with their ledger.
        relays: What carries events from other databases into the ledger.
        opened: Is called when the ledger is open: threads wait for it.
        stop_timeout: Seconds that handlers have at the end, as ``ONI`` says.
    """

    sources: EventSources
    relays: Sequence[Relay]
    opened: Callable[[], None]
    stop_timeout: float


def lend(reactor: Any, deliver: Literal["here", "worker"] | None = None) -> Lent:
    """Give a project's event sources away, in the place of the thread that would run them.

    Args:
        reactor: The reactor, which the caller runs.
        deliver: Where handlers run; None: as ``ONI`` says.
    """
    if deliver is not None:
        home.sources.configure(deliver=deliver)
    running = home.lend(reactor)
    return Lent(running.sources, running.relays, running.opened, running.stop_timeout)
