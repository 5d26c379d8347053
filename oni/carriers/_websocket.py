"""A websocket connection, on Autobahn, that delivers publications."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import IDelayedCall, IPushProducer, ISSLTransport
from twisted.logger import Logger
from zope.interface import implementer

from oni.carriers._direct import direct_send
from oni.carriers._frames import pong_frame, publication_frame, text_frame
from oni.carriers._handshake import Handshake
from oni.carriers._intake import Intake
from oni.carriers._origin import origin_is_allowed
from oni.carriers._outbox import Outbox
from oni.carriers._slim import slim
from oni.interfaces import ICarrier, ISubscription
from oni.protocol import CloseCode
from oni.values import ClientInfo, Position

if TYPE_CHECKING:
    from oni.carriers._websocket_factory import WebSocketCarrierFactory

__all__ = ["CarrierOwner", "WebSocketCarrier"]

_log = Logger()

_JSON = "centrifuge-json"


class CarrierOwner(Protocol):
    """What a connection belongs to, and reports to."""

    def received(self, frame: bytes) -> None:
        """Take the payload of a message."""

    def was_read(self) -> None:
        """Learn that the client, which did not read for a while, has done so."""

    def connection_lost(self) -> None:
        """Learn that nothing comes or goes any more; once."""

    def lost(self, subscription: ISubscription, position: Position) -> None:
        """See :meth:`oni.interfaces.ICarrier.lost`. The client is told by a message, if at all."""

    def overdue(self, subscription: ISubscription) -> None:
        """See :meth:`oni.interfaces.ICarrier.overdue`."""

    def joined(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :meth:`oni.interfaces.ICarrier.joined`."""

    def left(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :meth:`oni.interfaces.ICarrier.left`."""


@implementer(ICarrier, IPushProducer)
class WebSocketCarrier(Outbox, Intake):  # type: ignore[misc]
    """One client's connection.

    What is sent within one reactor turn leaves in one write. While bytes wait in the transport,
    replies wait here and nothing is read; with too many replies waiting the client is
    disconnected as slow.

    On a plain TCP connection bytes are given to the socket at once, by the one place where all
    of them pass, :meth:`sendData`. What the socket does not take goes to the transport, which is
    asked to say when it has sent it; until then nothing else is handed over but the websocket's
    own frames, which go to the transport, too, behind it.
    """

    #: Encodes a publication, see :class:`oni.interfaces.ICarrier`.
    encode = staticmethod(publication_frame)

    factory: WebSocketCarrierFactory
    transport: Any
    _headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self._owner: CarrierOwner | None = None
        self._direct: Callable[[bytes], int] | None = None
        self._is_registering = False
        self._owner_pauses = False
        self._read_paused = False
        self._producing = False
        self._end: IDelayedCall | None = None

    # --- What the owner calls -----------------------------------------------------------------

    @property
    def handshake(self) -> Handshake:
        """The request with which the connection began. It is known only while an owner is made."""
        return Handshake(self._headers)

    def send(self, payload: bytes) -> None:
        """Send a text message. Nothing happens where the connection is closing or closed."""
        if self.state == self.STATE_OPEN:
            self.put(text_frame(payload))

    def close(self, code: CloseCode) -> None:
        """Say why, and close. What was sent before still leaves, unless the client is too slow."""
        if self.state != self.STATE_OPEN:
            return
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

        The client's answer to a close would never be seen otherwise. Who sends too many bytes is
        slowed down even then.
        """
        is_open = self.state == self.STATE_OPEN
        pause = self.is_throttled or (is_open and (self._owner_pauses or self._is_blocked))
        if pause is not self._read_paused:
            self._read_paused = pause
            if pause:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # --- What channels call ---------------------------------------------------------------------

    def lost(self, subscription: ISubscription, position: Position) -> bytes:
        """See :class:`oni.interfaces.ICarrier`. The owner tells the client."""
        if self._owner is not None:
            self._owner.lost(subscription, position)
        return b""

    def overdue(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        if self._owner is not None:
            self._owner.overdue(subscription)

    def joined(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`. Who does not read is not told."""
        if self._owner is not None and not self._is_blocked:
            self._owner.joined(subscription, info)

    def left(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`. Who does not read is not told."""
        if self._owner is not None and not self._is_blocked:
            self._owner.left(subscription, info)

    # --- The outbox -----------------------------------------------------------------------------

    def transmit(self, data: bytes) -> None:
        """See :class:`oni.carriers._outbox.Outbox`."""
        if self.state == self.STATE_OPEN:
            self.sendData(data)

    def too_slow(self, waiting: int) -> None:
        """See :class:`oni.carriers._outbox.Outbox`."""
        _log.warn(
            "closing {peer}: it does not read, and {waiting} bytes wait for it",
            peer=self.peer,
            waiting=waiting,
        )
        self.forget()
        self.close(CloseCode.SLOW)

    def abort(self) -> None:
        """See :class:`oni.carriers._outbox.Outbox`."""
        self.transport.abortConnection()

    def block(self) -> None:
        """See :class:`oni.carriers._outbox.Outbox`. That must not last for ever."""
        if not self._is_blocked:
            self.factory.stuck.add(self)
        super().block()

    def unblock(self) -> None:
        """See :class:`oni.carriers._outbox.Outbox`."""
        if self._is_blocked:
            self.factory.stuck.remove(self)
        super().unblock()

    def is_stuck(self) -> None:
        """End: the client takes too little of what it was sent."""
        _log.warn("closing {peer}: it reads too slowly", peer=self.peer)
        self.forget()
        if self.state == self.STATE_OPEN:
            self.close(CloseCode.SLOW)
        else:
            self.abort()

    # Hot: once per delivery. benchmarks/fanout.py.
    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send bytes: everything passes here, Autobahn's own frames and heads too.

        The arguments ``sync`` and ``chopsize`` only say when bytes should leave; at once is best.
        """
        if self._direct is not None and not self._is_blocked and not self.transport.disconnecting:
            try:
                sent = self._direct(data)
            except OSError:  # it would block, or is broken: then the transport finds that out
                sent = 0
            if sent < len(data):
                self.transport.write(data[sent:])
                self._wait_until_sent()
        else:
            self.transport.write(data)

    def _wait_until_sent(self) -> None:
        """Let the transport say when it has sent everything: a pull producer is asked for more."""
        self.block()
        self._regulate_reading()
        if not self._producing:
            self._producing = True
            self._is_registering = True  # it is asked at once, too
            self.transport.registerProducer(self, False)
            self._is_registering = False

    # --- What the transport calls ---------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Write no more for now, nor read. The transport may say so repeatedly."""
        self.block()
        self._regulate_reading()

    def resumeProducing(self) -> None:
        """Write again, and read."""
        if self._is_registering:
            return
        if self._direct is not None:
            self.unregisterProducer()
        if self._owner is not None:
            self._owner.was_read()
        self.unblock()
        self._regulate_reading()

    def stopProducing(self) -> None:
        """Write no more at all."""
        self.block()
        self.forget()

    # --- What Autobahn and the transport call ---------------------------------------------------

    def connectionMade(self) -> None:
        """Begin the handshake."""
        self.begin_outbox(self.factory.drain)
        if self.factory.sends_directly:
            self._direct = direct_send(self.transport)
        super().connectionMade()
        if self._direct is None:
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
        self._headers = headers
        if not request.protocols or _JSON in request.protocols:
            return _JSON if request.protocols else None
        raise ConnectionDeny(ConnectionDeny.BAD_REQUEST, "only the JSON protocol is spoken")

    def onOpen(self) -> None:
        """Begin: the owner is made now."""
        self._owner = self.factory.open(self)
        self.__dict__.pop("_headers", None)
        slim(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Hand a message to the owner."""
        if self._owner is not None and self.state == self.STATE_OPEN:
            self._owner.received(payload)

    def onPing(self, payload: bytes) -> None:
        """Answer in the same order and within the same bound as everything else."""
        if self.state == self.STATE_OPEN and not self.pings_too_fast():
            self.put(pong_frame(payload))

    def onPong(self, payload: bytes) -> None:
        """Only count: the protocol has pings of its own."""
        if self.state == self.STATE_OPEN:
            self.pings_too_fast()

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Begin to close, whoever wanted it, behind every reply, and tell the owner at once."""
        if self.state == self.STATE_OPEN:
            self.flush_replies()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._regulate_reading()
        self._leave()

    def dropConnection(self, abort: bool = False) -> None:
        """End the connection, also where what is still to be written never leaves."""
        self._direct = None
        super().dropConnection(abort)
        self._leave()
        if not abort and self._end is None and self.connected:
            seconds = self.factory.closeHandshakeTimeout
            self._end = self.factory.reactor.callLater(seconds, self.transport.abortConnection)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Clean up: the connection has ended."""
        self._direct = None
        self.end_intake()
        self.factory.stuck.remove(self)
        if self._end is not None and self._end.active():
            self._end.cancel()
        self._leave()

    def _leave(self) -> None:
        """Tell the owner that it is over."""
        self.end_outbox()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.connection_lost()
