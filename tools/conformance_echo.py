"""The websocket carrier as an echo server, for the Autobahn Testsuite.

``python tools/conformance_echo.py direct|transport SIZE`` listens on a free loopback port, prints
its address and runs until it is killed. ``direct`` gives bytes to the socket at once,
``transport`` to Twisted's transport. With a SIZE the socket's send buffer is that small, so that
the kernel takes most messages in pieces.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, cast

from twisted.internet import reactor

from oni.carriers import CarrierLimits, WebSocketCarrier, WebSocketCarrierFactory, text_frame

MAX_MESSAGE = 1024 * 1024


class Echo(WebSocketCarrier):
    """Sends every message back, through the outbox as all that Oni sends."""

    send_buffer = 0

    def connectionMade(self) -> None:
        """Make the socket's buffer small."""
        if self.send_buffer:
            handle = self.transport.getHandle()
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        super().connectionMade()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Send it back; a binary frame differs from a text frame in its first byte only."""
        if self.state == self.STATE_OPEN:
            frame = text_frame(payload)
            self.put(b"\x82" + frame[1:] if isBinary else frame)


class EchoFactory(WebSocketCarrierFactory):
    """Makes echoing connections, as slim as all others."""

    protocol = Echo  # type: ignore[assignment]


class Nobody:
    """An owner that hears nothing."""

    def received(self, frame: bytes) -> None:
        """Not called: messages do not get here."""

    def was_read(self) -> None:
        """Nothing depends on it."""

    def connection_lost(self) -> None:
        """Nothing depends on it."""


def main(way: str, size: str) -> None:
    """Serve."""
    Echo.send_buffer = int(size)
    limits = CarrierLimits(
        max_message_bytes=MAX_MESSAGE,
        max_fragments=MAX_MESSAGE,  # the suite sends messages in very many
        max_bytes_per_second=1e12,
        sends_directly=way == "direct",
    )
    factory = EchoFactory(lambda carrier: cast(Any, Nobody()), limits, reactor)
    port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
    print(f"ws://127.0.0.1:{port.getHost().port}", flush=True)
    cast(Any, reactor).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
