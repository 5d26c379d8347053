"""Whether a request comes from this machine."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet.address import UNIXAddress

from oni.server._admin_settings import LOOPBACK_HOSTS
from oni.server._hosts import host_is_allowed, own_hosts

__all__ = ["is_from_here"]

_LOOPBACK = own_hosts(LOOPBACK_HOSTS)

#: What a proxy adds to a request that it passes on. One on this machine has a loopback address,
#: whoever sits behind it.
_OF_PROXIES = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)


def is_from_here(request: Any, unix: bool = False) -> bool:
    """Say whether a request comes from this machine, by its own names and through no proxy.

    Args:
        request: A request of ``twisted.web``.
        unix: Whether one through a unix socket does: there is mostly a proxy at its other end.
    """
    headers = request.requestHeaders
    if any(headers.hasHeader(name) for name in _OF_PROXIES):
        return False
    if not host_is_allowed(headers.getRawHeaders(b"host", []), _LOOPBACK):
        return False
    peer = request.getClientAddress()
    if isinstance(peer, UNIXAddress):
        return unix
    try:
        address = ip_address(getattr(peer, "host", ""))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
