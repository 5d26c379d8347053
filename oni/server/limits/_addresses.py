"""Where clients really are, and how many connections each address has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from twisted.internet import address as peers
from twisted.logger import Logger

__all__ = ["UNIX", "Addresses", "Proxies", "is_proxy"]

_log = Logger()

#: What stands for a unix socket among proxies.
UNIX = "unix"

_SIGHT = 64  # bits of an IPv6 address that are not its owner's to choose
_MAX_HOPS = 32  # addresses of a header that are looked at


def is_proxy(text: str) -> bool:
    """Say whether a text names an address, a network or ``unix``."""
    if text == UNIX:
        return True
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


class Proxies:
    """The proxies that are believed when they say who has sent a request.

    Args:
        trusted: Their addresses, networks or ``unix``.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        names = tuple(trusted)
        self._unix = UNIX in names
        self._networks = tuple(ip_network(name) for name in names if name != UNIX)
        self._has_warned = False

    def are_trusted(self, peer: Any) -> bool:
        """Say whether what comes from this address of Twisted's comes from a proxy of ours."""
        if isinstance(peer, peers.UNIXAddress):
            return self._unix
        if not self._networks:
            return False
        address = _address_of(peer)
        return address is not None and self._has(address)

    def client(self, peer: Any, forwarded: Sequence[bytes] = ()) -> str:
        """Say where a request comes from, as far as that is proven.

        Each proxy adds at the right whom it has heard. So the list is read from there, and what
        stands left of the first one that is no proxy of ours may be invented.

        Args:
            peer: Where the connection comes from, an address of Twisted's.
            forwarded: The values of the request's ``X-Forwarded-For``.

        Returns:
            A key under which connections are counted: an address, or a network; ``""`` for a
            unix socket.
        """
        if not self._networks and isinstance(peer, peers.IPv4Address):
            return peer.host  # nothing to find out
        known = _address_of(peer)
        if not self.are_trusted(peer):
            return _key(known)
        hops = b",".join(forwarded).split(b",")[-_MAX_HOPS:]
        for hop in reversed(hops):
            address = _parse(hop.decode("latin-1").strip())
            if address is None:
                break
            known = address
            if not self._has(address):
                return _key(known)
        if not self._has_warned and known == _address_of(peer):
            self._has_warned = True
            _log.warn(
                "the proxy at {peer} does not say in X-Forwarded-For who its clients are, so they "
                "count as one",
                peer=_key(known) or "a unix socket",
            )
        return _key(known)

    def _has(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


class Addresses:
    """Counts connections by where they come from.

    Args:
        most: How many one address may have.

    Attributes:
        limited: Counts how often one had too many, as ``address``.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}
        self._refused = 0
        self.limited: Counter[str] = Counter()

    def __len__(self) -> int:
        """Count the addresses that have connections."""
        return len(self._counts)

    def enter(self, key: str) -> bool:
        """Count a connection, if its address may have one more."""
        count = self._counts.get(key, 0)
        if count >= self._most:
            self._refused += 1
            self.limited["address"] += 1
            if count == self._most and self._refused == 1:
                _log.warn("connections of {key} are refused: it has {count}", key=key, count=count)
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: str) -> None:
        """Count a connection no more."""
        count = self._counts.get(key, 0)
        if count > 1:
            self._counts[key] = count - 1
        else:
            self._counts.pop(key, None)
            self._refused = 0

    def statistics(self) -> dict[str, int]:
        """Give the gauge ``addresses``."""
        return {"addresses": len(self._counts)}


def _address_of(peer: Any) -> IPv4Address | IPv6Address | None:
    return _parse(peer.host) if isinstance(peer, peers.IPv4Address | peers.IPv6Address) else None


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; IPv4 within IPv6 is IPv4."""
    text = text.partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _key(address: IPv4Address | IPv6Address | None) -> str:
    if address is None:
        return ""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SIGHT), strict=False))
    return str(address)
