"""Owners that can be seen to live by the name of a connection, which ends with the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from secrets import token_hex
from threading import Lock
from typing import Protocol

from oni.errors import LedgerUnavailableError

__all__ = ["ForbiddenError", "Owners", "Session", "Sessions"]

_GRACE = 2.0  # seconds: so long does everybody have to come back after a server has been away
_UNNAMED = 60  # seconds for which somebody who cannot be named keeps others from being sure
_REFRESH = 20.0


class ForbiddenError(Exception):
    """The server does not let this user do something."""


class Session(Protocol):
    """A connection that belongs to whoever asked."""

    def name(self, name: str) -> None:
        """Give it a name, ``""`` for none. Raises :class:`ForbiddenError`."""

    def close(self) -> None:
        """End it."""


class Sessions(Protocol):
    """Where connections are made, and looked at."""

    prefix: str

    def dedicate(self) -> Session:
        """Give a connection of its own."""

    def names(self) -> Collection[str]:
        """Give the names of all connections. Raises :class:`ForbiddenError`."""

    def keep_for(self, key: str, seconds: int) -> None:
        """Keep a key for so long."""

    def is_kept(self, key: str) -> bool:
        """Say whether it is still there."""


class Owners:
    """Each owner that is here has a connection with its name. Any thread may ask.

    Where the server forbids that, an owner's lease is all there is: everybody seems to live.

    Args:
        sessions: Where connections are made.
        seconds: Gives seconds that only run forward.
    """

    def __init__(self, sessions: Sessions, seconds: Callable[[], float] = time.monotonic) -> None:
        self.can_be_seen = True
        self._sessions = sessions
        self._seconds = seconds
        self._held: dict[str, Session | None] = {}
        self._lock = Lock()
        self._sure_at = -_GRACE
        self._told_at: float | None = None

    def probe(self) -> None:
        """Look whether a name that is given here is seen, and is gone when it is taken back."""
        probe = token_hex(16)  # another that opens its store now has another
        self.can_be_seen = True
        self.enter(probe)
        try:
            seen = self._is_named(probe)
        except ForbiddenError:
            seen = False
        self.leave(probe)
        self.can_be_seen = self.can_be_seen and seen and not self._is_named(probe)

    def enter(self, owner: str) -> None:
        """Let an owner be seen, or see that it still can: a connection that was lost is replaced.

        Then all others may have lost theirs, too, and are taken to live until they had time.
        """
        with self._lock:
            was_here = owner in self._held
            session = self._held.get(owner)
            try:
                if session is None:
                    session = self._held[owner] = self._sessions.dedicate()
                    if was_here:
                        self._sure_at = self._seconds()
                session.name(_name(owner))
            except ForbiddenError:
                self.can_be_seen = False
                self._tell_of_unnamed()
            except BaseException:
                self._close(owner)
                self._held[owner] = None
                raise

    def leave(self, owner: str) -> None:
        """Let an owner be seen no more."""
        with self._lock:
            session = self._held.get(owner)
            if session is not None:
                # The server may notice later that a connection has ended.
                with suppress(LedgerUnavailableError, ForbiddenError):
                    session.name("")
            self._close(owner)

    def close(self) -> None:
        """Let everybody leave."""
        for owner in list(self._held):
            self.leave(owner)

    def is_alive(self, owner: str) -> bool:
        """Say whether an owner can be seen."""
        if not self.can_be_seen or not owner.isalnum():
            return True  # its lease decides
        if self._seconds() - self._sure_at < _GRACE:
            return True
        try:
            return self._is_named(owner) or self._sessions.is_kept(self._unnamed)
        except ForbiddenError:
            return True

    def _is_named(self, owner: str) -> bool:
        return _name(owner) in self._sessions.names()

    @property
    def _unnamed(self) -> str:
        return f"{self._sessions.prefix}unnamed"

    def _tell_of_unnamed(self) -> None:
        """Let others know that somebody lives whom they cannot see."""
        now = self._seconds()
        if self._told_at is None or now - self._told_at >= _REFRESH:
            self._sessions.keep_for(self._unnamed, _UNNAMED)
            self._told_at = now

    def _close(self, owner: str) -> None:
        session = self._held.pop(owner, None)
        if session is not None:
            with suppress(LedgerUnavailableError):
                session.close()


def _name(owner: str) -> str:
    return f"oni-ledger-{owner}"
