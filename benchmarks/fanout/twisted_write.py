"""Bare Twisted: a message is framed once, then ``transport.write`` to each connection in turn.

No websocket library: the handshake and the reading of frames are the least that will do, so that
what remains is the price of Twisted's transports. Made for the load client (frames are masked
with zero and shorter than 64 KiB), not for the world.
"""

import sys
from base64 import b64encode
from hashlib import sha1

from loop_probe import probe_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
connections: list["Subscriber"] = []


class Subscriber(Protocol):
    """Hears all, and may publish."""

    data = b""
    upgraded = False

    def connectionMade(self) -> None:
        """Send small things at once."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Take what is whole."""
        data = self.data + data
        if not self.upgraded:
            head, end, rest = data.partition(b"\r\n\r\n")
            if end:
                self.upgrade(head)
                data = rest
        while self.upgraded and len(data) >= 2:
            length, begin = data[1] & 0x7F, 6
            if length == 126:
                length, begin = int.from_bytes(data[2:4], "big"), 8
            if len(data) < begin + length:
                break
            publish(data[begin : begin + length])
            data = data[begin + length :]
        self.data = data

    def upgrade(self, head: bytes) -> None:
        """Answer the handshake, and join."""
        names = (line.partition(b": ") for line in head.split(b"\r\n"))
        key = next(value for name, _, value in names if name == b"Sec-WebSocket-Key")
        accept = b64encode(sha1(key + _GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.upgraded = True
        connections.append(self)

    def connectionLost(self, reason: object) -> None:  # type: ignore[override]
        """Leave."""
        if self in connections:
            connections.remove(self)


def publish(payload: bytes) -> None:
    """Tell everyone."""
    length = len(payload)
    head = bytes((0x81, length)) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")
    frame = head + payload
    for connection in connections:
        connection.transport.write(frame)


factory = Factory.forProtocol(Subscriber)
reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
probe_twisted(reactor)
reactor.run()
