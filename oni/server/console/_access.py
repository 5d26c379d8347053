"""Who may look inside: with the admin key, or on this machine where the settings say so."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from twisted.internet.interfaces import ISSLTransport

from oni.carriers import origin_is_allowed
from oni.server._guesses import Guesses, Key
from oni.server._nearness import is_from_here
from oni.server._settings import Settings

__all__ = ["Access", "Denial"]


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

    Args:
        settings: Which key, and whether one is needed.
        guesses: Knows who has sent wrong ones.
    """

    def __init__(self, settings: Settings, guesses: Guesses) -> None:
        key = settings.admin.key
        self._key = None if key is None else Key(key)
        self._is_open = settings.admin.open_on_loopback and not settings.admin.problems(
            settings.listens_on_loopback, settings.server.allowed_hosts
        )
        self._guesses = guesses

    def needs(self, request: Any) -> str:
        """Say what a request needs: ``nothing``, a ``key``, or that the console is ``off``."""
        if self._is_open and is_from_here(request):
            return "nothing"
        return "off" if self._key is None else "key"

    def denial(self, request: Any) -> Denial | None:
        """Say why a request may not be answered, None if it may."""
        needs = self.needs(request)
        if needs == "nothing":
            return None if _is_own_page(request) else _FOREIGN
        if self._key is None:
            return _OFF
        address = self._guesses.address(request)
        wait = self._guesses.wait(address)
        if wait:
            return _waiting(wait)
        keys = request.requestHeaders.getRawHeaders(b"x-admin-key", [])
        if not keys:
            return _NO_KEY
        return None if self._guesses.admits(address, keys, self._key) else _WRONG


def _waiting(wait: int) -> Denial:
    return Denial(429, "wait", f"Too many wrong keys. Try again in {wait} s.", wait)


def _is_own_page(request: Any) -> bool:
    """Say whether a request comes from our own page, or from none: browsers name others."""
    origins = request.requestHeaders.getRawHeaders(b"origin", [])
    if request.getHeader(b"sec-fetch-site") not in (None, b"same-origin", b"none"):
        return False
    host = (request.getHeader(b"host") or b"").decode("latin-1")
    secure = ISSLTransport(request.transport, None) is not None
    return all(origin_is_allowed(origin.decode("latin-1"), host, secure) for origin in origins)
