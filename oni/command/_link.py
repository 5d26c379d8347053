"""A websocket to a daemon, on Autobahn."""

from __future__ import annotations

import re
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectingRequest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from oni.command._failures import NoAnswerError
from oni.command._target import Target

__all__ = ["BUSY", "Link", "LinkOwner", "open_link"]

BUSY = "it takes no more connections for now"
"""The reason of a link that was refused only because others came just before."""

_STATUS = re.compile(r"upgrade failed \[([0-9]{3})")
_STATUSES = {
    "403": "this origin may not connect: see server.allowed_origins",
    "421": "it does not answer under this name: see server.allowed_hosts, or use --config",
    "503": BUSY,
}
# How service_identity says that a certificate is for another name.
_OTHER_NAME = ("VerificationError", "CertificateError")
_MAX_MESSAGE = 64 * 1024 * 1024
_CLOSE_TIMEOUT = 2.0  # seconds to wait for the daemon's part of a close


class LinkOwner(Protocol):
    """What a link reports to."""

    def opened(self, link: Link) -> None:
        """Learn that the websocket is open."""

    def received(self, link: Link, frame: bytes) -> None:
        """Take a message."""

    def closed(self, link: Link, code: int, reason: str) -> None:
        """Learn that it is over; once for each link, also for one that never was open."""


class Link(WebSocketClientProtocol):
    """One connection.

    Attributes:
        is_up: Whether the handshake is over and nobody has closed.
    """

    transport: Any
    is_up = False
    _over = False
    _trouble = ""

    @property
    def _owner(self) -> LinkOwner:
        return self.factory.owner  # type: ignore[no-any-return]

    def send(self, frame: bytes) -> None:
        """Send a message; nothing happens where the link is closed."""
        if frame and self.is_up:
            self.sendMessage(frame)

    def end(self) -> None:
        """Close in order, within a bound."""
        if self.is_up:
            self.sendClose(1000)
        elif self.transport is not None:
            self.transport.abortConnection()

    def abort(self) -> None:
        """End at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def onConnecting(self, transport_details: Any) -> ConnectingRequest:
        """Say what to ask for; Autobahn itself would forget the brackets of an IPv6 address."""
        factory = self.factory
        name = factory.target.name
        return ConnectingRequest(
            host=f"[{name}]" if ":" in name else name,
            port=factory.target.port,
            resource=factory.resource,
            useragent=factory.useragent,
            protocols=factory.protocols,
        )

    def onOpen(self) -> None:
        """Tell the owner."""
        self.is_up = True
        self._owner.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Hand a message on."""
        if self.is_up:
            self._owner.received(self, payload)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Learn what was wrong before Autobahn makes one text of all."""
        if type(reason.value).__name__ in _OTHER_NAME:
            self._trouble = "its certificate is for another name"
        elif "certificate verify failed" in str(reason.value):
            self._trouble = "its certificate is not trusted"
        elif self.wasOpenHandshakeTimeout:
            self._trouble = f"it did not answer within {self.factory.target.timeout:g} s"
        super().connectionLost(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Tell the owner."""
        self.is_up = False
        if not self._over:
            self._over = True
            self._owner.closed(self, code or 1006, self._trouble or _in_short(reason or ""))


def _in_short(reason: str) -> str:
    """Leave out what Autobahn says around a reason of its own."""
    found = _STATUS.search(reason)
    if found is not None:
        return _STATUSES.get(found[1], f"there is no websocket: status {found[1]}")
    return "the connection was lost" if "uncleanly" in reason else reason


class _Factory(WebSocketClientFactory):
    """Makes one link, with every option set: Autobahn's defaults are open."""

    protocol = Link
    noisy = False

    def __init__(self, target: Target, owner: LinkOwner, reactor: Any) -> None:
        super().__init__(
            url=target.websocket,
            protocols=["centrifuge-json"],
            useragent="oni",
            reactor=reactor,
        )
        self.owner = owner
        self.target = target
        self.setProtocolOptions(
            version=18,
            utf8validateIncoming=True,
            acceptMaskedServerFrames=False,
            maskClientFrames=True,
            applyMask=True,
            maxFramePayloadSize=_MAX_MESSAGE,
            maxMessagePayloadSize=_MAX_MESSAGE,
            autoFragmentSize=0,
            failByDrop=True,
            echoCloseCodeReason=True,
            serverConnectionDropTimeout=1.0,
            openHandshakeTimeout=target.timeout,
            closeHandshakeTimeout=_CLOSE_TIMEOUT,
            tcpNoDelay=True,
            perMessageCompressionOffers=[],
            perMessageCompressionAccept=lambda _: None,
            autoPingInterval=0,
            autoPingTimeout=0,
        )


def open_link(target: Target, owner: LinkOwner, reactor: Any) -> Deferred[Link]:
    """Connect; the owner hears of everything that follows.

    Returns:
        A Deferred that fires when the connection is there, before the handshake; it fails where
        nobody listens.

    Raises:
        NoAnswerError: There is no TLS here to speak.
    """
    endpoint: Any = HostnameEndpoint(reactor, target.host, target.port, target.timeout)
    if target.secure:
        try:
            from twisted.internet.ssl import optionsForClientTLS
        except ImportError as error:
            raise NoAnswerError(f"TLS needs: pip install 'twisted[tls]' ({error})") from error
        endpoint = wrapClientTLS(optionsForClientTLS(target.name), endpoint)
    connected: Deferred[Link] = endpoint.connect(_Factory(target, owner, reactor))
    return connected
