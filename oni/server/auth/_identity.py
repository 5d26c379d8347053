"""Who somebody is."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from oni.server._grants import Grant

__all__ = ["Identity"]


class Identity(Struct, frozen=True, kw_only=True):
    """Who a client has been proven to be.

    A connection token says so, or a function that an application has given to
    :meth:`oni.server.Oni.authenticate`.

    Attributes:
        user: The user.
        grant: What comes with the connection: handlers find it as ``act.grant``. Its ``ttl`` is a
            bound: whatever they make of the grant, the connection does not last longer.
        meta: What handlers may know of the connection, and nobody else: they find it as
            ``act.meta``.
    """

    user: str
    grant: Grant = Grant()
    meta: Any = None
