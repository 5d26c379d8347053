"""What is served over HTTP: the page and the API, on ``twisted.web``, with limits of our own."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.pages import errorPage
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from oni.server._hosts import host_is_allowed, own_hosts
from oni.server._settings import ServerSettings
from oni.server.limits import Addresses, Proxies

__all__ = ["LimitedSite", "UpgradeRequired"]

_log = Logger()

_TOO_LARGE = (
    b"HTTP/1.1 413 Content Too Large\r\nServer: Oni\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class _LimitedRequest(Request):
    """A request whose body is counted as it comes in."""

    channel: Any
    too_large = False
    _received = 0

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that says it is too large."""
        super().gotLength(0)  # however long it is: it is kept in memory, never in a file
        if length is not None and length > self._limit:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Refuse a body that turns out to be too large."""
        self._received += len(data)
        if self._received > self._limit:
            self._refuse()
        if not self.too_large:
            super().handleContentChunk(data)

    def process(self) -> None:
        """Handle the request, unless it has been refused."""
        if not self.too_large:
            super().process()

    @property
    def _limit(self) -> int:
        return int(self.channel.site.limits.max_body_bytes)

    def _refuse(self) -> None:
        if not self.too_large:
            self.too_large = True
            self.channel.refuse(_TOO_LARGE)


class _LimitedChannel(HTTPChannel):
    """A connection on which heads and bodies must be complete in time, each of them.

    ``HTTPChannel`` itself has a limit for silence only, so that a byte now and then keeps it.
    """

    site: Any
    transport: Any
    _deadline: IDelayedCall | None = None
    _refused = False
    _is_last = False

    def connectionMade(self) -> None:
        """Take over the limits."""
        limits = self.site.limits
        self.totalHeadersSize = limits.max_request_head_bytes
        self.maxHeaders = limits.max_request_headers
        self.MAX_LENGTH = limits.max_request_line_bytes
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take what has come; the first byte of a head starts the clock."""
        if self._refused:
            return
        if data and self.line_mode and self._deadline is None:
            self._expect_within(self.site.limits.handshake_timeout)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """Wait for the body."""
        self._expect_within(self.site.limits.body_timeout)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """Take the time that is needed to answer."""
        if not self._refused:
            self._stop_clock()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Go on to the next request; after the last one, end in time."""
        super().requestDone(request)
        if self._is_last and not self._refused:
            self._expect_within(self.site.limits.close_timeout)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the clock."""
        self._stop_clock()
        if self._is_last:
            self._is_last = False
            self.site.last_responses -= 1
        super().connectionLost(reason)

    def end_with(self, request: Any) -> None:
        """Let this request be the last one: the connection ends with its response."""
        request.setHeader(b"connection", b"close")
        self.persistent = 0
        if not self._is_last:
            self._is_last = True
            self.site.last_responses += 1

    def refuse(self, response: bytes) -> None:
        """Say no, take nothing more and close."""
        self._refused = True
        self.transport.write(response)
        self.loseConnection()
        self._expect_within(self.site.limits.close_timeout)  # also where the client never reads

    def _expect_within(self, seconds: float) -> None:
        self._stop_clock()
        self._deadline = self.site.reactor.callLater(seconds, self._is_late)

    def _stop_clock(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _is_late(self) -> None:
        self._deadline = None
        self.transport.abortConnection()


class LimitedSite(Site):
    """Answers requests that are meant for us.

    Attributes:
        limits: The limits.
        addresses: Counts connections, and a proxy's requests, by where they come from.
        last_responses: How many connections there are that end with the response which they have
            begun.
    """

    protocol = _LimitedChannel  # type: ignore[assignment]

    def __init__(self, root: Resource, limits: ServerSettings, reactor: Any) -> None:
        """Serve a tree of resources.

        Args:
            root: What is at ``/``.
            limits: The limits, and the host names that are ours.
            reactor: The reactor.
        """
        super().__init__(
            root, requestFactory=_LimitedRequest, timeout=limits.idle_timeout, reactor=reactor
        )
        self.limits = limits
        self.last_responses = 0
        self._hosts = own_hosts(limits.allowed_hosts)
        self.displayTracebacks = False
        self.addresses = Addresses(limits.max_connections_per_address)
        self._proxies = Proxies(limits.trusted_proxies)

    def getResourceFor(self, request: Any) -> IResource:
        """Find the resource, where the request names a host of ours."""
        request.setHeader(b"server", b"Oni")
        request.setHeader(b"x-content-type-options", b"nosniff")
        hosts = request.requestHeaders.getRawHeaders(b"host", [])
        if not host_is_allowed(hosts, self._hosts):
            return errorPage(421, "Misdirected Request", "This host is not served here.")
        if not self._counts_in(request):
            return errorPage(429, "Too Many Requests", "Too many come from this address at once.")
        found: IResource = super().getResourceFor(request)
        return found

    def _counts_in(self, request: Any) -> bool:
        """Count a request of a proxy's client, as long as it lasts, if there may be one more.

        A proxy's connection carries requests of many clients, so it is not counted as a whole.
        """
        peer = request.channel.transport.getPeer()
        if not self._proxies.are_trusted(peer):
            return True
        forwarded = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        key = self._proxies.client(peer, forwarded)
        if not self.addresses.enter(key):
            return False
        request.notifyFinish().addBoth(lambda _: self.addresses.leave(key))
        return True

    def log(self, request: Any) -> None:
        """Log a request without its query, where tokens may be."""
        method, path = (
            part.decode("ascii", "backslashreplace") for part in (request.method, request.path)
        )
        _log.debug("{method} {path}: {code}", method=method, path=path, code=request.code)


class UpgradeRequired(Resource):
    """What is at a websocket's path for those who do not ask for one."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Say what belongs here."""
        request.setResponseCode(426)
        request.setHeader(b"upgrade", b"websocket")
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"Here is a websocket. Open it on a connection of its own.\n"
