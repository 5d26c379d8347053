"""Tell systemd how the daemon is: the protocol of ``sd_notify(3)``, without its library."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.logger import Logger

__all__ = ["Notify"]

_log = Logger()


class Notify:
    """Sends states to the socket that a supervisor named. Without one it does nothing.

    It never waits: a message that the socket does not take is dropped.

    Attributes:
        watchdog: Seconds within which the supervisor wants to hear of us, again and again; None
            if it does not.
    """

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        """Send nothing yet.

        Args:
            address: The socket: a path, or an abstract name after ``@``; None for none.
            watchdog: See the class.
        """
        self.watchdog = watchdog
        self._address = address
        self._socket: socket.socket | None = None
        self._has_complained = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int | None = None) -> Notify:
        """Read what the supervisor wants.

        Args:
            environ: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
            pid: Our process; another one's watchdog is not ours to feed.
        """
        address = environ.get("NOTIFY_SOCKET") or None
        if address is not None and not address.startswith(("/", "@")):
            _log.warn("NOTIFY_SOCKET names no socket that can be used: {address}", address=address)
            address = None
        wanted = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", "")
        watchdog = None
        # sd_watchdog_enabled(3): without WATCHDOG_PID it is meant for whoever reads it.
        is_ours = meant in ("", str(os.getpid() if pid is None else pid))
        if address and is_ours and wanted.isdecimal() and int(wanted) > 0:
            watchdog = int(wanted) / 1e6
        return cls(address, watchdog)

    def tell(self, **states: object) -> None:
        """Send states, like ``READY=1``, in one message."""
        if self._address is None:
            return
        lines = (f"{name}={str(value).splitlines()[0]}" for name, value in states.items())
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            if self._socket is None:
                kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind)
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                _log.warn("the supervisor could not be told: {error}", error=error)

    def close(self) -> None:
        """Send nothing more."""
        self._address = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
