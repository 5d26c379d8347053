"""The keys that the settings name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from typing import TypeVar

import msgspec

from oni.errors import MissingExtraError, SettingsError
from oni.server._tables import convert_table
from oni.server.auth._jwt import Key, load_public_key, load_secret
from oni.server.auth._settings import AuthSettings, PublicKey

__all__ = ["key_problems", "keys_of", "read_text", "with_key"]

_T = TypeVar("_T", bound=msgspec.Struct)

_MAX_KEY_FILE = 65536


def keys_of(settings: AuthSettings, folder: str | None = None) -> tuple[Key, ...]:
    """Load every key.

    Args:
        settings: What they are.
        folder: Where relative files are.

    Raises:
        SettingsError: Some cannot be had; it names all of them.
    """
    problems: list[str] = []
    found = _load(settings, folder, problems)
    if problems:
        raise SettingsError(problems)
    return found


def key_problems(
    settings: AuthSettings, folder: str | None = None, wrong: Collection[str] = ()
) -> list[str]:
    """Say which keys cannot be had, and why.

    Args:
        settings: What they are.
        folder: Where relative files are.
        wrong: The paths of which is known already that something is wrong there.
    """
    problems: list[str] = []
    _load(settings, folder, problems, {path.rpartition("]")[0] for path in wrong})
    return problems


def with_key(table: _T | None, section: str, folder: str | None, problems: list[str]) -> _T | None:
    """Take the ``key`` of a section from its ``key_file``, where it has one.

    Args:
        table: The section.
        section: Its name.
        folder: Where relative files are.
        problems: Gets one line for everything that is wrong.
    """
    path = getattr(table, "key_file", None)
    if table is None or path is None:
        return table
    try:
        if table.key is not None:  # type: ignore[attr-defined]
            raise ValueError("key is set, too")
        text = read_text(path, folder).strip()
    except ValueError as error:
        problems.append(f"{section}.key_file: {error}")
        return table
    found = convert_table(type(table), {"key": text}, section, problems, secrets=("key",))
    return msgspec.structs.replace(table, key=found.key)  # type: ignore[union-attr]


def _load(
    settings: AuthSettings, folder: str | None, problems: list[str], wrong: Collection[str] = ()
) -> tuple[Key, ...]:
    keys = [_secret(settings, folder, problems)]
    for place, entry in enumerate(settings.public_keys):
        path = f"auth.public_keys[{place}"
        if path not in wrong:
            keys.append(_public(entry, folder, f"{path}]", problems))
    found = tuple(key for key in keys if key is not None)
    for (algorithm, kid), number in Counter((key.algorithm, key.kid) for key in found).items():
        if kid is not None and number > 1:
            problems.append(f"auth.public_keys: {number} keys of {algorithm} have the kid {kid!r}")
    return found


def read_text(path: str, folder: str | None) -> str:
    """Read a small file that the settings name.

    Raises:
        ValueError: It cannot be read, or is no text.
    """
    path = os.path.join(folder or "", path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if len(data) > _MAX_KEY_FILE:
        raise ValueError(f"{path}: longer than {_MAX_KEY_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8") from error


def _secret(settings: AuthSettings, folder: str | None, problems: list[str]) -> Key | None:
    secret, where = settings.hmac_secret, "auth.hmac_secret"
    try:
        if settings.hmac_secret_file is not None:
            where = "auth.hmac_secret_file"
            if secret is not None:
                raise ValueError("hmac_secret is set, too")
            secret = read_text(settings.hmac_secret_file, folder).strip()
        return None if secret is None else load_secret(secret)
    except (MissingExtraError, ValueError) as error:
        problems.append(f"{where}: {error}")
        return None


def _public(entry: PublicKey, folder: str | None, path: str, problems: list[str]) -> Key | None:
    if entry.algorithm is None:
        problems.append(f"{path}.algorithm: expected 'ES256' or 'RS256', got nothing")
        return None
    if (entry.pem is None) is (entry.file is None):
        problems.append(f"{path}: expected either file or pem")
        return None
    where = "pem" if entry.file is None else "file"
    try:
        pem = entry.pem if entry.file is None else read_text(entry.file, folder)
        return load_public_key(entry.algorithm, pem or "", entry.kid)
    except (MissingExtraError, ValueError) as error:
        problems.append(f"{path}.{where}: {error}")
        return None
