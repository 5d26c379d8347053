"""The request with which a connection began, as an application may look at it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from oni.protocol import RequestHead

__all__ = ["Handshake"]

_NO_COOKIES: Mapping[str, str] = MappingProxyType({})


class Handshake:
    """A request, without what nobody should take for a proof.

    Browsers send cookies along with whatever request a page of any site makes them send. So there
    are none here unless the request says from which page it comes, and that page was let in.

    Attributes:
        headers: The headers but ``cookie``, with names in lower case.
        cookies: The cookies, where they may be trusted.
        origin: The page's origin, None where the request does not name one.
    """

    __slots__ = ("cookies", "headers", "origin")

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Take over what is meant for an application.

        Args:
            headers: All headers, with names in lower case, of a request whose origin was checked.
        """
        self.headers: Mapping[str, str] = MappingProxyType(
            {name: value for name, value in headers.items() if name != "cookie"}
        )
        self.origin = headers.get("origin")
        is_ours = self.origin is not None or headers.get("sec-fetch-site") == "same-origin"
        self.cookies = _cookies(headers.get("cookie", "")) if is_ours else _NO_COOKIES

    @classmethod
    def of(cls, request: RequestHead | None) -> Handshake:
        """Make one of a request's head; an empty one where that is known no more."""
        headers = {} if request is None else request.headers
        return cls(
            {
                name.decode("latin-1"): b", ".join(values).decode("latin-1")
                for name, values in headers.items()
            }
        )

    def __repr__(self) -> str:
        """Name the origin only: headers may hold secrets."""
        return f"<Handshake origin={self.origin!r}>"


def _cookies(header: str) -> Mapping[str, str]:
    """Read a Cookie header (RFC 6265, 4.2.1). Of a name that is there twice, the first counts.

    Browsers put the cookie with the longest path first.
    """
    found: dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.strip().partition("=")
        if equals and name:
            found.setdefault(name, value.strip('"'))
    return MappingProxyType(found)
