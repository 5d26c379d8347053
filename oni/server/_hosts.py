"""Whether a request is meant for us."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["host_is_allowed"]

_PORT = re.compile(r":[0-9]*\Z")


def host_is_allowed(hosts: Iterable[bytes], allowed: Iterable[str]) -> bool:
    """Say whether a request is meant for us: a page of another name may have been led here.

    Args:
        hosts: The request's Host headers; there must be exactly one.
        allowed: The names, without port, that are ours.
    """
    given = list(hosts)
    if len(given) != 1:
        return False
    name = _PORT.sub("", given[0].decode("latin-1")).lower()
    return any(name == host.lower() for host in allowed)
