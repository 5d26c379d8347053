"""Whether a request is meant for us."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

__all__ = ["host_is_allowed", "own_hosts"]


def own_hosts(names: Iterable[str]) -> frozenset[bytes]:
    """Prepare the names that are ours, for :func:`host_is_allowed`."""
    return frozenset(name.lower().encode("latin-1") for name in names)


def host_is_allowed(hosts: Sequence[bytes], allowed: Set[bytes]) -> bool:
    """Say whether a request is meant for us: a page of another name may have been led here.

    Args:
        hosts: The request's Host headers; there must be exactly one.
        allowed: The names, without port, that are ours.
    """
    if len(hosts) != 1:
        return False
    host = hosts[0].lower()
    if host in allowed:
        return True
    name, colon, port = host.rpartition(b":")
    return bool(colon) and name in allowed and (not port or port.isdigit())
