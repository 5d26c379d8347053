"""What a token says, as typed values. The names are Centrifugo's.

See https://centrifugal.dev/docs/server/authentication and, for subscription tokens,
https://centrifugal.dev/docs/server/channel_token_auth; ``iss`` to ``iat`` are RFC 7519's, 4.1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from oni.errors import BadRequestError
from oni.protocol import decode_json
from oni.server._grants import Grant
from oni.server.auth._jwt import BadTokenError

__all__ = ["Claims", "ConnectionClaims", "SubscriptionClaims", "read_claims"]

_Time = Annotated[float, Meta(ge=0, le=2**53)]  # seconds since 1970
_C = TypeVar("_C", bound="Claims")


class Claims(Struct, kw_only=True):
    """What every token may say.

    Attributes:
        sub: The user, ``""`` for nobody.
        iss: Who signed it.
        aud: For whom it is meant.
        exp: When it expires.
        nbf: Before when it is not valid.
        iat: When it was made.
        expire_at: When what it opens ends; 0: never. Without it, that is ``exp``.
        info: What others may know.
        b64info: The same, as base64 of JSON.
    """

    sub: str = ""
    iss: str | None = None
    aud: str | list[str] | None = None
    exp: _Time | None = None
    nbf: _Time | None = None
    iat: _Time | None = None
    expire_at: _Time | None = None
    info: Any = None
    b64info: str = ""

    @property
    def ends_at(self) -> float | None:
        """When what it opens ends, None for never."""
        if self.expire_at is None:
            return self.exp
        return self.expire_at or None

    @property
    def told(self) -> Any:
        """What others may know."""
        return _told(self.info, self.b64info)


class _Switch(Struct):
    value: bool = True


class _Override(Struct):
    """What the token says against the settings. The rest of Centrifugo's is always on here."""

    presence: _Switch | None = None

    @property
    def is_seen(self) -> bool:
        """Whether others know that the subscriber is there, where the settings let them."""
        return self.presence is None or self.presence.value


class _Sub(Struct):
    """How the server subscribes a client to one channel."""

    info: Any = None
    b64info: str = ""
    data: Any = None
    b64data: str = ""
    override: _Override | None = None

    @property
    def grant(self) -> Grant:
        """What comes with it."""
        return Grant(
            info=_told(self.info, self.b64info),
            data=_told(self.data, self.b64data),
            is_seen=self.override is None or self.override.is_seen,
        )


class ConnectionClaims(Claims, kw_only=True):
    """What a connection token may say.

    Attributes:
        channels: To which channels the server subscribes the client.
        subs: The same, with what belongs to each.
        meta: What the server's handlers may know of the connection, and nobody else.
        channel: Is in no connection token: a subscription token is none.
    """

    channels: list[str] = []
    subs: dict[str, _Sub] = {}
    meta: dict[str, Any] | None = None
    channel: Any = UNSET

    @property
    def grants(self) -> Mapping[str, Grant]:
        """What comes with each channel to which the server subscribes the client."""
        found = dict.fromkeys(self.channels, Grant())
        found.update((name, sub.grant) for name, sub in self.subs.items())
        return found


class SubscriptionClaims(Claims, kw_only=True):
    """What a subscription token may say.

    Attributes:
        channel: Which channel it opens.
        client: The one session that it is for, where it says so.
    """

    channel: str
    client: str | UnsetType = UNSET
    override: _Override | None = None

    @property
    def is_seen(self) -> bool:
        """Whether others know that the subscriber is there."""
        return self.override is None or self.override.is_seen


def read_claims(payload: bytes, kind: type[_C]) -> _C:
    """Read what a token says that is proven already.

    Raises:
        BadTokenError: It is not what such a token says.
    """
    try:
        return msgspec.convert(decode_json(payload, "claims"), kind)
    except BadRequestError as error:
        raise BadTokenError(str(error)) from error
    except msgspec.ValidationError as error:
        raise BadTokenError(f"its claims are wrong: {error}") from error


def _told(plain: Any, encoded: str) -> Any:
    """Give JSON that is there as it is, or as base64: Centrifugo's way for other protocols."""
    if not encoded:
        return plain
    try:
        return decode_json(base64.b64decode(encoded, validate=True))
    except (BadRequestError, binascii.Error) as error:
        raise BadTokenError("what it has as base64 is not JSON") from error
