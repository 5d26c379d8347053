"""A smaller connection: what all have alike is kept once, what only the handshake needs, dropped.

Autobahn copies every option to each connection, unless it is set there already, for instance on
the class; and it keeps the whole handshake. That is four fifths of what an idle one takes.
"""

from __future__ import annotations

from typing import Any, TypeVar

from autobahn.websocket.protocol import TrafficStats

__all__ = ["slim", "slim_class"]

_Carrier = TypeVar("_Carrier", bound=type)

#: What nobody asks for when the handshake is over.
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

#: What connections have alike when they are open; what changes later is the connection's own.
_WHEN_OPEN = {
    **dict.fromkeys(
        (
            "_perMessageCompress",
            "autoPingPending",
            "autoPingPendingCall",
            "autoPingPendingSent",
            "autoPingTimeoutCall",
            "closeHandshakeTimeoutCall",
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
}


def slim_class(carrier: _Carrier, options: Any) -> _Carrier:
    """Make a class of connections that have their options, and how they begin, in common.

    Args:
        carrier: A protocol class of Autobahn's.
        options: What has the options as attributes: its factory.
    """
    names = carrier.CONFIG_ATTRS  # type: ignore[attr-defined]
    common: dict[str, Any] = {name: getattr(options, name) for name in names}
    common |= dict.fromkeys(_OF_THE_HANDSHAKE) | _WHEN_OPEN
    common = {
        name: staticmethod(value) if callable(value) else value for name, value in common.items()
    }
    # There is nothing left to copy; nor to be laid out for a log that nobody asked for.
    common |= {"CONFIG_ATTRS": (), "__doc__": carrier.__doc__, "__module__": carrier.__module__}
    common |= {"send_queue": (), "trafficStats": TrafficStats()}  # what is sent never waits there
    return type(carrier)(carrier.__name__, (carrier,), common)


def slim(connection: Any) -> None:
    """Drop what an open connection has no use for, or has like all others."""
    state = connection.__dict__
    for name in (*_OF_THE_HANDSHAKE, "send_queue", "trafficStats"):
        state.pop(name, None)
    for name, value in _WHEN_OPEN.items():
        if name in state and state[name] == value:
            del state[name]
    connection.__dict__ = dict(state)  # one that only lost names keeps their places
