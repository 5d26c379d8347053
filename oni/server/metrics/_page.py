"""``/metrics``: the figures, for those who may read them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource

from oni.errors import MissingExtraError
from oni.server._hosts import host_is_allowed, own_hosts
from oni.server._running_settings import MetricsSettings

__all__ = ["Metrics", "make_metrics_page"]

_MODULE = "oni.server.metrics.prometheus_client"
_LOOPBACK_HOSTS = own_hosts(("localhost", "127.0.0.1", "[::1]"))
_LOOPBACK = ("127.", "::1", "::ffff:127.")
# What proxies add. One on this machine has a loopback address, whoever sits behind it.
_OF_PROXIES = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


def make_metrics_page(
    settings: MetricsSettings, admin_key: str | None, read: Callable[[], Mapping[str, Any]]
) -> IResource:
    """Make what is at ``/metrics``: nothing, where nobody may read it.

    Args:
        settings: Who may.
        admin_key: The key of ``[admin]``, which may read it, too.
        read: Gives the figures.
    """
    return notFound() if settings.readers == "nobody" else Metrics(settings, admin_key, read)


class Metrics(Resource):
    """The figures, as text for Prometheus."""

    isLeaf = True

    def __init__(
        self,
        settings: MetricsSettings,
        admin_key: str | None,
        read: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self._readers = settings.readers
        self._keys = [key.encode() for key in (settings.key, admin_key) if key is not None]
        self._read = read
        self._exposition: Any = None

    def render_GET(self, request: Any) -> bytes:
        """Check who asks, then tell."""
        if not self._may_read(request):
            request.setHeader(b"www-authenticate", b'Bearer realm="metrics"')
            return self._refuse(request, 401, "[metrics] in the settings says who may read this.")
        try:
            exposition = self._exposition or self._make_exposition()
        except MissingExtraError as error:
            return self._refuse(request, 501, str(error))
        body, kind = exposition.write(request.getHeader("accept") or "")
        request.setHeader(b"content-type", kind.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"content-length", b"%d" % len(body))
        return bytes(body)

    def _make_exposition(self) -> Any:
        """Load what writes the figures, the first time that they are read."""
        try:
            module = import_module(_MODULE)
        except ImportError as error:
            raise MissingExtraError("/metrics", "server", error) from error
        self._exposition = module.Exposition(self._read)
        return self._exposition

    def _may_read(self, request: Any) -> bool:
        if self._readers == "everyone" or self._has_key(request.requestHeaders):
            return True
        return self._readers == "loopback" and _is_of_this_machine(request)

    def _has_key(self, headers: Any) -> bool:
        given = [
            *headers.getRawHeaders(b"x-api-key", []),
            *headers.getRawHeaders(b"x-admin-key", []),
        ]
        for value in headers.getRawHeaders(b"authorization", []):
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                given.append(token.strip())
        # Each is compared, so that the time tells nothing.
        found = [hmac.compare_digest(one, key) for one in given for key in self._keys]
        return any(found)

    def _refuse(self, request: Any, status: int, why: str) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return why.encode() + b"\n"


def _is_of_this_machine(request: Any) -> bool:
    """Say whether a program on this machine asks, by itself and by a name of this machine."""
    peer = request.getClientAddress()
    if isinstance(peer, IPv4Address | IPv6Address):
        is_near = peer.host.startswith(_LOOPBACK)
    else:
        is_near = isinstance(peer, UNIXAddress)
    headers = request.requestHeaders
    return (
        is_near
        and not any(headers.hasHeader(name) for name in _OF_PROXIES)
        and host_is_allowed(headers.getRawHeaders(b"host", []), _LOOPBACK_HOSTS)
    )
