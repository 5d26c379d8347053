"""What ``oni doctor`` finds in a settings file: who may read it, secrets, origins, backend."""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from collections.abc import Iterator

import msgspec

from oni.command._doctor_ledger import look_at_ledger
from oni.command._doctor_rows import Row, error, fine, warning
from oni.command._failures import CommandError
from oni.command._token import secret_of
from oni.command._toml import is_secret
from oni.server import Settings

__all__ = ["look_at_settings", "permissions_row", "strength_row"]

_ENOUGH_BITS = 100.0
_FEW_BITS = 64.0
_COMMON = ("secret", "password", "changeme", "change-me", "example", "123456", "a-long-random")
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def look_at_settings(settings: Settings, path: str) -> Iterator[Row]:
    """Look at settings, and at the file that they come from."""
    secrets = _secrets(settings)
    files = _files(settings)
    yield permissions_row(
        path, os.stat(path), any(f"{name}_file" not in files for name in secrets)
    )
    for name, file in files.items():
        if os.path.exists(file):  # else it is said below, or was when the settings were read
            yield permissions_row(file, os.stat(file), True, name)
    try:
        found = secret_of(settings)
        secrets |= {} if found is None else {"auth.hmac_secret": found}
    except CommandError as failure:
        todo = "give the file to the daemon's user"
        yield error("auth.hmac_secret", failure.format_message(), todo)
    for name, value in secrets.items():
        yield strength_row(name, value)
    yield from _same_secrets(secrets)
    yield from _origin_rows(settings)
    yield from _open_rows(settings)
    yield _backend_row(settings)
    yield from look_at_ledger(settings)


def _secrets(settings: Settings) -> dict[str, str]:
    """Give all secrets of the settings, by their paths."""
    found = {}
    for section in msgspec.structs.fields(settings):
        table = getattr(settings, section.name)
        for name in table.__struct_fields__ if isinstance(table, msgspec.Struct) else ():
            value = getattr(table, name)
            if is_secret(name) and isinstance(value, str):
                found[f"{section.name}.{name}"] = value
    return found


def _files(settings: Settings) -> dict[str, str]:
    """Give the files that hold secrets instead of the settings file, by their settings."""
    found = {}
    for section in msgspec.structs.fields(settings):
        table = getattr(settings, section.name)
        for name in table.__struct_fields__ if isinstance(table, msgspec.Struct) else ():
            value = getattr(table, name)
            if is_secret(name.removesuffix("_file")) and name.endswith("_file") and value:
                path = os.path.join(settings.folder or "", value)
                found[f"{section.name}.{name}"] = path
    return found


def permissions_row(
    path: str, found: os.stat_result, has_secrets: bool, what: str = "settings file"
) -> Row:
    """Judge who may read and write the file."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        return error(what, f"others may write {path} (mode {mode:04o})", f"chmod 600 {path}")
    if has_secrets and mode & 0o004:
        return error(what, f"everyone may read {path} (mode {mode:04o})", f"chmod 600 {path}")
    if has_secrets and mode & 0o040:
        return warning(
            what, f"its group may read {path} (mode {mode:04o})", f"chmod 600 {path}, if not meant"
        )
    return fine(what, f"{path} (mode {mode:04o})")


def strength_row(name: str, secret: str) -> Row:
    """Judge how hard a secret is to guess, by its length and the variety of its characters."""
    lowered = secret.lower()
    common = next((word for word in _COMMON if word in lowered), None)
    bits = _bits(secret)
    if common is not None:
        return error(name, f"it has the word {common!r} in it", f"make a random one: {_MAKE}")
    if bits < _FEW_BITS:
        return error(name, f"easy to guess: about {bits:.0f} bits", f"make a random one: {_MAKE}")
    if bits < _ENOUGH_BITS:
        return warning(name, f"about {bits:.0f} bits", f"make a longer one: {_MAKE}")
    return fine(name, f"{len(secret)} characters, about {bits:.0f} bits")


def _bits(secret: str) -> float:
    """Estimate: how many bits its characters have, were they drawn as often as they appear."""
    counts = Counter(secret)
    size = len(secret)
    return -sum(count * math.log2(count / size) for count in counts.values())


def _same_secrets(secrets: dict[str, str]) -> Iterator[Row]:
    given = list(secrets.items())
    for place, (name, value) in enumerate(given):
        for other, same in given[:place]:
            if value == same:
                yield error(name, f"it is the same as {other}", "use one for each purpose")


def _origin_rows(settings: Settings) -> Iterator[Row]:
    origins = settings.server.allowed_origins
    plain = [origin for origin in origins if origin.startswith("http://")]
    beyond = [
        origin
        for origin in plain
        if not origin.startswith(("http://localhost", "http://127.", "http://[::1]"))
    ]
    if beyond:
        yield warning(
            "origins",
            f"{', '.join(beyond)}: whoever is between can change such a page",
            "serve the page by https, and name that",
        )
    else:
        shown = ", ".join(origins) if origins else "only the daemon's own page"
        yield fine("origins", shown)


def _open_rows(settings: Settings) -> Iterator[Row]:
    """Say what is odd about the settings, as the daemon does when it starts."""
    for text in settings.warnings():
        yield warning("settings", text, "see the how-to guide on running the daemon")


def _backend_row(settings: Settings) -> Row:
    scheme = settings.backend.url.partition(":")[0]
    if scheme != "memory":
        return fine("backend", scheme)
    tables = {"channels": settings.channels.defaults}
    tables |= {f"channels.{name}": rules for name, rules in settings.channels.namespaces.items()}
    kept = [path for path, rules in tables.items() if rules.history_size]
    if kept:
        return warning(
            "backend",
            f"memory: what {', '.join(kept)} keep is gone when the daemon ends",
            "clients are told of the gap; use another backend if that will not do",
        )
    return fine("backend", "memory: one process, nothing kept when it ends")
