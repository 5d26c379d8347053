"""What a connection does, as far as Autobahn decides it: each of its options, frozen."""

from __future__ import annotations

from typing import Any

__all__ = ["OPTIONS"]

#: All but the patterns made of ``allowedOrigins``, and what answers offers to compress.
OPTIONS: dict[str, Any] = {
    "allowNullOrigin": False,
    "allowedOrigins": ["*"],  # the carrier compares them with Host by itself
    "applyMask": True,
    "autoFragmentSize": 0,
    "autoPingInterval": 0,  # the protocol has pings of its own
    "autoPingRestartOnAnyTraffic": True,
    "autoPingSize": 12,
    "autoPingTimeout": 0,
    "closeHandshakeTimeout": 5.0,
    "echoCloseCodeReason": True,
    "failByDrop": False,
    "flashSocketPolicy": "",
    "logFrames": False,
    "logOctets": False,
    "maskServerFrames": False,
    "maxConnections": 1000,
    "maxFramePayloadSize": 65536,
    "maxMessagePayloadSize": 65536,
    "openHandshakeTimeout": 5.0,
    "requireMaskedClientFrames": True,
    "serveFlashSocketPolicy": False,
    "tcpNoDelay": True,
    "trackTimings": False,
    "trustXForwardedFor": 0,
    "utf8validateIncoming": True,
    "versions": [13],
    "webStatus": False,
}
