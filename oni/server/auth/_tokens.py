"""Tokens: who somebody is, and to which channel somebody may subscribe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import UNSET, Struct

from oni.channels import check_name
from oni.errors import ChannelNameError
from oni.server._grants import Grant
from oni.server.auth._claims import Claims, ConnectionClaims, SubscriptionClaims, read_claims
from oni.server.auth._identity import Identity
from oni.server.auth._jwt import BadTokenError, Key, signed_by
from oni.server.auth._settings import AuthSettings

__all__ = ["ExpiredTokenError", "Tokens"]

#: Seconds that are as good as for ever: what clients count with ends there.
_LONGEST = 2.0**31 - 1

_C = TypeVar("_C", bound=Claims)


class ExpiredTokenError(BadTokenError):
    """A token was good, and is too old: another one may do."""


class _Rules(Struct, frozen=True):
    issuer: str | None
    audience: str | None
    leeway: float


class Tokens:
    """Proves tokens.

    Args:
        settings: Who signs them, and for whom.
        keys: With what.
        now: Gives the time, in seconds since 1970.
    """

    def __init__(
        self, settings: AuthSettings, keys: Sequence[Key], now: Callable[[], float]
    ) -> None:
        self._keys = tuple(keys)
        self._rules = _Rules(settings.issuer, settings.audience, settings.leeway)
        self._now = now

    def __bool__(self) -> bool:
        """Whether any token can be proven."""
        return bool(self._keys)

    def identity(self, token: str) -> Identity:
        """Say who it is that comes with a connection token.

        Raises:
            ExpiredTokenError: It was right, and is too old.
            BadTokenError: It proves nothing.
        """
        claims = self._claims(token, ConnectionClaims)
        if claims.channel is not UNSET:
            raise BadTokenError("it is a subscription token")
        try:
            for name in claims.grants:
                check_name(name)
        except ChannelNameError as error:
            raise BadTokenError(str(error)) from error
        grant = Grant(info=claims.told, subs=claims.grants, ttl=self._ttl(claims))
        return Identity(user=claims.sub, grant=grant, meta=claims.meta)

    def permission(self, token: str, channel: str, user: str, client: str) -> Grant:
        """Say what somebody is given with a subscription token.

        Args:
            token: The token.
            channel: The channel that it shall open.
            user: Who comes with it.
            client: In which session.

        Raises:
            ExpiredTokenError: It was right, and is too old.
            BadTokenError: It proves nothing, or is for another channel, user or session.
        """
        claims = self._claims(token, SubscriptionClaims)
        if claims.channel != channel:
            raise BadTokenError("it is for another channel")
        if claims.sub != user:
            raise BadTokenError("it is for another user")
        if claims.client not in (UNSET, "", client):
            raise BadTokenError("it is for another session")
        return Grant(info=claims.told, ttl=self._ttl(claims), is_seen=claims.is_seen)

    def _claims(self, token: str, kind: type[_C]) -> _C:
        claims = read_claims(signed_by(token, self._keys), kind)
        rules, now = self._rules, self._now()
        if rules.issuer is not None and claims.iss != rules.issuer:
            raise BadTokenError("its issuer is another one")
        if not _is_meant(claims, rules.audience):
            raise BadTokenError("it is meant for somebody else")
        for begin in (claims.nbf, claims.iat):
            if begin is not None and begin > now + rules.leeway:
                raise BadTokenError("it is not valid yet")
        if claims.exp is not None and claims.exp <= now - rules.leeway:
            raise ExpiredTokenError("it has expired")
        return claims

    def _ttl(self, claims: Claims) -> float | None:
        if claims.ends_at is None:
            return None
        ttl = claims.ends_at - self._now()
        if ttl <= -self._rules.leeway:
            raise ExpiredTokenError("what it opens has ended")
        return min(max(ttl, 0.0), _LONGEST)


def _is_meant(claims: Claims, audience: str | None) -> bool:
    """Say whether a token is for us: RFC 7519, 4.1.3."""
    if claims.aud is None:
        return audience is None
    meant = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    return audience in meant
