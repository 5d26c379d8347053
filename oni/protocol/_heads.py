"""The head of an HTTP request, before anything else has parsed it.

It is read strictly. What one parser takes for one header and the next one for two (bare line
feeds, folded lines, the control characters at which ``str.splitlines`` cuts) is refused, so that
nothing can be smuggled past a check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

__all__ = [
    "END_OF_HEAD",
    "MAX_HEAD_BYTES",
    "BadHeadError",
    "RequestHead",
    "parse_head",
    "refusal_response",
]

#: What a head ends with.
END_OF_HEAD = b"\r\n\r\n"

#: So long a head may be, with its end.
MAX_HEAD_BYTES = 16 * 1024

#: So long a line of it may be, where nothing else is said.
MAX_LINE = 8192

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
# What a name is made of, RFC 9110 section 5.6.2.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# All bytes but controls other than the tab, and 0x85, which Latin-1 reads as "next line".
_HARMLESS = bytes({*range(0x20, 0x100), 0x09} - {0x7F, 0x85})
_REASONS = {
    400: b"Bad Request",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    414: b"URI Too Long",
    421: b"Misdirected Request",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


class BadHeadError(Exception):
    """A request's head is not what it should be.

    Attributes:
        status: The HTTP status that says so.
        reason: What is wrong, for the log.
        fields: Header lines of the response, each with its end.
    """

    def __init__(self, status: int, reason: str = "", fields: bytes = b"") -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.fields = fields


class RequestHead(Struct, frozen=True):
    """A request's head.

    Attributes:
        method: The verb.
        target: What is asked for, with its query.
        minor: The second number of the version: HTTP/1.0 or HTTP/1.1.
        headers: The values of each header, by its name in lower case.
    """

    method: bytes
    target: bytes
    minor: int
    headers: Mapping[bytes, Sequence[bytes]]

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def values(self, name: bytes) -> Sequence[bytes]:
        """Give the values of all headers of this name."""
        return self.headers.get(name, ())

    def items(self, name: bytes) -> list[bytes]:
        """Give what the headers of this name list, with commas between."""
        return [item.strip(b" \t") for item in b",".join(self.values(name)).split(b",")]

    def lists(self, name: bytes, wanted: bytes) -> bool:
        """Say whether the headers of this name list something, in whatever case."""
        values = self.headers.get(name, ())
        if len(values) == 1 and values[0].lower() == wanted:
            return True
        return any(item.lower() == wanted for item in self.items(name))

    @property
    def asks_for_websocket(self) -> bool:
        """Whether the client wants to leave HTTP for a websocket."""
        return self.method == b"GET" and self.lists(b"upgrade", b"websocket")


def parse_head(data: bytes, max_line: int = MAX_LINE, max_headers: int = 64) -> RequestHead:
    """Read a head.

    Args:
        data: Request line and headers, without the empty line that ends them.
        max_line: Bytes of the first line, and of each header, at most.
        max_headers: How many headers there may be.

    Raises:
        BadHeadError: With status 400; 414 or 431 where the first line is too long, or the headers
            are too many or too long.
    """
    first, *lines = data.split(b"\r\n")
    if len(first) > max_line:
        raise BadHeadError(414, "the first line is too long")
    if len(lines) > max_headers or any(len(line) > max_line for line in lines):
        raise BadHeadError(431, "too many headers, or too long ones")
    # The only controls are those between the lines: no half of an end stands anywhere else.
    if data.translate(None, _HARMLESS) != b"\r\n" * len(lines):
        raise BadHeadError(400, "a control character")
    request = _LINE.fullmatch(first)
    if request is None:
        raise BadHeadError(400, "no request line")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise BadHeadError(400, "a line that is no header")
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return RequestHead(request[1], request[2], int(request[3]), headers)


def refusal_response(error: BadHeadError) -> bytes:
    """Write a response that says no, and ends the connection."""
    return b"HTTP/1.1 %d %s\r\nServer: Oni\r\n%sConnection: close\r\nContent-Length: 0\r\n\r\n" % (
        error.status,
        _REASONS[error.status],
        error.fields,
    )
