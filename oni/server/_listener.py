"""One port for everything: reads a request's head, then hands the connection on.

A websocket goes to Autobahn and everything else to ``twisted.web``, with the bytes that were read.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource

from oni.carriers import CarrierLimits, WebSocketCarrier, WebSocketCarrierFactory
from oni.protocol import (
    END_OF_HEAD,
    BadHeadError,
    RequestHead,
    parse_head,
    refusal_response,
)
from oni.server._api import Api
from oni.server._event_stream import EventStreams
from oni.server._guesses import Guesses
from oni.server._hosts import host_is_allowed, own_hosts
from oni.server._oni import Oni
from oni.server._page import put_page
from oni.server._running_pages import put_running_pages
from oni.server._settings import ServerSettings
from oni.server._site import LimitedSite, UpgradeRequired
from oni.server._timers import Timer, Timers
from oni.server.console import Admin
from oni.server.limits import Admission, Descriptors, Proxies

__all__ = ["WEBSOCKET_PATH", "Front", "FrontFactory", "make_factory"]

_log = Logger()

#: Where clients open their websocket.
WEBSOCKET_PATH = b"/connection/websocket"


class Front(Protocol):
    """A new connection, until its first request's head is complete; then it only hands on."""

    factory: FrontFactory

    def __init__(self) -> None:
        self._head = b""
        self._inner: IProtocol | None = None
        self._timer: Timer | None = None
        self._refused = False
        self._counted = False
        self._address: str | None = None

    def connectionMade(self) -> None:
        """Start the clock: it does not stop for a byte now and then."""
        factory, transport = self.factory, cast(Any, self.transport)
        if not factory.descriptors.has_room(transport):
            factory.limited["descriptors"] += 1
            self._refused = True
            transport.abortConnection()
            return
        self._counted = factory.count_in()
        if not self._counted:
            self._refuse(BadHeadError(503, "there are too many connections"))
            return
        peer = transport.getPeer()
        if not factory.proxies.are_trusted(peer) and not self._comes_from(
            factory.proxies.client(peer)
        ):
            self._refuse(_too_many())
            return
        self._timer = factory.heads.add(self._is_late)

    def dataReceived(self, data: bytes) -> None:
        """Collect the head."""
        if self._refused:
            return
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head += data
        limit = self.factory.limits.max_request_head_bytes
        end = self._head.find(END_OF_HEAD, 0, limit)
        if end >= 0:
            self._decide(end)
        elif len(self._head) >= limit:
            first = BadHeadError(414, "the first line is too long")
            rest = BadHeadError(431, "the head is too long")
            self._refuse(rest if b"\r\n" in self._head else first)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever has the connection now."""
        self._stop_clock()
        if self._counted:
            self.factory.count_out()
        if self._address is not None:
            self.factory.addresses.leave(self._address)
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def _decide(self, end: int) -> None:
        """Hand the connection on, with what follows the head, or with all of it."""
        data, transport, limits = self._head, self.transport, self.factory.limits
        try:
            request = parse_head(
                data[:end], limits.max_request_line_bytes, limits.max_request_headers
            )
            inner = self._choose(request)
        except BadHeadError as error:
            self._refuse(error)
            return
        self._stop_clock()
        self._head = b""
        self._inner = inner
        if isinstance(inner, WebSocketCarrier):
            data = data[end + len(END_OF_HEAD) :]
        inner.makeConnection(transport)  # type: ignore[arg-type]
        if data:
            inner.dataReceived(data)

    def _choose(self, request: RequestHead) -> IProtocol:
        """Find out who takes over; a websocket through a proxy is counted as its client's."""
        factory, peer = self.factory, cast(Any, self.transport).getPeer()
        if request.asks_for_websocket and factory.proxies.are_trusted(peer):
            client = factory.proxies.client(peer, request.values(b"x-forwarded-for"))
            if not self._comes_from(client):
                raise _too_many()
        return factory.choose(request, self.transport)

    def _comes_from(self, address: str) -> bool:
        """Count the connection as one of this address, if there may be one more."""
        if not self.factory.addresses.enter(address):
            return False
        self._address = address
        return True

    def _is_late(self) -> None:
        """Give up. Who has said nothing is told nothing, and a TLS handshake ends at once."""
        if not self._head and ISSLTransport.providedBy(self.transport):
            self._refused = True
            cast(Any, self.transport).abortConnection()
        else:
            self._refuse(BadHeadError(408, "the head is late"))

    def _refuse(self, error: BadHeadError) -> None:
        self._stop_clock()
        self._refused = True
        self._head = b""
        transport: Any = self.transport
        _log.debug("{peer}: {error}", peer=transport.getPeer(), error=error)
        transport.write(refusal_response(error))
        transport.loseConnection()
        self._timer = self.factory.closings.add(transport.abortConnection)

    def _stop_clock(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _too_many() -> BadHeadError:
    return BadHeadError(429, "too many connections come from this address")


class FrontFactory(Factory[Front]):
    """Serves one Oni, on as many ports as are listened on.

    Attributes:
        site: What is served over HTTP.
        websockets: What is served over websockets.
        limits: The limits.
        reactor: The reactor.
        connections: How many connections there are.
        proxies: Whom to believe where connections come from.
        addresses: Counts them by that.
        admission: Bounds how many websockets are opened in a second.
        descriptors: Stops the ports when the process can open no more.
        limited: Counts how often somebody was refused, by the limit.
        heads: Until requests' heads must be complete.
        closings: Until refused connections must have ended.
    """

    protocol = Front
    noisy = False

    def __init__(
        self,
        site: LimitedSite,
        websockets: WebSocketCarrierFactory,
        limits: ServerSettings,
        reactor: Any,
    ) -> None:
        self.site = site
        self.websockets = websockets
        self.limits = limits
        self.reactor = reactor
        self.connections = 0
        self.proxies = Proxies(limits.trusted_proxies)
        self.addresses = site.addresses
        self.admission = Admission(limits.max_handshakes_per_second, reactor.seconds)
        self.descriptors = Descriptors(reactor)
        self.limited = self.addresses.limited
        self.heads = Timers(reactor, limits.handshake_timeout)
        self.closings = Timers(reactor, limits.close_timeout)
        self._hosts = own_hosts(limits.allowed_hosts)
        self._is_full = False

    @property
    def leaving(self) -> int:
        """How many connections there are that end, in time, once their sessions do.

        These are websockets, and those whose response is a stream of events.
        """
        return int(self.websockets.countConnections) + self.site.last_responses

    def count_in(self) -> bool:
        """Count a connection, if there may be one more."""
        if self.connections >= self.limits.max_connections:
            self.limited["connections"] += 1
            if not self._is_full:
                self._is_full = True
                _log.warn("connections are refused: there are {count}", count=self.connections)
            return False
        self.connections += 1
        return True

    def count_out(self) -> None:
        """Count a connection no more."""
        self.connections -= 1
        self._is_full = False

    def stopFactory(self) -> None:
        """Look after no ports any more: the last one is closed."""
        self.descriptors.stop()

    def choose(self, request: RequestHead, transport: Any) -> IProtocol:
        """Make the protocol that a request is meant for.

        Raises:
            BadHeadError: The request names no host of ours, or is for a websocket that it does
                not get: too many come at once, or it is not asked for as it should be.
        """
        hosts = request.values(b"host")
        if len(hosts) != 1:
            raise BadHeadError(400, f"{len(hosts)} headers host")
        if not host_is_allowed(hosts, self._hosts):
            raise BadHeadError(421, "the host is not ours")
        if request.path == WEBSOCKET_PATH and request.asks_for_websocket:
            seconds = self.admission.admit()
            if seconds:
                self.limited["handshakes"] += 1
                after = b"Retry-After: %d\r\n" % seconds
                raise BadHeadError(503, "too many come at once", after)
            websocket: Any = self.websockets.buildProtocol(None)
            websocket.accept(request, ISSLTransport(transport, None) is not None)
            return cast(WebSocketCarrier, websocket)
        return cast(IProtocol, self.site.buildProtocol(transport.getPeer()))


def make_factory(oni: Oni, reactor: Any, page: Resource | None = None) -> FrontFactory:
    """Make what a port serves: page, API and websocket of an Oni.

    Args:
        oni: What is served.
        reactor: The reactor.
        page: What is at ``/``; its own children stay beside ``/api`` and ``/connection``. Oni's
            page if None.

    Returns:
        A factory that any number of ports may share.
    """
    limits = oni.settings.server
    root = _page() if page is None else page
    root.putChild(b"api", Api(oni))
    guesses = Guesses(limits.trusted_proxies, reactor.seconds)
    guesses.limited = oni.tally.limited
    root.putChild(b"admin", Admin(oni, reactor, guesses))
    connection = _Branch()
    connection.putChild(b"websocket", UpgradeRequired())
    connection.putChild(b"sse", EventStreams(oni, reactor))
    root.putChild(b"connection", connection)
    websockets = WebSocketCarrierFactory(
        cast(Any, oni.open_session),  # it may be told to close with codes of an application's own
        CarrierLimits(
            max_message_bytes=limits.max_message_bytes,
            max_connections=limits.max_connections,
            open_timeout=limits.handshake_timeout,
            close_timeout=limits.close_timeout,
            allowed_origins=limits.allowed_origins,
            max_fragments=limits.max_message_fragments,
            max_bytes_per_second=limits.max_bytes_per_second,
            max_pings_per_second=limits.max_pings_per_second,
            drain_timeout=limits.drain_timeout,
        ),
        reactor,
        oni.tally.limited,
    )
    site = LimitedSite(root, limits, reactor)
    site.addresses.limited = oni.tally.limited
    front = FrontFactory(site, websockets, limits, reactor)
    put_running_pages(root, oni, front, guesses)
    return front


class _Branch(Resource):
    """A place in the tree that is nothing itself."""

    def getChild(self, path: bytes, request: Any) -> IResource:
        """Say that there is nothing."""
        return notFound()


def _page() -> Resource:
    root = _Branch()
    put_page(root)
    return root
