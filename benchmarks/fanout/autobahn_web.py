"""Autobahn as a resource of ``twisted.web``, all options as they come."""

import sys

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from loop_probe import probe_twisted
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

connections: list[WebSocketServerProtocol] = []


class Subscriber(WebSocketServerProtocol):
    """Hears all, and may publish."""

    def onOpen(self) -> None:
        """Join."""
        connections.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Publish."""
        for connection in connections:
            connection.sendMessage(payload, False)

    def onClose(self, wasClean: bool, code: object, reason: object) -> None:
        """Leave."""
        if self in connections:
            connections.remove(self)


factory = WebSocketServerFactory()
factory.protocol = Subscriber
factory.startFactory()
root = Resource()
root.putChild(b"ws", WebSocketResource(factory))
reactor.listenTCP(int(sys.argv[1]), Site(root), backlog=1024, interface="127.0.0.1")
probe_twisted(reactor)
reactor.run()
