"""An Oni within a site of ``twisted.web`` that is there already: a resource and a service."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from msgspec.structs import replace
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.pages import errorPage, notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from oni.protocol import BadHeadError, RequestHead, parse_head
from oni.server._application import find_application
from oni.server._goodbye import Goodbye
from oni.server._hosts import host_is_allowed, own_hosts
from oni.server._listener import WEBSOCKET_PATH, FrontFactory, make_factory
from oni.server._listeners import ListenersService
from oni.server._oni import Oni
from oni.server._ordered import OrderedServices
from oni.server._service import OniService
from oni.server._settings import ServerSettings, Settings
from oni.server._site import UpgradeRequired

__all__ = ["EmbeddedOni", "OniResource"]


class EmbeddedOni(OrderedServices):
    """An Oni for an application that has a site of its own.

    It is a service: started, it lets the application of the settings register its handlers, and
    begins; stopped, it closes every connection within ``server.stop_timeout``. It listens
    nowhere: what the settings say in ``server.listen`` does not count. Whoever has the site puts
    :attr:`resource` into it, at any place.

    Attributes:
        oni: The Oni.
        resource: What serves it: ``connection/websocket``, ``connection/sse`` and ``api`` below.
    """

    def __init__(self, settings: Settings, reactor: Any = None) -> None:
        """Build it; nothing runs before it is started.

        Args:
            settings: As :func:`oni.server.load_settings` reads them from a file.
            reactor: The reactor; the global one if None.

        Raises:
            SettingsError: The settings name an application that is not there.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.oni = Oni(settings, reactor)
        self.resource = OniResource(self.oni, reactor)
        service = OniService(self.oni, find_application(settings), settings.zca.name)
        goodbye = Goodbye(self.resource.count_connections, reactor)
        sources = [] if self.oni.sources_service is None else [self.oni.sources_service]
        closing = ListenersService(self.oni.listeners.close)
        super().__init__(
            [goodbye, closing, *sources, service], settings.server.stop_timeout, reactor
        )


class OniResource(Resource):
    """Serves an Oni below one place of a site.

    The limits of the settings hold for what comes here, where the site itself has none: names of
    hosts, websockets in all and by address, the size of a request's body. A request's head is the
    site's to limit; a websocket's is read strictly once more.
    """

    def __init__(self, oni: Oni, reactor: Any) -> None:
        """Serve an Oni.

        Args:
            oni: Which.
            reactor: The reactor.
        """
        super().__init__()
        whole = Resource()
        self._front = make_factory(oni, reactor, whole)
        self._limits = oni.settings.server
        self._hosts = own_hosts(self._limits.allowed_hosts)
        # Console, metrics and health tell of a process, and that is not ours here.
        self.putChild(b"api", whole.children[b"api"])
        connection = whole.children[b"connection"]
        connection.putChild(b"websocket", _WebSockets(self._front))
        self.putChild(b"connection", connection)

    def count_connections(self) -> int:
        """Say how many websockets there are."""
        return int(self._front.websockets.countConnections)

    def getChild(self, path: bytes, request: Any) -> IResource:
        """Say that there is nothing."""
        return notFound()

    def render(self, request: Any) -> Any:
        """Say that there is nothing."""
        return notFound().render(request)

    def getChildWithDefault(self, path: bytes, request: Any) -> Any:
        """Find what a request is for, if it is for us at all."""
        request.setHeader(b"x-content-type-options", b"nosniff")
        # The site writes it into its log, where no token belongs; arguments are read already.
        request.uri = request.uri.partition(b"?")[0]
        refusal = _refusal(request, self._limits, self._hosts)
        if refusal is None:
            return super().getChildWithDefault(path, request)
        return refusal


def _refusal(request: Any, limits: ServerSettings, ours: Set[bytes]) -> IResource | None:
    """Give what answers a request that is not for us, or too large; None for others."""
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if not host_is_allowed(hosts, ours):
        return errorPage(421, "Misdirected Request", "This host is not served here.")
    content = request.content
    if content is not None:
        content.seek(0, 2)
        size = content.tell()
        content.seek(0)
        if size > limits.max_body_bytes:
            return errorPage(413, "Content Too Large", "The body is too large.")
    return None


class _WebSockets(UpgradeRequired):
    """Lets a request leave HTTP, and gives its connection to a websocket."""

    def __init__(self, front: FrontFactory) -> None:
        super().__init__()
        self._front = front

    def render_GET(self, request: Any) -> Any:
        """Begin the websocket, or say what belongs here, or what is wrong."""
        limits = self._front.limits
        head = _head_of(request)
        try:
            parsed = parse_head(head, limits.max_request_line_bytes, limits.max_request_headers)
            # Where it is, the site decides.
            parsed = replace(parsed, target=WEBSOCKET_PATH)
            if not parsed.asks_for_websocket or request.channel.transport is None:
                return super().render_GET(request)
            guest = self._admit(parsed, request)
        except BadHeadError as error:
            for field in error.fields.splitlines():
                name, _, value = field.partition(b": ")
                request.setHeader(name, value)
            return errorPage(error.status, "Refused", "No websocket here.").render(request)
        guest.take_over(request)
        return NOT_DONE_YET

    def _admit(self, head: RequestHead, request: Any) -> _Guest:
        """Make the websocket, if there may be one more.

        Raises:
            BadHeadError: There may not.
        """
        front, transport = self._front, request.channel.transport
        peer = transport.getPeer()
        address = front.proxies.client(peer, head.values(b"x-forwarded-for"))
        if not front.count_in():
            raise BadHeadError(503, "there are too many connections")
        if not front.addresses.enter(address):
            front.count_out()
            raise BadHeadError(429, "too many connections come from this address")
        try:
            return _Guest(front.choose(head, transport), front, address)
        except BadHeadError:
            front.addresses.leave(address)
            front.count_out()
            raise


class _Guest(Protocol):
    """A websocket on a connection that the site has accepted; counts it as long as it lasts."""

    def __init__(self, inner: Any, front: FrontFactory, address: str) -> None:
        self._inner = inner
        self._front = front
        self._address = address

    def take_over(self, request: Any) -> None:
        """Take the connection from its channel, and open the websocket.

        Bytes that are behind the head already reach the websocket, too: the channel, which still
        reads them, hands them on.
        """
        channel = request.channel
        transport = channel.transport
        transport.unregisterProducer()  # the channel itself was that
        self.makeConnection(transport)
        channel.dataReceived = channel.rawDataReceived = self.dataReceived
        channel.connectionLost = self.connectionLost
        channel.requests.remove(request)
        request.content.close()
        self._inner.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Hand it on."""
        self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count it no more."""
        self._front.addresses.leave(self._address)
        self._front.count_out()
        self._inner.connectionLost(reason)


def _head_of(request: Any) -> bytes:
    """Give a request's head as it came, without the empty line; every header by itself."""
    lines = [b"%s %s HTTP/1.1" % (request.method, request.uri)]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines += [b"%s: %s" % (name, value) for value in values]
    return b"\r\n".join(lines)
