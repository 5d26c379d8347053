"""Whether the daemon does its work, for load balancers and supervisors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from oni.interfaces import IChannels
from oni.server.sources._health import LedgerHealth

__all__ = ["Condition"]


class Condition:
    """Where the daemon stands between its start and its end.

    Attributes:
        state: ``starting``, ``running`` (the backend has started), ``draining`` (it was told to
            stop: nobody new should come) or ``stopped``.
        ledger: How the ledger is, where there is one.
    """

    def __init__(self, channels: IChannels) -> None:
        """Be starting.

        Args:
            channels: Say whether their backend works.
        """
        self.state: Literal["starting", "running", "draining", "stopped"] = "starting"
        self.ledger: LedgerHealth | None = None
        self._channels = channels

    def began(self) -> None:
        """Start (again)."""
        self.state = "starting"

    def started(self) -> None:
        """Run, if nobody has asked for the end meanwhile."""
        if self.state == "starting":
            self.state = "running"

    def drains(self) -> None:
        """Begin to end."""
        if self.state != "stopped":
            self.state = "draining"

    def stopped(self) -> None:
        """Have ended."""
        self.state = "stopped"

    @property
    def is_draining(self) -> bool:
        """Whether the end has begun."""
        return self.state in ("draining", "stopped")

    @property
    def has_begun(self) -> bool:
        """Whether the start is over: the backend has started, and the ledger has been opened."""
        return self.state == "running" and not self._waits_for_ledger()

    @property
    def is_ready(self) -> bool:
        """Whether new clients are welcome."""
        return not self.problems()

    def problems(self) -> Sequence[str]:
        """Say why new clients should go elsewhere; nothing if they should not."""
        if self.state != "running":
            return (self.state,)
        figures = self._channels.statistics()
        # A backend that says nothing of itself is taken at its word: it has started.
        if figures.get("deaf", 0):
            return ("the backend is deaf: what others publish does not arrive",)
        if not figures.get("backend_up", 1):
            return ("the backend is down",)
        if self.ledger is not None and self._waits_for_ledger():
            return (self.ledger.problem,)
        return ()

    def troubles(self) -> Sequence[str]:
        """Say what does not work though the process lives, for those who look after it.

        A ledger that was open and does not answer any more keeps no client from coming: what it
        is asked for fails, and works again when it is back.
        """
        return (self.ledger.problem,) if self.ledger is not None and self.ledger.problem else ()

    def _waits_for_ledger(self) -> bool:
        return self.ledger is not None and not self.ledger.was_opened
