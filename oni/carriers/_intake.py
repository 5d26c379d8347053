"""What a websocket's client sends, held to its limits: bytes and pings a second, fragments."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall

from oni._pace import Pace
from oni.carriers._websocket_protocol import LeanServerProtocol

if TYPE_CHECKING:
    from oni.carriers._websocket_factory import CarrierLimits

__all__ = ["Intake", "IntakeLimits"]

_BURST = 2.0  # seconds; what may come in that time may come at once
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


class IntakeLimits:
    """What all connections of a factory may send.

    Attributes:
        octets: The bytes.
        pings: The pings and pongs of the websocket itself; the protocol's own are messages.
        fragments: Of how many frames a message may be.
        limited: Counts how often that held somebody back, by ``bytes``, ``pings``, ``fragments``.
    """

    __slots__ = ("fragments", "limited", "octets", "pings")

    def __init__(self, limits: CarrierLimits, limited: Counter[str]) -> None:
        self.octets = Pace(
            limits.max_bytes_per_second, max(_BURST * limits.max_bytes_per_second, 1)
        )
        self.pings = Pace(limits.max_pings_per_second, _BURST * limits.max_pings_per_second)
        self.fragments = limits.max_fragments
        self.limited = limited


class Intake(LeanServerProtocol):
    """The receiving half of a connection.

    Who sends more bytes than it may is not read from for as long as these would have taken: TCP
    then makes the client wait. Who sends too many pings or fragments breaks a rule on purpose,
    and is disconnected with 1008.
    """

    factory: Any
    is_throttled = False
    _paid_at = 0.0
    _pings_paid_at = 0.0
    _fragments = 0
    _going_on: IDelayedCall | None = None

    def _regulate_reading(self) -> None:
        """Read or do not, after :attr:`is_throttled` has changed. To be overridden."""
        raise NotImplementedError

    # Hot: once per read.
    def dataReceived(self, data: bytes) -> None:
        """Take bytes, and no more of them for a while where they are too many."""
        factory = self.factory
        now = factory.reactor.seconds()
        self._paid_at = factory.intake.octets.spend(self._paid_at, now, len(data))
        super().dataReceived(data)
        wait = factory.intake.octets.wait(self._paid_at, now)
        if wait > 0 and not self.is_throttled and self.state != self.STATE_CLOSED:
            self.is_throttled = True
            factory.intake.limited["bytes"] += 1
            self._going_on = factory.reactor.callLater(wait, self._go_on)
            self._regulate_reading()

    def _go_on(self) -> None:
        """Read again; what it sent meanwhile could not be heard."""
        del self.is_throttled, self._going_on
        self._regulate_reading()

    def end_intake(self) -> None:
        """Wait for nothing any more: the connection has ended."""
        if self._going_on is not None:
            self._going_on.cancel()
            del self.is_throttled, self._going_on

    # --- Frames ----------------------------------------------------------------------------------

    def onMessageBegin(self, isBinary: bool) -> None:
        """Count anew."""
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Count a frame: empty ones, too, which no limit of bytes sees."""
        super().onMessageFrameBegin(length)
        self._fragments += 1
        if self._fragments > self.factory.intake.fragments and not self.failedByMe:
            self.factory.intake.limited["fragments"] += 1
            self._fail_connection(_POLICY_VIOLATION, "too many fragments")

    def pings_too_fast(self) -> bool:
        """Count a ping or a pong. Say whether it was one too many: then this is the end."""
        pings, now = self.factory.intake.pings, self.factory.reactor.seconds()
        self._pings_paid_at = pings.spend(self._pings_paid_at, now)
        if pings.wait(self._pings_paid_at, now) <= 0:
            return False
        if not self.failedByMe:
            self.factory.intake.limited["pings"] += 1
            self._fail_connection(_POLICY_VIOLATION, "too many pings")
        return True
