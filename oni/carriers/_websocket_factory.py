"""Where websocket connections come from: Autobahn's factory, with every option set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.interfaces import IReactorTime

from oni.carriers._drain import Drain
from oni.carriers._intake import IntakeLimits
from oni.carriers._slim import slim_class
from oni.carriers._stuck import StuckReaders
from oni.carriers._websocket import CarrierOwner, WebSocketCarrier

__all__ = ["CarrierLimits", "WebSocketCarrierFactory"]


@dataclass(frozen=True, slots=True)
class CarrierLimits:
    """What a connection may do.

    Attributes:
        max_message_bytes: The longest message that is taken.
        max_connections: How many there may be at once.
        open_timeout: Seconds until the handshake must be over.
        close_timeout: Seconds until a closed connection must have ended.
        allowed_origins: Origins besides the own one whose pages may connect.
        max_fragments: Of how many frames a message may be.
        max_bytes_per_second: Bytes that one may send; twice that at once.
        max_pings_per_second: Pings and pongs of the websocket that one may send; twice that at
            once.
        drain_timeout: Seconds in which the client must take what it was sent, a flush at most.
        sends_directly: Whether bytes are given to a plain TCP connection's socket at once.
    """

    max_message_bytes: int = 64 * 1024
    max_connections: int = 1000
    open_timeout: float = 5.0
    close_timeout: float = 5.0
    allowed_origins: Sequence[str] = ()
    max_fragments: int = 128
    max_bytes_per_second: float = 256 * 1024
    max_pings_per_second: float = 10.0
    drain_timeout: float = 30.0
    sends_directly: bool = True


class WebSocketCarrierFactory(WebSocketServerFactory):
    """Makes websocket connections, with every option of Autobahn set.

    Its defaults are open: no limits, any origin. A page's own origin is checked against the Host
    header by the carrier, so Autobahn's list of patterns lets everything pass but ``null``.

    Autobahn's own pings are off: the protocol has pings that every client answers, and they take
    into account that the server itself may have stopped reading.
    """

    protocol = WebSocketCarrier  # type: ignore[assignment]

    def __init__(
        self,
        open_owner: Callable[[WebSocketCarrier], CarrierOwner],
        limits: CarrierLimits,
        reactor: Any,
        limited: Counter[str] | None = None,
    ) -> None:
        """Set the options.

        Args:
            open_owner: Is called with each connection that is open, and gives what it belongs to.
            limits: What a connection may do.
            reactor: The reactor.
            limited: Counts how often a limit held somebody back, by ``bytes``, ``pings``,
                ``fragments`` and ``slow``.
        """
        limited = Counter() if limited is None else limited
        super().__init__(server="Oni", reactor=reactor)
        # Autobahn's timers use one reactor for the whole process, whatever a factory was given.
        self._batched_timer = _Timer(reactor)
        self.open = open_owner
        self.allowed_origins = tuple(limits.allowed_origins)
        self.drain = Drain(reactor)
        self.stuck = StuckReaders(reactor, limits.drain_timeout, limited)
        self.intake = IntakeLimits(limits, limited)
        self.sends_directly = limits.sends_directly
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            utf8validateIncoming=True,
            maskServerFrames=False,
            requireMaskedClientFrames=True,
            applyMask=True,
            maxFramePayloadSize=limits.max_message_bytes,
            maxMessagePayloadSize=limits.max_message_bytes,
            autoFragmentSize=0,
            failByDrop=False,
            echoCloseCodeReason=True,
            openHandshakeTimeout=limits.open_timeout,
            closeHandshakeTimeout=limits.close_timeout,
            tcpNoDelay=True,
            perMessageCompressionAccept=_no_compression,
            autoPingInterval=0,
            autoPingTimeout=0,
            autoPingSize=12,
            autoPingRestartOnAnyTraffic=True,
            serveFlashSocketPolicy=False,
            flashSocketPolicy="",
            allowedOrigins=["*"],
            allowNullOrigin=False,
            maxConnections=limits.max_connections,
            trustXForwardedFor=0,
        )
        self.protocol = slim_class(self.protocol, self)


class _Timer:
    """Autobahn's timers, on one reactor."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Any:
        return self._reactor.callLater(delay, call, *args)


def _no_compression(offers: Sequence[Any]) -> None:
    """Accept no offer to compress: it costs memory, and has had holes."""
