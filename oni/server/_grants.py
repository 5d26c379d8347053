"""What a session or a subscription is given besides the permission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

__all__ = ["EXPIRY_GRACE", "Grant"]

#: Seconds after its end that a session or subscription still goes on: its refresh may be late.
EXPIRY_GRACE = 25.0


class Grant(Struct, frozen=True, kw_only=True):
    """What an application gives with a permission.

    A handler in ``before`` of a connect or subscribe sets it as ``act.grant``; a handler that
    answers ``refresh`` or ``sub_refresh`` returns it.

    Attributes:
        info: What others may know about this connection or subscription, JSON; it is in presence,
            joins and publications.
        data: What the client itself is told, JSON.
        channels: For a connection: the channels to which the server subscribes it.
        subs: The same, with what is given for each of these subscriptions.
        ttl: Seconds until it ends, unless it is refreshed; None: it does not end by itself.
        is_seen: For a subscription: whether others know that it is there.
    """

    info: Any = None
    data: Any = None
    channels: Sequence[str] = ()
    subs: Mapping[str, Grant] = {}
    ttl: float | None = None
    is_seen: bool = True
