"""Autobahn's log, without the lines that clients could fill it with."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

__all__ = ["QuietLog"]

_log = Logger()


class QuietLog:
    """Takes what Autobahn logs of a connection.

    It warns of each frame that is wrong, and of each closing that is not answered: whoever sends
    such frames would write the log. Sessions count them by their close code.
    """

    def debug(self, format: str, **values: Any) -> None:
        """Drop it: it is said at each read."""

    def info(self, format: str, **values: Any) -> None:
        """Keep what a client does for debugging."""
        _log.debug(format, **values)

    warn = info

    def error(self, format: str, **values: Any) -> None:
        """Log what is wrong here."""
        _log.error(format, **values)
