"""The protocol's numbers: error codes of replies, close codes, unsubscribe codes.

The range of a close or unsubscribe code says what the client does next, so that clients need no
table of their own. Numbers and texts are Centrifugo's:
https://centrifugal.dev/docs/server/codes.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["CLOSES", "ERRORS", "UNSUBSCRIBES", "CloseCode", "ErrorCode", "UnsubscribeCode"]


class ErrorCode(Enum):
    """Why a command failed, as its reply says it. 400 to 1999 belong to applications.

    Attributes:
        code: The number.
        message: The text.
        temporary: Whether the same command may succeed later.
    """

    INTERNAL = (100, "internal server error", True)
    UNAUTHORIZED = (101, "unauthorized")
    UNKNOWN_CHANNEL = (102, "unknown channel")
    PERMISSION_DENIED = (103, "permission denied")
    METHOD_NOT_FOUND = (104, "method not found")
    ALREADY_SUBSCRIBED = (105, "already subscribed")
    LIMIT_EXCEEDED = (106, "limit exceeded")
    BAD_REQUEST = (107, "bad request")
    NOT_AVAILABLE = (108, "not available")
    TOKEN_EXPIRED = (109, "token expired")
    EXPIRED = (110, "expired")
    TOO_MANY_REQUESTS = (111, "too many requests", True)
    UNRECOVERABLE_POSITION = (112, "unrecoverable position")
    CONCURRENT_PAGINATION = (113, "concurrent pagination", True)

    def __init__(self, code: int, message: str, temporary: bool = False) -> None:
        """Name the parts of the value."""
        self.code = code
        self.message = message
        self.temporary = temporary


class CloseCode(Enum):
    """Why the server closes a connection.

    Attributes:
        code: The websocket close code.
        reason: The text that goes with it.
    """

    CLOSED = (3000, "connection closed")
    SHUTDOWN = (3001, "shutdown")
    SERVER_ERROR = (3004, "internal server error")
    EXPIRED = (3005, "connection expired")
    SUBSCRIPTION_EXPIRED = (3006, "subscription expired")
    SLOW = (3008, "slow")
    WRITE_ERROR = (3009, "write error")
    INSUFFICIENT_STATE = (3010, "insufficient state")
    FORCE_RECONNECT = (3011, "force reconnect")
    NO_PONG = (3012, "no pong")
    TOO_MANY_REQUESTS = (3013, "too many requests")
    STATE_INVALIDATED = (3014, "state invalidated")
    INVALID_TOKEN = (3500, "invalid token")
    BAD_REQUEST = (3501, "bad request")
    STALE = (3502, "stale")
    FORCE_DISCONNECT = (3503, "force disconnect")
    CONNECTION_LIMIT = (3504, "connection limit")
    CHANNEL_LIMIT = (3505, "channel limit")
    WRONG_PROTOCOL = (3506, "inappropriate protocol")
    PERMISSION_DENIED = (3507, "permission denied")
    NOT_AVAILABLE = (3508, "not available")
    TOO_MANY_ERRORS = (3509, "too many errors")

    def __init__(self, code: int, reason: str) -> None:
        """Name the parts of the value."""
        self.code = code
        self.reason = reason

    @property
    def reconnects(self) -> bool:
        """Whether a client connects again: not from 3500 to 3999 and from 4500 to 4999."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)


class UnsubscribeCode(Enum):
    """Why the server ends a subscription.

    Attributes:
        code: The number in the unsubscribe push.
        reason: The text that goes with it.
    """

    SERVER = (2000, "server unsubscribe")
    INSUFFICIENT = (2500, "insufficient state")
    EXPIRED = (2501, "subscription expired")
    STATE_INVALIDATED = (2502, "state invalidated")

    def __init__(self, code: int, reason: str) -> None:
        """Name the parts of the value."""
        self.code = code
        self.reason = reason

    @property
    def resubscribes(self) -> bool:
        """Whether a client subscribes again: from 2500 on."""
        return self.code >= 2500


#: Each error by its number.
ERRORS = {error.code: error for error in ErrorCode}

#: Each close code by its number.
CLOSES = {close.code: close for close in CloseCode}

#: Each unsubscribe code by its number.
UNSUBSCRIBES = {code.code: code for code in UnsubscribeCode}
