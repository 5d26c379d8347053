"""Autobahn, all options as they come: each message is framed once and sent to everyone."""

import sys

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from loop_probe import probe_twisted
from twisted.internet import reactor

connections: list[WebSocketServerProtocol] = []


class Subscriber(WebSocketServerProtocol):
    """Hears all, and may publish."""

    def onOpen(self) -> None:
        """Join."""
        connections.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Publish."""
        prepared = self.factory.prepareMessage(payload, False)
        for connection in connections:
            connection.sendPreparedMessage(prepared)

    def onClose(self, wasClean: bool, code: object, reason: object) -> None:
        """Leave."""
        if self in connections:
            connections.remove(self)


factory = WebSocketServerFactory()
factory.protocol = Subscriber
reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
probe_twisted(reactor)
reactor.run()
