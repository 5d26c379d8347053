"""Whether the daemon does its work, for load balancers and supervisors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from oni.interfaces import IChannels

__all__ = ["Condition"]


class Condition:
    """Where the daemon stands between its start and its end.

    Attributes:
        state: ``starting``, ``running`` (the backend has started), ``draining`` (it was told to
            stop: nobody new should come) or ``stopped``.
    """

    def __init__(self, channels: IChannels) -> None:
        """Be starting.

        Args:
            channels: Say whether their backend works.
        """
        self.state: Literal["starting", "running", "draining", "stopped"] = "starting"
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
        return ()
