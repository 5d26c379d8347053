"""Signatures of tokens, by PyJWT. Nothing else here knows that library.

Claims are not its business: it would look at the machine's clock.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from oni.errors import BadRequestError, MissingExtraError
from oni.protocol import decode_json
from oni.server.auth._settings import ALGORITHMS, MIN_SECRET

__all__ = ["BadTokenError", "Key", "load_public_key", "load_secret", "sign", "signed_by"]

#: A token that is longer is refused unread.
MAX_TOKEN = 16384

_MIN_RSA_BITS = 2048


class BadTokenError(Exception):
    """A token proves nothing. The text says why, for the log; it never holds the token."""


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """What a signature is proven with.

    Attributes:
        algorithm: The one algorithm that it is for.
        key: As the library wants it.
        kid: Its name, None where it has none.
    """

    algorithm: str
    key: Any
    kid: str | None = None


class _Header(msgspec.Struct):
    """What is read of a token's header; where a key could be had is not (``jku``, ``jwk``)."""

    alg: str
    kid: str | None = None


def load_secret(secret: str) -> Key:
    """Make the key of a secret.

    Raises:
        ValueError: It is too short, or something else than a secret.
    """
    return Key("HS256", _prepared("HS256", secret))


def load_public_key(algorithm: str, pem: str, kid: str | None = None) -> Key:
    """Make the key of a public key's PEM.

    Raises:
        ValueError: It is none, a private one, one for another algorithm, or too weak.
    """
    if "PRIVATE KEY" in pem:
        raise ValueError("that is a private key, which belongs to whoever signs; give its public")
    key = _prepared(algorithm, pem)
    if algorithm == "RS256" and key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"an RSA key has {_MIN_RSA_BITS} bits or more, not {key.key_size}")
    return Key(algorithm, key, kid)


def signed_by(token: str, keys: Iterable[Key]) -> bytes:
    """Give what a token says, if one of the keys proves it.

    The token's header only chooses among the keys: each is used with its own algorithm.

    Raises:
        BadTokenError: It is no token, or nobody known has signed it.
    """
    if len(token) > MAX_TOKEN:
        raise BadTokenError(f"longer than {MAX_TOKEN} bytes")
    if not token.isascii():
        raise BadTokenError("no token")
    header = _header_of(token)
    library = _library()
    for key in _choose(header, keys):
        try:
            found = library.PyJWS(algorithms=[key.algorithm]).decode_complete(
                token, key.key, algorithms=[key.algorithm]
            )
        except library.PyJWTError:
            continue
        return bytes(found["payload"])
    raise BadTokenError("no key proves it")


def sign(payload: bytes, key: str, algorithm: str, kid: str | None = None) -> str:
    """Make a token.

    Args:
        payload: The claims, JSON.
        key: The secret, or a private key's PEM.
        algorithm: One of :data:`oni.server.auth._settings.ALGORITHMS`.
        kid: The key's name.

    Raises:
        ValueError: The key is not one for the algorithm, or there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"tokens are signed by {', '.join(ALGORITHMS)}, not by {algorithm!r}")
    prepared = _prepared(algorithm, key)
    if algorithm != "HS256" and not hasattr(prepared, "sign"):
        raise ValueError("a token is signed with a private key")
    headers = {} if kid is None else {"kid": kid}
    token: str = _library().PyJWS().encode(payload, prepared, algorithm, headers)
    return token


def _choose(header: _Header, keys: Iterable[Key]) -> list[Key]:
    """Choose those of the token's algorithm: the one that it names, or those without a name."""
    fitting = [key for key in keys if key.algorithm == header.alg]
    if header.kid is None:
        return fitting
    named = [key for key in fitting if key.kid == header.kid]
    return named or [key for key in fitting if key.kid is None]


def _header_of(token: str) -> _Header:
    text = token.partition(".")[0]
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.convert(decode_json(raw), _Header)
    except (BadRequestError, binascii.Error, msgspec.ValidationError) as error:
        raise BadTokenError("no token") from error


def _prepared(algorithm: str, key: str) -> Any:
    """Let the library look at a key.

    Raises:
        ValueError: It is not one for the algorithm.
    """
    if algorithm == "HS256" and len(key) < MIN_SECRET:
        raise ValueError(f"a secret has {MIN_SECRET} characters or more")
    library = _library()
    try:
        return library.PyJWS().get_algorithm_by_name(algorithm).prepare_key(key)
    except (library.PyJWTError, TypeError, ValueError) as error:
        # What the library says may repeat the key.
        raise ValueError(f"that is no key for {algorithm}") from error
    except NotImplementedError as error:
        raise MissingExtraError("tokens", "server", error) from error


def _library() -> Any:
    try:
        import jwt
    except ImportError as error:
        raise MissingExtraError("tokens", "server", error) from error
    return jwt
