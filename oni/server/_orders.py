"""Orders: what the server side wants of users and their sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from oni.protocol import CloseCode
from oni.values import Position

if TYPE_CHECKING:
    from oni.server._session import Session

__all__ = ["FORCED", "Farewell", "Order", "check_farewell", "sessions_of"]


class Farewell(Struct, frozen=True):
    """Why a connection is closed.

    Attributes:
        code: The websocket close code: it says whether the client comes back.
        reason: The text that goes with it.
    """

    code: int
    reason: str


#: How a connection is closed on an order that does not say how.
FORCED = Farewell(CloseCode.FORCE_DISCONNECT.code, CloseCode.FORCE_DISCONNECT.reason)


class Order(Struct, frozen=True, kw_only=True):
    """To whom something is to happen, and what comes with it. Handlers see it as ``act.request``.

    Attributes:
        user: The user whose sessions are meant; ``""`` is everybody without a name.
        client: Only this session of the user's, ``""`` for all.
        keep: Sessions that are not meant, by client id.
        info: For ``subscribe``: what others may know, JSON.
        since: For ``subscribe``: where the client stands, None for now.
        farewell: For ``disconnect``: why.
        expired: For ``refresh``: the sessions end now.
        ttl: For ``refresh``: seconds until they end, None: they do not end by themselves.
    """

    user: str
    client: str = ""
    keep: Sequence[str] = ()
    info: Any = None
    since: Position | None = None
    farewell: Farewell = FORCED
    expired: bool = False
    ttl: float | None = None


def sessions_of(order: Order, sessions: Iterable[Session]) -> Iterator[Session]:
    """Give the open sessions that an order means."""
    for session in tuple(sessions):
        if (
            session.is_open
            and session.user == order.user
            and order.client in ("", session.client)
            and session.client not in order.keep
        ):
            yield session


def check_farewell(farewell: Farewell) -> Farewell:
    """Give it back if it can be sent.

    Raises:
        ValueError: The code is none of an application's, or the reason is too long.
    """
    if not 3000 <= farewell.code <= 4999:
        raise ValueError(f"a close code is 3000 to 4999, not {farewell.code}")
    if len(farewell.reason.encode()) > 123:
        raise ValueError("a close reason has at most 123 bytes")
    return farewell
