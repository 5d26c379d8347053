"""A websocket connection, on Autobahn, that delivers publications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import IDelayedCall, IPushProducer, ISSLTransport
from twisted.logger import Logger
from zope.interface import implementer

from oni.carriers._frames import pong_frame, publication_frame, text_frame
from oni.carriers._origin import origin_is_allowed
from oni.interfaces import ICarrier, IEntry
from oni.protocol import CloseCode

if TYPE_CHECKING:
    from oni.carriers._websocket_factory import WebSocketCarrierFactory

__all__ = ["MAX_WAITING", "CarrierOwner", "WebSocketCarrier"]

_log = Logger()

#: Bytes that may wait for a client that does not read; with more it is too slow.
MAX_WAITING = 1024 * 1024

_FLUSH_AT = 64 * 1024  # bytes that are written before the reactor turn ends
_JSON = "centrifuge-json"


class CarrierOwner(Protocol):
    """What a connection belongs to, and reports to."""

    def received(self, frame: bytes) -> None:
        """Take the payload of a message."""

    def was_read(self) -> None:
        """Learn that the client, which did not read for a while, has done so."""

    def connection_lost(self) -> None:
        """Learn that nothing comes or goes any more; once."""


@implementer(ICarrier, IPushProducer)
class WebSocketCarrier(WebSocketServerProtocol):
    """One client's connection.

    What is sent within one reactor turn leaves in one write. While the transport asks to pause,
    frames wait here and nothing is read; with more than :data:`MAX_WAITING` bytes the client is
    disconnected as slow.
    """

    factory: WebSocketCarrierFactory
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._owner: CarrierOwner | None = None
        self._outbox: list[bytes] = []
        self._waiting = 0
        self._flush_is_due = False
        self._write_paused = False
        self._owner_pauses = False
        self._read_paused = False
        self._producing = False
        self._end: IDelayedCall | None = None

    # --- What the owner calls -----------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        """Send a text message. Nothing happens where the connection is closing or closed."""
        self._put(text_frame(payload))

    def deliver(self, entry: IEntry) -> None:
        """See :class:`oni.interfaces.ICarrier`.

        Raises:
            ConnectionError: The connection is closing or closed.
        """
        if self.state != self.STATE_OPEN:
            raise ConnectionError("the websocket is closed")
        self._put(entry.encoded(publication_frame))

    def close(self, code: CloseCode) -> None:
        """Say why, and close. What was sent before still leaves, unless the client is too slow."""
        if self.state != self.STATE_OPEN:
            return
        self._flush()
        self._forget()
        self.sendClose(code.code, code.reason)

    def pause_reading(self) -> None:
        """Take no more from the client; what has arrived already may still be handed over."""
        self._owner_pauses = True
        self._regulate_reading()

    def resume_reading(self) -> None:
        """Take more from the client, as soon as it reads itself."""
        self._owner_pauses = False
        self._regulate_reading()

    def _regulate_reading(self) -> None:
        """Read where the owner wants it and the client reads, too; when closing, in any case.

        The client's answer to a close would never be seen otherwise.
        """
        is_open = self.state == self.STATE_OPEN
        pause = is_open and (self._owner_pauses or self._write_paused)
        if pause is not self._read_paused:
            self._read_paused = pause
            if pause:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # --- The outbox ---------------------------------------------------------------------------

    def _put(self, frame: bytes) -> None:
        if self.state != self.STATE_OPEN:
            return
        self._outbox.append(frame)
        self._waiting += len(frame)
        if self._write_paused:
            if self._waiting > MAX_WAITING:
                self._too_slow()
        elif self._waiting >= _FLUSH_AT:
            self._flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self.factory.flush_soon(self)

    def flush_now(self) -> None:
        """Write what waits: the reactor turn is over."""
        self._flush_is_due = False
        if self.state == self.STATE_OPEN:
            self._flush()

    def _flush(self) -> None:
        if self._write_paused or not self._outbox:
            return
        data = b"".join(self._outbox)
        self._forget()
        self.transport.write(data)

    def _forget(self) -> None:
        self._outbox.clear()
        self._waiting = 0

    def _too_slow(self) -> None:
        _log.warn(
            "closing {peer}: it does not read, and {waiting} bytes wait for it",
            peer=self.peer,
            waiting=self._waiting,
        )
        self.close(CloseCode.SLOW)

    # --- What the transport calls ---------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Write no more for now, nor read. The transport may say so repeatedly."""
        self._write_paused = True
        self._regulate_reading()

    def resumeProducing(self) -> None:
        """Write again, and read."""
        self._write_paused = False
        if self._owner is not None:
            self._owner.was_read()
        if self.state == self.STATE_OPEN:
            self._flush()
        self._regulate_reading()

    def stopProducing(self) -> None:
        """Write no more at all."""
        self._write_paused = True
        self._forget()

    # --- What Autobahn and the transport call ---------------------------------------------------

    def connectionMade(self) -> None:
        """Begin the handshake."""
        super().connectionMade()
        self._producing = True
        self.transport.registerProducer(self, True)

    def unregisterProducer(self) -> None:
        """Let the transport go; Autobahn says so more than once."""
        if self._producing:
            self._producing = False
            self.transport.unregisterProducer()

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Let the client in, or refuse it before there is a websocket.

        Raises:
            ConnectionDeny: It comes from a page of another site, or speaks another protocol.
        """
        headers = request.headers
        secure = ISSLTransport(self.transport, None) is not None
        if not origin_is_allowed(
            headers.get("origin"), headers["host"].strip(), secure, self.factory.allowed_origins
        ):
            raise ConnectionDeny(ConnectionDeny.FORBIDDEN, "origin not allowed")
        if not request.protocols or _JSON in request.protocols:
            return _JSON if request.protocols else None
        raise ConnectionDeny(ConnectionDeny.BAD_REQUEST, "only the JSON protocol is spoken")

    def onOpen(self) -> None:
        """Begin: the owner is made now."""
        self._owner = self.factory.open(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Hand a message to the owner."""
        if self._owner is not None and self.state == self.STATE_OPEN:
            self._owner.received(payload)

    def onPing(self, payload: bytes) -> None:
        """Answer in the same order and within the same bound as everything else."""
        self._put(pong_frame(payload))

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Begin to close, whoever wanted it, and tell the owner at once."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._regulate_reading()
        self._leave()

    def dropConnection(self, abort: bool = False) -> None:
        """End the connection, also where what is still to be written never leaves."""
        super().dropConnection(abort)
        self._leave()
        if not abort and self._end is None and self.connected:
            seconds = self.factory.closeHandshakeTimeout
            self._end = self.factory.reactor.callLater(seconds, self.transport.abortConnection)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Clean up: the connection has ended."""
        if self._end is not None and self._end.active():
            self._end.cancel()
        self._leave()

    def _leave(self) -> None:
        """Tell the owner that it is over."""
        self._forget()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.connection_lost()
