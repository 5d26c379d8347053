"""Read ``[auth]`` of a settings file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from oni.server._tables import article, convert_table
from oni.server.auth._settings import AuthSettings, PublicKey

__all__ = ["SECRETS", "read_auth"]

#: Keys whose values are never repeated.
SECRETS = ("hmac_secret", "key", "pem")


def read_auth(table: object, problems: list[str]) -> AuthSettings | None:
    """Convert the section; its public keys are tables of their own.

    Args:
        table: What the file holds there.
        problems: Gets one line for everything that is wrong.
    """
    if not isinstance(table, Mapping) or "public_keys" not in table:
        return convert_table(AuthSettings, table, "auth", problems, secrets=SECRETS)
    rest = {key: value for key, value in table.items() if key != "public_keys"}
    settings = convert_table(AuthSettings, rest, "auth", problems, secrets=SECRETS)
    keys = _public_keys(table["public_keys"], problems)
    return None if settings is None else msgspec.structs.replace(settings, public_keys=keys)


def _public_keys(value: Any, problems: list[str]) -> tuple[PublicKey, ...]:
    path = "auth.public_keys"
    if not isinstance(value, list):
        problems.append(f"{path}: expected a list of tables, got {article(value)}")
        return ()
    found = []
    for place, entry in enumerate(value):
        key = convert_table(PublicKey, entry, f"{path}[{place}]", problems, secrets=SECRETS)
        # A wrong one keeps its place, by which the others are named; `problems` says so.
        found.append(PublicKey() if key is None else key)
    return tuple(found)
