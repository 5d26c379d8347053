"""Carriers: connections that deliver publications, by websocket or as server-sent events."""

from __future__ import annotations

from oni.carriers._asyncio import AsyncioCarrier, require_asyncio_reactor
from oni.carriers._base import Carrier, envelope, gap_envelope
from oni.carriers._drain import Drain
from oni.carriers._event_stream import (
    EventStreamCarrier,
    event_frame,
    event_of,
    gap_frame,
    position_frame,
    position_of,
)
from oni.carriers._frames import publication_frame, text_frame
from oni.carriers._handshake_request import Handshake
from oni.carriers._origin import origin_is_allowed
from oni.carriers._outbox import MAX_FLUSH, MAX_WAITING, Outbox
from oni.carriers._stuck import StuckReaders
from oni.carriers._websocket import CarrierOwner, WebSocketCarrier
from oni.carriers._websocket_factory import CarrierLimits, WebSocketCarrierFactory

__all__ = [
    "AsyncioCarrier",
    "Carrier",
    "CarrierLimits",
    "CarrierOwner",
    "EventStreamCarrier",
    "Drain",
    "Handshake",
    "MAX_FLUSH",
    "MAX_WAITING",
    "Outbox",
    "StuckReaders",
    "WebSocketCarrier",
    "WebSocketCarrierFactory",
    "envelope",
    "event_frame",
    "event_of",
    "gap_envelope",
    "gap_frame",
    "origin_is_allowed",
    "position_frame",
    "position_of",
    "publication_frame",
    "require_asyncio_reactor",
    "text_frame",
]
