"""How much one client, one address and one user may take of the server."""

from __future__ import annotations

from oni.server.limits._addresses import Addresses, Proxies, is_proxy
from oni.server.limits._admission import Admission
from oni.server.limits._descriptors import Descriptors
from oni.server.limits._settings import LimitSettings
from oni.server.limits._users import Users

__all__ = [
    "Addresses",
    "Admission",
    "Descriptors",
    "LimitSettings",
    "Proxies",
    "Users",
    "is_proxy",
]
