"""Who may look inside: with the admin key, or on this machine where the settings say so."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from math import ceil
from typing import Any

from msgspec import Struct
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger

from oni.carriers import origin_is_allowed
from oni.server._admin_settings import LOOPBACK_HOSTS
from oni.server._hosts import host_is_allowed, own_hosts
from oni.server._settings import Settings
from oni.server.limits import Proxies

__all__ = ["FREE_FAILURES", "LONGEST_WAIT", "MAX_ADDRESSES", "Access", "Denial"]

_log = Logger()

_LOOPBACK = own_hosts(LOOPBACK_HOSTS)

#: So many wrong keys an address may send before it has to wait.
FREE_FAILURES = 3

#: Seconds that an address waits at most; the first wait is one second, each next twice as long.
LONGEST_WAIT = 60.0

#: Of so many addresses wrong keys are remembered, at most.
MAX_ADDRESSES = 1000

#: What a proxy adds to a request that it passes on.
_OF_PROXIES = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)


class Denial(Struct, frozen=True):
    """Why a request is not answered.

    Attributes:
        status: The response's status.
        code: What is wrong, in one word.
        message: What is wrong, for people.
        wait: Seconds after which to come back, 0 if that is not the point.
    """

    status: int
    code: str
    message: str
    wait: int = 0


_FOREIGN = Denial(403, "foreign", "Only the console's own page may ask for this.")
_OFF = Denial(
    403, "off", "The console is off: the daemon's settings have no [admin] key for this request."
)
_NO_KEY = Denial(401, "key", "This needs the admin key.")
_WRONG = Denial(401, "wrong", "This is not the admin key.")


class Access:
    """Decides whether a request is an administrator's.

    Keys are compared in constant time. Whoever sends wrong ones waits, longer each time, and is
    not listened to meanwhile: also a right key is not looked at.

    Args:
        settings: Which key, and whether one is needed.
        seconds: Gives the time.
    """

    def __init__(self, settings: Settings, seconds: Callable[[], float]) -> None:
        key = settings.admin.key
        self._digest = None if key is None else _digest(key.encode())
        self._is_open = settings.admin.open_on_loopback and not settings.admin.problems(
            settings.listens_on_loopback, settings.server.allowed_hosts
        )
        self._seconds = seconds
        self._proxies = Proxies(settings.server.trusted_proxies)
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def needs(self, request: Any) -> str:
        """Say what a request needs: ``nothing``, a ``key``, or that the console is ``off``."""
        if self._is_open and _is_from_here(request):
            return "nothing"
        return "off" if self._digest is None else "key"

    def denial(self, request: Any) -> Denial | None:
        """Say why a request may not be answered, None if it may."""
        needs = self.needs(request)
        if needs == "nothing":
            return None if _is_own_page(request) else _FOREIGN
        if self._digest is None:
            return _OFF
        forwarded = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        address = self._proxies.client(request.getClientAddress(), forwarded)
        failures, until = self._failures.get(address, (0, 0.0))
        left = until - self._seconds()
        if left > 0:
            return _waiting(left)
        keys = request.requestHeaders.getRawHeaders(b"x-admin-key", [])
        if not keys:
            return _NO_KEY
        if len(keys) == 1 and hmac.compare_digest(_digest(keys[0]), self._digest):
            self._failures.pop(address, None)
            return None
        return self._failed(address, failures + 1)

    def _failed(self, address: str, failures: int) -> Denial:
        over = failures - FREE_FAILURES
        wait = min(2.0 ** min(over, 16), LONGEST_WAIT) if over >= 0 else 0.0
        self._failures[address] = failures, self._seconds() + wait
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        _log.warn(
            "wrong admin key from {address}, {failures} so far",
            address=address,
            failures=failures,
        )
        return _WRONG


def _digest(key: bytes) -> bytes:
    """Make keys of one length, so that comparing them does not tell the right one's."""
    return hashlib.sha256(key).digest()


def _waiting(left: float) -> Denial:
    wait = max(ceil(left), 1)
    return Denial(429, "wait", f"Too many wrong keys. Try again in {wait} s.", wait)


def _is_from_here(request: Any) -> bool:
    """Say whether a request comes from this machine, by its own names and through no proxy."""
    headers = request.requestHeaders
    if any(headers.hasHeader(name) for name in _OF_PROXIES):
        return False
    if not host_is_allowed(headers.getRawHeaders(b"host", []), _LOOPBACK):
        return False
    try:
        address = ip_address(getattr(request.getClientAddress(), "host", ""))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_own_page(request: Any) -> bool:
    """Say whether a request comes from our own page, or from none: browsers name others."""
    origins = request.requestHeaders.getRawHeaders(b"origin", [])
    if request.getHeader(b"sec-fetch-site") not in (None, b"same-origin", b"none"):
        return False
    host = (request.getHeader(b"host") or b"").decode("latin-1")
    secure = ISSLTransport(request.transport, None) is not None
    return all(origin_is_allowed(origin.decode("latin-1"), host, secure) for origin in origins)
