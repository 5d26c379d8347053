"""A small connection: what all have alike is kept once, by their class.

Autobahn copies every option to each connection, unless it is set there already, for instance on
the class; it sets out with more than fifty things that mean "nothing yet", and keeps the whole
handshake. That is four fifths of what an idle connection takes.
"""

from __future__ import annotations

from typing import Any, TypeVar

from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol

__all__ = ["slim_class"]

_Carrier = TypeVar("_Carrier", bound=type)

#: What Autobahn keeps of a handshake of its own.
_OF_THE_HANDSHAKE = (
    "_transport_details",
    "_valid_events",
    "_wskey",
    "http_headers",
    "http_request_data",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "websocket_extensions",
    "websocket_origin",
    "websocket_protocols",
)

#: How connections begin; what changes later is the connection's own.
_AT_FIRST: dict[str, Any] = {
    **dict.fromkeys(
        (
            "_perMessageCompress",
            "autoPingPending",
            "autoPingPendingCall",
            "autoPingPendingSent",
            "autoPingTimeoutCall",
            "closeHandshakeTimeoutCall",
            "current_frame",
            "localCloseCode",
            "localCloseReason",
            "openHandshakeTimeoutCall",
            "remoteCloseCode",
            "remoteCloseReason",
            "trackedTimings",
            "wasNotCleanReason",
        )
    ),
    **dict.fromkeys(
        (
            "closedByMe",
            "droppedByMe",
            "failedByMe",
            "inside_message",
            "triggered",
            "wasClean",
            "wasCloseHandshakeTimeout",
            "wasMaxFramePayloadSizeExceeded",
            "wasMaxMessagePayloadSizeExceeded",
            "wasOpenHandshakeTimeout",
            "wasServerConnectionDropTimeout",
            "wasServingFlashSocketPolicyFile",
        ),
        False,
    ),
    "autoPingPendingSeq": 0,
    "data": b"",
    "send_queue": (),  # what is sent never waits there
    "send_state": WebSocketProtocol.SEND_STATE_GROUND,
    "state": WebSocketProtocol.STATE_CONNECTING,
    "websocket_extensions_in_use": (),
    "websocket_version": 13,
}


def slim_class(carrier: _Carrier, options: Any) -> _Carrier:
    """Make a class of connections that have their options, and how they begin, in common.

    Args:
        carrier: A protocol class of Autobahn's.
        options: What has the options as attributes: its factory.
    """
    names = carrier.CONFIG_ATTRS  # type: ignore[attr-defined]
    common: dict[str, Any] = {name: getattr(options, name) for name in names}
    common |= dict.fromkeys(_OF_THE_HANDSHAKE) | _AT_FIRST | {"trafficStats": TrafficStats()}
    common = {
        name: staticmethod(value) if callable(value) else value for name, value in common.items()
    }
    common |= {"__doc__": carrier.__doc__, "__module__": carrier.__module__}
    return type(carrier)(carrier.__name__, (carrier,), common)
