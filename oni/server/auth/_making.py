"""Make tokens: for tests, for the command line, and for applications in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

import msgspec

from oni.server.auth._jwt import sign

__all__ = ["make_token"]


def make_token(
    key: str,
    user: str = "",
    *,
    channel: str | None = None,
    ttl: float | None = 3600.0,
    info: Any = None,
    channels: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    issuer: str | None = None,
    audience: str | None = None,
    algorithm: str = "HS256",
    kid: str | None = None,
    now: float | None = None,
    **claims: Any,
) -> str:
    """Make a token, as whoever knows the users does.

    Args:
        key: The secret for HS256, or the private key's PEM.
        user: Whom it is for, ``""`` for nobody in particular.
        channel: Makes it a subscription token for this channel. Without it, it is a connection
            token.
        ttl: Seconds until it expires; None: it never does.
        info: What others may know about the connection or subscription, JSON.
        channels: For a connection: the channels to which the server subscribes it.
        meta: For a connection: what the server's handlers may know, a JSON object.
        issuer: The claim ``iss``.
        audience: The claim ``aud``.
        algorithm: ``HS256``, ``RS256`` or ``ES256``.
        kid: The key's name.
        now: Seconds since 1970; the machine's time if None.
        claims: More claims, such as ``nbf``, ``subs`` or ``expire_at``. One of None is left out.

    Returns:
        The token.

    Raises:
        ValueError: The key is not one for the algorithm, or there is no such algorithm.
        MissingExtraError: The extra ``server`` is not installed.
    """
    began = time() if now is None else now
    found: dict[str, Any] = {
        "sub": user,
        "iat": int(began),
        "exp": None if ttl is None else int(began + ttl),
        "channel": channel,
        "info": info,
        "channels": list(channels) or None,
        "meta": meta,
        "iss": issuer,
        "aud": audience,
        **claims,
    }
    told = {name: value for name, value in found.items() if value is not None}
    return sign(msgspec.json.encode(told), key, algorithm, kid)
