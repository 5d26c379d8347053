"""Rates: how much of something may happen in a second, and how much of it at once."""

from __future__ import annotations

__all__ = ["Pace"]

_FINE = 1e-5  # seconds that do not count; a clock of many digits has no finer ones
_FORGIVEN = 60.0  # seconds; whoever owes more, because a clock was set back, owes only this


class Pace:
    """A rate that any number of things keep, each by one number: when it has paid for everything.

    What happens is paid for afterwards, by time. As long as no more than ``burst`` is owed, it is
    in time.

    Attributes:
        rate: So much in a second.
        burst: So much at once.
    """

    __slots__ = ("burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst

    # Hot: once per message that comes in.
    def spend(self, paid_at: float, now: float, amount: float = 1) -> float:
        """Let something happen.

        Args:
            paid_at: The number that is kept; 0 at the beginning.
            now: Seconds.
            amount: How much happens.

        Returns:
            The number to keep from now on.
        """
        if paid_at < now:
            paid_at = now
        elif paid_at > now + _FORGIVEN:
            paid_at = now + _FORGIVEN
        return paid_at + amount / self.rate

    def wait(self, paid_at: float, now: float) -> float:
        """Say how many seconds must pass until no more than the burst is owed; 0 or below: none.

        Args:
            paid_at: The number that is kept.
            now: Seconds.
        """
        return paid_at - now - self.burst / self.rate - _FINE
