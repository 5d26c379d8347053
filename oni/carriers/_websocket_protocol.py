"""Autobahn's websocket protocol for a server, with a shorter way in.

Autobahn lays out text for its log at each connection and each read, whether it is logged or not,
and keeps the whole handshake. Here a connection begins with the few things that are its own (see
:mod:`oni.carriers._slim` for the rest), the handshake is ours, and a message that has arrived
whole, in one frame, is unmasked and handed over at once. All else is Autobahn's: fragments, what
comes in pieces, every frame that is wrong, closing and its timers.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from autobahn.twisted.util import peer2str
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from oni.carriers._handshake import Accepted, accept_handshake
from oni.carriers._quiet_log import QuietLog
from oni.protocol import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    BadHeadError,
    RequestHead,
    parse_head,
    refusal_response,
)

if TYPE_CHECKING:
    from oni.carriers._websocket_factory import WebSocketCarrierFactory

__all__ = ["LeanServerProtocol"]

_SUBPROTOCOL = "centrifuge-json"
_TEXT, _BINARY = 0x81, 0x82  # the first byte of a whole message
_MASKED = 0x80
_SHORT = _MASKED | 126  # the length follows, in two bytes


class _Unheard:
    """What Autobahn fires when a connection opens and closes, and nobody hears."""

    def callback(self, result: object) -> None:
        """Fire."""


class LeanServerProtocol(WebSocketServerProtocol):
    """One connection. Its class has what is common to all, see :func:`oni.carriers._slim`."""

    is_open = is_closed = _Unheard()
    log = QuietLog()
    websocket_protocol_in_use: str | None = None

    factory: WebSocketCarrierFactory
    transport: Any
    state: int
    data: bytes
    current_frame: Any
    inside_message: bool
    message_data: Any
    openHandshakeTimeoutCall: Any
    tcpNoDelay: bool
    openHandshakeTimeout: float
    maxConnections: int
    maxFramePayloadSize: int
    maxMessagePayloadSize: int

    _accepted: Accepted | None = None
    _request: RequestHead | None = None

    def __init__(self) -> None:
        """Begin with nothing: what Autobahn makes here, nobody asks for."""

    @property
    def peer(self) -> str:  # type: ignore[override]
        """Who is at the other end, for the log."""
        return str(peer2str(self.transport))

    @cached_property
    def utf8validator(self) -> Any:  # type: ignore[override]
        """Make what checks text that comes in pieces, where some does."""
        return Utf8Validator()

    # --- The handshake --------------------------------------------------------------------------

    def accept(self, head: RequestHead, secure: bool) -> None:
        """Take a request that somebody else has read, before there is a transport.

        Then the connection opens as soon as it is made, and what followed the head is still to be
        given to it.

        Args:
            head: Its head.
            secure: Whether it came over TLS.

        Raises:
            BadHeadError: It opens no websocket here.
        """
        self._accepted = self._admit(head, secure, self.factory.countConnections)

    def connectionMade(self) -> None:
        """Open the websocket, or wait for the request that does."""
        self.factory.countConnections += 1
        with suppress(AttributeError, OSError):  # it is no TCP
            self.transport.setTcpNoDelay(self.tcpNoDelay)
        accepted, self._accepted = self._accepted, None
        if accepted is not None:
            self._open(accepted)
            return
        self.state = self.STATE_CONNECTING
        self.openHandshakeTimeoutCall = self.factory.reactor.callLater(
            self.openHandshakeTimeout, self.onOpenHandshakeTimeout
        )

    def processHandshake(self) -> None:
        """Look whether the request's head is complete. Autobahn calls it until it is."""
        end = self.data.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
        if end < 0 and len(self.data) < MAX_HEAD_BYTES:
            return
        try:
            if end < 0:
                raise BadHeadError(431, "the head is too long")
            secure = ISSLTransport(self.transport, None) is not None
            others = self.factory.countConnections - 1
            accepted = self._admit(parse_head(self.data[:end]), secure, others)
        except BadHeadError as error:
            self.wasNotCleanReason = f"no websocket was opened: {error.reason}"
            self.sendData(refusal_response(error))
            self.dropConnection(abort=False)
            return
        rest = self.data[end + len(END_OF_HEAD) :]
        self.data = b""
        self._stop_waiting()
        self._open(accepted)
        if rest:
            self.dataReceived(rest)

    def _admit(self, head: RequestHead, secure: bool, others: int) -> Accepted:
        if others >= self.maxConnections:
            raise BadHeadError(503, "there are too many connections")
        accepted = accept_handshake(head, _SUBPROTOCOL, secure, self.factory.allowed_origins)
        self._request = head
        return accepted

    def _open(self, accepted: Accepted) -> None:
        if accepted.subprotocol is not None:
            self.websocket_protocol_in_use = accepted.subprotocol
        self.state = self.STATE_OPEN
        self.sendData(accepted.response)
        self.onOpen()
        del self._request  # while it lasts, it is most of what an idle connection takes

    def _stop_waiting(self) -> None:
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None

    # --- What comes -----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        if (
            self.state == self.STATE_OPEN
            and not self.data
            and self.current_frame is None
            and not self.inside_message
        ):
            data = self._take_whole(data)
        if data:
            self._dataReceived(data)

    # Hot: once per message of a client.
    def _take_whole(self, data: bytes) -> bytes:
        """Hand over the messages that are here whole, each in one frame (RFC 6455, section 5).

        Returns:
            What has to be looked at with more care; most often nothing.
        """
        longest = min(self.maxFramePayloadSize, self.maxMessagePayloadSize)
        at, last = 0, len(data) - 6  # no frame is shorter than six bytes
        while at <= last and (data[at] == _TEXT or data[at] == _BINARY):
            is_binary, size, start = data[at] == _BINARY, data[at + 1], at + 6
            if size < _SHORT:
                size -= _MASKED
            elif size == _SHORT:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 8
                if size < 126:
                    break
            else:
                break
            end = start + size
            if not 0 <= size <= longest or len(data) < end:  # below 0: it is not masked
                break
            payload = _unmask(data[start:end], data[start - 4 : start])
            if not is_binary and not _is_utf8(payload):
                break
            at = end
            self.onMessage(payload, is_binary)
        return data[at:]

    def onMessageEnd(self) -> None:
        """Hand over a message that Autobahn has put together. Nobody else listens."""
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = None

    # --- The end --------------------------------------------------------------------------------

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Clean up."""
        self.factory.countConnections -= 1
        WebSocketProtocol._connectionLost(self, cast(Any, reason))


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """Unmask (RFC 6455, section 5.3), all bytes at once as one number."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
