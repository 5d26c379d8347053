"""Passes: how the console, which has shown the admin key elsewhere, comes in over a websocket.

A browser cannot send a header with a websocket, and a key has no place in an address. So the
console asks for a pass over HTTP, with the key, and connects with it as its token.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

import msgspec

from oni.channels import check_name
from oni.errors import ChannelNameError
from oni.server._acts import Act, session_of

if TYPE_CHECKING:
    from oni.server._session import Session

__all__ = ["MAX_PASSES", "PASS_TTL", "Passes"]

#: Seconds in which a pass must be used.
PASS_TTL = 30.0

#: So many unused ones there are, at most; then the oldest is worth nothing any more.
MAX_PASSES = 100

_PREFIX = "oni-pass:"


class Passes:
    """Issues passes, takes each of them once, and remembers who came in with one.

    Args:
        seconds: Gives the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._unused: dict[str, float] = {}
        self._sessions: WeakSet[Session] = WeakSet()

    def issue(self) -> str:
        """Make a pass."""
        now = self._seconds()
        self._unused = {one: end for one, end in self._unused.items() if end > now}
        while len(self._unused) >= MAX_PASSES:
            del self._unused[next(iter(self._unused))]
        made = _PREFIX + secrets.token_urlsafe(32)
        self._unused[made] = now + PASS_TTL
        return made

    def admits(self, act: Act) -> bool:
        """Say whether an act is allowed by a pass, whatever the settings say of clients.

        That is a connect with a pass for its token; and then a subscribe to any channel there may
        be, of which others are not told. Everything else is as for every client.
        """
        session = session_of(act)
        if session is None:
            return False
        if act.action == "connect":
            is_let_in = self._take(act.token)
            if is_let_in:
                self._sessions.add(session)
            return is_let_in
        if act.action != "subscribe" or session not in self._sessions:
            return False
        try:
            check_name(act.channel)
        except ChannelNameError:
            return False
        act.grant = msgspec.structs.replace(act.grant, is_seen=False)
        return True

    def _take(self, token: str) -> bool:
        # Looking one up tells nothing of another: they are random, and each is tried once.
        end = self._unused.pop(token, None) if token.startswith(_PREFIX) else None
        return end is not None and end > self._seconds()
