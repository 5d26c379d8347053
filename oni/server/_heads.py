"""The head of an HTTP request, before anything else has parsed it.

It is read strictly. What one parser takes for one header and the next one for two (bare line
feeds, folded lines, the control characters at which ``str.splitlines`` cuts) is refused, so that
nothing can be smuggled past a check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MAX_LINE", "BadHeadError", "RequestHead", "host_is_allowed", "parse_head"]

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
#: Bytes of a line, where nothing else is said.
MAX_LINE = 8192

# All controls but the tab, and 0x85, which Latin-1 reads as "next line".
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")
_PORT = re.compile(r":[0-9]*\Z")


class BadHeadError(Exception):
    """A request's head is not what it should be.

    Attributes:
        status: The HTTP status that says so.
        retry_after: Seconds after which it may be tried again, 0 for nothing said about that.
    """

    def __init__(self, status: int, retry_after: int = 0) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The part of a request's head that decides who handles it.

    Attributes:
        method: The verb.
        path: The target without its query.
        headers: Each header's name in lower case, with its value.
    """

    method: bytes
    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """Give the values of all headers of this name."""
        return [value for known, value in self.headers if known == name]

    @property
    def asks_for_websocket(self) -> bool:
        """Whether the client wants to leave HTTP for a websocket."""
        wanted = b",".join(self.values(b"upgrade")).lower().split(b",")
        return self.method == b"GET" and b"websocket" in map(bytes.strip, wanted)


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
        raise BadHeadError(414)
    if len(lines) > max_headers or any(len(line) > max_line for line in lines):
        raise BadHeadError(431)
    if any(map(_CONTROLS.search, (first, *lines))):
        raise BadHeadError(400)
    request = _LINE.fullmatch(first)
    headers = [_HEADER.fullmatch(line) for line in lines]
    if request is None:
        raise BadHeadError(400)
    found = []
    for header in headers:
        if header is None:
            raise BadHeadError(400)
        found.append((header[1].lower(), header[2]))
    return RequestHead(request[1], request[2].partition(b"?")[0], tuple(found))


def host_is_allowed(hosts: Iterable[bytes], allowed: Iterable[str]) -> bool:
    """Say whether a request is meant for us: a page of another name may have been led here.

    Args:
        hosts: The request's Host headers; there must be exactly one.
        allowed: The names, without port, that are ours.
    """
    given = list(hosts)
    if len(given) != 1:
        return False
    name = _PORT.sub("", given[0].decode("latin-1")).lower()
    return name in {host.lower() for host in allowed}
