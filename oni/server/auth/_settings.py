"""``[auth]``: what the settings say about who may connect."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["ALGORITHMS", "MIN_SECRET", "AuthSettings", "PublicKey"]

MIN_SECRET = 32
"""Characters that a secret for HS256 must have (RFC 7518, 3.2: as many bits as the hash)."""

ALGORITHMS = ("HS256", "RS256", "ES256")
"""The algorithms that tokens may be signed with. ``none`` is none of them."""

_Text = Annotated[str, Meta(min_length=1)]


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``auth.public_keys``. It is for one algorithm, whatever a token says.

    Attributes:
        algorithm: Which.
        file: Where the key is, PEM, relative to the settings file.
        pem: The key itself, instead.
        kid: Its name: tokens that name a key are proven with that one only.
    """

    algorithm: Literal["RS256", "ES256"] | None = None
    file: _Text | None = None
    pem: _Text | None = None
    kid: _Text | None = None


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[auth]``: who may connect."""

    anonymous: Annotated[
        bool, Meta(description="Whether a client may connect without saying who it is.")
    ] = False
    hmac_secret: Annotated[
        Annotated[str, Meta(min_length=MIN_SECRET)] | None,
        Meta(description="The secret with which tokens are signed by HS256."),
    ] = None
    hmac_secret_file: Annotated[
        _Text | None,
        Meta(
            description="A file that holds that secret instead, relative to the settings file. "
            "Space around it does not count."
        ),
    ] = None
    public_keys: Annotated[
        tuple[PublicKey, ...],
        Meta(
            description="Public keys with which tokens are proven: tables with algorithm ('RS256' "
            "or 'ES256'), file or pem, and kid where tokens name their key."
        ),
    ] = ()
    issuer: Annotated[
        _Text | None, Meta(description="What the claim iss of every token must be.")
    ] = None
    audience: Annotated[
        _Text | None,
        Meta(
            description="What the claim aud of every token must be, or have among others. Without "
            "it a token must have no aud: it is meant for somebody else."
        ),
    ] = None
    leeway: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="Seconds by which the clock of whoever signs tokens may differ from "
            "this one's.",
        ),
    ] = 5.0

    def __repr__(self) -> str:
        """Say how tokens are proven, not with what."""
        secret = "..." if self.hmac_secret or self.hmac_secret_file else None
        return (
            f"AuthSettings(anonymous={self.anonymous}, hmac_secret={secret}, "
            f"public_keys={len(self.public_keys)})"
        )

    @property
    def proves_tokens(self) -> bool:
        """Whether there is anything that tokens can be proven with."""
        return bool(self.hmac_secret or self.hmac_secret_file or self.public_keys)
