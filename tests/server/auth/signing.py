"""Keys and tokens for tests. The private keys are made anew in each run."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SECRET = "not much of a mystery, as tests have it"


@cache
def pair(kind: str) -> tuple[str, str]:
    """Make a private key, and its public one: ``RS256``, ``ES256``, or a weak one of these."""
    key: Any
    if kind in ("RS256", "RSA-1024"):
        key = rsa.generate_private_key(65537, 2048 if kind == "RS256" else 1024)
    else:
        key = ec.generate_private_key(ec.SECP256R1() if kind == "ES256" else ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def segment(data: Any) -> str:
    """Encode one part of a token."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def with_header(token: str, **header: Any) -> str:
    """Give a token another header, and leave the rest as it is."""
    return ".".join([segment(header), *token.split(".")[1:]])
