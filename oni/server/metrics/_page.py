"""``/metrics``: the figures, for those who may read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource

from oni.errors import MissingExtraError
from oni.server._guesses import Guesses, Key
from oni.server._nearness import is_from_here
from oni.server._running_settings import MetricsSettings

__all__ = ["Metrics", "make_metrics_page"]

_MODULE = "oni.server.metrics.prometheus_client"


def make_metrics_page(
    settings: MetricsSettings,
    admin_key: str | None,
    guesses: Guesses,
    read: Callable[[], Mapping[str, Any]],
) -> IResource:
    """Make what is at ``/metrics``: nothing, where nobody may read it.

    Args:
        settings: Who may.
        admin_key: The key of ``[admin]``, which may read it, too.
        guesses: Knows who has sent wrong keys.
        read: Gives the figures.
    """
    if settings.readers == "nobody":
        return notFound()
    return Metrics(settings, admin_key, guesses, read)


class Metrics(Resource):
    """The figures, as text for Prometheus."""

    isLeaf = True

    def __init__(
        self,
        settings: MetricsSettings,
        admin_key: str | None,
        guesses: Guesses,
        read: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self._readers = settings.readers
        # The administrator's first: it is worth more, and so it alone forgives wrong ones.
        self._keys = [Key(key) for key in (admin_key, settings.key) if key is not None]
        self._guesses = guesses
        self._read = read
        self._exposition: Any = None

    def render_GET(self, request: Any) -> bytes:
        """Check who asks, then tell."""
        if not self._is_open_to(request):
            refusal = self._check_key(request)
            if refusal is not None:
                return refusal
        try:
            exposition = self._exposition or self._make_exposition()
        except MissingExtraError as error:
            return self._refuse(request, 501, str(error))
        accept = request.getHeader(b"accept") or b""
        body, kind = exposition.write(accept.decode("latin-1"))
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

    def _is_open_to(self, request: Any) -> bool:
        """Say whether no key is needed; then none is looked at, and none can be guessed."""
        if self._readers == "everyone":
            return True
        return self._readers == "loopback" and is_from_here(request, unix=True)

    def _check_key(self, request: Any) -> bytes | None:
        """Refuse a request without a right key; None for one that has it."""
        address = self._guesses.address(request)
        wait = self._guesses.wait(address)
        if wait:
            request.setHeader(b"retry-after", b"%d" % wait)
            return self._refuse(request, 429, f"Too many wrong keys. Try again in {wait} s.")
        given = _keys_of(request.requestHeaders)
        if given and self._keys and self._guesses.admits(address, given, *self._keys):
            return None
        request.setHeader(b"www-authenticate", b'Bearer realm="metrics"')
        return self._refuse(request, 401, "[metrics] in the settings says who may read this.")

    def _refuse(self, request: Any, status: int, why: str) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return why.encode() + b"\n"


def _keys_of(headers: Any) -> list[bytes]:
    """Give every key that a request shows."""
    given = [
        *headers.getRawHeaders(b"x-api-key", []),
        *headers.getRawHeaders(b"x-admin-key", []),
    ]
    for value in headers.getRawHeaders(b"authorization", []):
        scheme, _, token = value.partition(b" ")
        if scheme.lower() == b"bearer":
            given.append(token.strip())
    return given
