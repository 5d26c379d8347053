"""At which address a daemon with given settings is found by programs on the same machine."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["local_address"]

_KIND = re.compile(r"(tcp6?|ssl):(?:port=)?(\d+)(?=:|\Z)")
_INTERFACE = re.compile(r"(?<!\\):interface=((?:\\.|[^:\\])*)")
_EVERYWHERE = {"", "0.0.0.0", "::"}


def local_address(listen: Sequence[str]) -> str | None:
    """Give the address of the first of these listeners that is known beforehand.

    Args:
        listen: Endpoint descriptions, as ``server.listen`` has them.

    Returns:
        An address like ``http://127.0.0.1:8000``; None where all listeners are sockets of another
        kind, or on a port that the system chooses.
    """
    for description in listen:
        found = _KIND.match(description)
        if found is not None and found[2] != "0":
            scheme = "https" if found[1] == "ssl" else "http"
            return f"{scheme}://{_host(found[1], description)}:{found[2]}"
    return None


def _host(kind: str, description: str) -> str:
    """Give the interface, or loopback where it listens on all of them."""
    named = _INTERFACE.search(description)
    interface = "" if named is None else named[1].replace("\\", "")
    if interface in _EVERYWHERE:
        interface = "::1" if kind == "tcp6" else "127.0.0.1"
    return f"[{interface}]" if ":" in interface else interface
