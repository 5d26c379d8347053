"""The Centrifugo client protocol in JSON, without sockets and clocks.

Bytes of a frame go in and typed commands come out; replies and pushes are encoded to bytes. The
protocol is described at https://centrifugal.dev/docs/transports/client_protocol.
"""

from __future__ import annotations

from oni.protocol._codes import (
    CLOSES,
    ERRORS,
    UNSUBSCRIBES,
    CloseCode,
    ErrorCode,
    UnsubscribeCode,
)
from oni.protocol._commands import (
    Command,
    Connect,
    NotAvailable,
    NotFound,
    Ping,
    Pong,
    Publish,
    Send,
    Subscribe,
    Unsubscribe,
)
from oni.protocol._decoder import MAX_DEPTH, decode_command, decode_json, split_frame
from oni.protocol._replies import (
    PING,
    ConnectResult,
    SubscribeResult,
    encode_error,
    encode_publication,
    encode_reply,
)

__all__ = [
    "CLOSES",
    "ERRORS",
    "MAX_DEPTH",
    "PING",
    "UNSUBSCRIBES",
    "CloseCode",
    "Command",
    "Connect",
    "ConnectResult",
    "ErrorCode",
    "NotAvailable",
    "NotFound",
    "Ping",
    "Pong",
    "Publish",
    "Send",
    "Subscribe",
    "SubscribeResult",
    "Unsubscribe",
    "UnsubscribeCode",
    "decode_command",
    "decode_json",
    "encode_error",
    "encode_publication",
    "encode_reply",
    "split_frame",
]
