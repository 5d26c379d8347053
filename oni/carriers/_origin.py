"""From which pages a browser may open a websocket."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["is_origin", "origin_is_allowed"]

_PORTS = {"http": 80, "https": 443}
_HOST = r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
_AUTHORITY = re.compile(_HOST)
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST}")


def origin_is_allowed(
    origin: str | None, host: str, secure: bool, allowed: Iterable[str] = ()
) -> bool:
    """Say whether a request may come from this origin.

    Browsers tell the origin of the page and no page can change that (RFC 6454), so a websocket is
    safe from other sites' pages where only known origins are let in.

    Args:
        origin: The request's Origin header, None where it has none: then it comes from no page.
        host: The request's Host header.
        secure: Whether the request came over TLS.
        allowed: Other origins that are let in, such as ``https://example.org:8443``.

    Returns:
        Whether scheme, host and port are those of the request itself, or those of an allowed
        origin. ``null`` is never allowed: any page can have it.
    """
    if origin is None:
        return True
    known = _parse(_ORIGIN, origin)
    if known is None:
        return False
    own = _parse(_AUTHORITY, host, "https" if secure else "http")
    return known == own or any(known == _parse(_ORIGIN, other) for other in allowed)


def is_origin(text: str) -> bool:
    """Say whether this is the origin of some site: neither ``null`` nor a file, nor nonsense."""
    return _parse(_ORIGIN, text) is not None


def _parse(
    form: re.Pattern[str], text: str, scheme: str = ""
) -> tuple[str, str, int | None] | None:
    match = form.fullmatch(text.lower())
    if match is None:
        return None
    scheme = scheme or match["scheme"]
    port = match["port"]
    return scheme, match["host"], int(port) if port else _PORTS.get(scheme)
