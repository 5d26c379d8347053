"""Server-sent events: a response that does not end, read by a browser's ``EventSource``.

See https://html.spec.whatwg.org/multipage/server-sent-events.html. Each event has the
publication's position as its id, which the browser sends back as ``Last-Event-ID`` when it
connects again.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from oni.carriers._drain import drain_on
from oni.carriers._stuck import StuckReaders
from oni.interfaces import ICarrier, IEntry, ISubscription
from oni.values import ClientInfo, Position

__all__ = [
    "EventStreamCarrier",
    "event_frame",
    "event_of",
    "gap_frame",
    "position_frame",
    "position_of",
]

_CHUNK = 64 * 1024  # bytes that are written in one turn
_COMMENT = b":\n\n"
_MAX_OFFSET = 2**63 - 1


def event_frame(entry: IEntry) -> bytes:
    """Write a publication as an event. Its name is the publication's, its id the position."""
    return event_of(entry.event, entry.data, entry.position)


def event_of(name: str, data: bytes, position: Position) -> bytes:
    """Write an event.

    Args:
        name: The event's name, without line ends.
        data: JSON. Its line ends are only ever space between tokens.
        position: Where the reader stands after it.
    """
    line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"id: %s:%d\nevent: %s\ndata: %s\n\n" % (
        position.epoch.encode(),
        position.offset,
        name.encode(),
        line,
    )


def position_frame(position: Position) -> bytes:
    """Write where the reader stands; no event is fired for that."""
    return b"id: %s:%d\n\n" % (position.epoch.encode(), position.offset)


def gap_frame(position: Position) -> bytes:
    """Write that something was lost, and that it goes on after this."""
    told = {"epoch": position.epoch, "offset": position.offset}
    return event_of("gap", msgspec.json.encode(told), position)


def position_of(event_id: str) -> Position:
    """Read the id of the last event that a client has seen.

    Returns:
        The position. Of something else than such an id: one that no stream has.
    """
    epoch, _, offset = event_id.rpartition(":")
    if epoch and offset.isascii() and offset.isdigit() and len(offset) < 20:
        return Position(epoch, min(int(offset), _MAX_OFFSET))
    return Position("", 0)


@implementer(ICarrier, IPushProducer)
class EventStreamCarrier:
    """Delivers publications into a response.

    While the transport asks to pause, nothing is taken: what waits stays in the channel. A gap
    is told as an event ``gap`` with the position after which it goes on.

    Args:
        request: The :class:`twisted.web.server.Request` that is answered.
        reactor: The reactor.
        stuck: Finds those that read too slowly; None: they may.
    """

    encode = staticmethod(event_frame)

    def __init__(self, request: Any, reactor: Any, stuck: StuckReaders | None = None) -> None:
        self._request = request
        self._stuck = stuck
        self._drain = drain_on(reactor)
        self._subscription: ISubscription | None = None
        self._is_due = False
        self._paused = False
        self._is_open = False

    # --- The response ---------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether events can be written."""
        return self._is_open

    @property
    def is_paused(self) -> bool:
        """Whether the connection takes nothing just now."""
        return self._paused

    @property
    def waiting_bytes(self) -> int:
        """Bytes of replies that wait here: there are none."""
        return 0

    def begin_response(self) -> None:
        """Send the head of the response."""
        request = self._request
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"cache-control", b"no-cache, no-store")
        request.setHeader(b"x-accel-buffering", b"no")  # nginx would wait for more
        self._is_open = True
        request.write(_COMMENT)
        request.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send something now. Nothing happens where the response has ended."""
        if self._is_open:
            self._request.write(data)

    def write_comment(self) -> None:
        """Send what no client sees, so that everything in between knows that it is alive."""
        self.write(_COMMENT)

    def end_response(self) -> None:
        """End the response. The browser will ask again."""
        if self._is_open:
            self.gone()
            self._request.unregisterProducer()
            self._request.finish()

    def gone(self) -> None:
        """Take no more: the connection has ended, or is about to."""
        self._is_open = False
        self._subscription = None
        if self._stuck is not None:
            self._stuck.remove(self)

    # --- What the channel calls -----------------------------------------------------------------

    def wake(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        self._subscription = subscription
        self._ask_for_turn()

    def lost(self, subscription: ISubscription, position: Position) -> bytes:
        """See :class:`oni.interfaces.ICarrier`."""
        return gap_frame(position)

    def overdue(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        self.abort()

    def is_stuck(self) -> None:
        """End: the client takes too little of what it was sent."""
        self.abort()

    def abort(self) -> None:
        """End at once. The drain calls it where writing has failed."""
        if self._is_open:
            self.gone()
            self._request.transport.abortConnection()

    def joined(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`. Nobody asks for it here."""

    def left(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`. Nobody asks for it here."""

    # --- What the transport calls ---------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Take no more for now. The transport may say so repeatedly."""
        self._paused = True
        if self._stuck is not None and self._is_open:
            self._stuck.add(self)

    def resumeProducing(self) -> None:
        """Take again."""
        self._paused = False
        if self._stuck is not None:
            self._stuck.remove(self)
        self._ask_for_turn()

    def stopProducing(self) -> None:
        """Take no more at all."""
        self.gone()

    # --- Turns ----------------------------------------------------------------------------------

    def _ask_for_turn(self) -> None:
        if not self._is_due and self._is_open and not self._paused:
            self._is_due = True
            self._drain.add(self)

    def flush(self) -> None:
        """Write what one turn allows. The drain calls it."""
        self._is_due = False
        if self._subscription is None or self._paused or not self._is_open:
            return
        data = self._subscription.take(_CHUNK)
        if data:
            self.write(data)
            self._ask_for_turn()
