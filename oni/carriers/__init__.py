"""Carriers: connections that deliver publications. Here: websockets, on Autobahn."""

from __future__ import annotations

from oni.carriers._frames import publication_frame, text_frame
from oni.carriers._origin import origin_is_allowed
from oni.carriers._websocket import MAX_WAITING, CarrierOwner, WebSocketCarrier
from oni.carriers._websocket_factory import CarrierLimits, WebSocketCarrierFactory

__all__ = [
    "CarrierLimits",
    "CarrierOwner",
    "MAX_WAITING",
    "WebSocketCarrier",
    "WebSocketCarrierFactory",
    "origin_is_allowed",
    "publication_frame",
    "text_frame",
]
