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
from oni.server._hosts import host_is_allowed, own_hosts
from oni.server._oni import Oni
from oni.server._page import put_page
from oni.server._settings import ServerSettings
from oni.server._site import LimitedSite, UpgradeRequired
from oni.server._timers import Timer, Timers

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

    def connectionMade(self) -> None:
        """Start the clock: it does not stop for a byte now and then."""
        self._counted = self.factory.count_in()
        if self._counted:
            self._timer = self.factory.heads.add(self._is_late)
        else:
            self._refuse(BadHeadError(503, "there are too many connections"))

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
            self._refuse(BadHeadError(431, "the head is too long"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever has the connection now."""
        self._stop_clock()
        if self._counted:
            self.factory.count_out()
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def _decide(self, end: int) -> None:
        """Hand the connection on, with what follows the head, or with all of it."""
        data, transport = self._head, self.transport
        try:
            request = parse_head(data[:end])
            inner = self.factory.choose(request, transport)
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

    def _refuse(self, error: BadHeadError) -> None:
        self._stop_clock()
        self._refused = True
        self._head = b""
        transport: Any = self.transport
        _log.debug("{peer}: {error}", peer=transport.getPeer(), error=error)
        transport.write(refusal_response(error))
        transport.loseConnection()
        self._timer = self.factory.closings.add(transport.abortConnection)

    def _is_late(self) -> None:
        self._refuse(BadHeadError(408, "the head is late"))

    def _stop_clock(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class FrontFactory(Factory[Front]):
    """Serves one Oni, on as many ports as are listened on.

    Attributes:
        site: What is served over HTTP.
        websockets: What is served over websockets.
        limits: The limits.
        reactor: The reactor.
        connections: How many connections there are.
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

    def choose(self, request: RequestHead, transport: Any) -> IProtocol:
        """Make the protocol that a request is meant for.

        Raises:
            BadHeadError: The request names no host of ours, or is for a websocket that it does
                not get.
        """
        hosts = request.values(b"host")
        if len(hosts) != 1:
            raise BadHeadError(400, f"{len(hosts)} headers host")
        if not host_is_allowed(hosts, self._hosts):
            raise BadHeadError(421, "the host is not ours")
        if request.path == WEBSOCKET_PATH and request.asks_for_websocket:
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
        ),
        reactor,
    )
    return FrontFactory(LimitedSite(root, limits, reactor), websockets, limits, reactor)


class _Branch(Resource):
    """A place in the tree that is nothing itself."""

    def getChild(self, path: bytes, request: Any) -> IResource:
        """Say that there is nothing."""
        return notFound()


def _page() -> Resource:
    root = _Branch()
    put_page(root)
    return root
