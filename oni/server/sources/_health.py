"""Whether the ledger does its work, for load balancers, supervisors and operators."""

from __future__ import annotations

from twisted.logger import Logger

__all__ = ["LedgerHealth"]

_log = Logger()


class LedgerHealth:
    """What is known of a ledger. What changes is logged, once.

    Attributes:
        was_opened: Whether it has been open since the process began with it.
        problem: What is wrong with it, ``""`` if nothing is known to be.
    """

    def __init__(self) -> None:
        self.was_opened = False
        self.problem = ""
        self._reason = ""

    def opens(self) -> None:
        """Begin (again): it is not open yet."""
        self.was_opened = False
        self.problem = "the ledger is not open yet"
        self._reason = ""

    def fails(self, reason: object) -> None:
        """Know that it does not answer, and why."""
        if self.was_opened:
            self.problem = "the ledger does not answer"
        if not self._reason:
            _log.warn("{problem}: {reason}", problem=self.problem, reason=str(reason))
        self._reason = str(reason)

    def answers(self) -> None:
        """Know that it does."""
        if self._reason:
            _log.info("the ledger answers again")
        self.was_opened = True
        self.problem = self._reason = ""
