"""The page at ``/``: static files, read once, sent with headers that let nothing else in."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from twisted.web.http import CACHED, Request
from twisted.web.pages import notFound
from twisted.web.resource import Resource

__all__ = ["PAGE_HEADERS", "PageFile", "put_page"]

_FOLDER = files("oni.server").joinpath("static")
_KINDS = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_SERVED = (
    "channels.js",
    "client.js",
    "dom.js",
    "door.js",
    "figures.js",
    "handlers.js",
    "icon.svg",
    "links.js",
    "page.css",
    "page.js",
    "publish.js",
    "slow.js",
    "tail.js",
)

PAGE_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    # Browsers ask each time whether it is still the same, so an update shows at once.
    b"cache-control": b"no-cache",
}
"""What every file of the page is sent with. No inline script or style, nothing from elsewhere."""


class PageFile(Resource):
    """One file of the page.

    Args:
        name: Its name in the package's ``static`` folder.
    """

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._body = _FOLDER.joinpath(name).read_bytes()
        self._kind = _KINDS[name.rpartition(".")[2]]
        self._etag = b'"%s"' % hashlib.sha256(self._body).hexdigest()[:24].encode("ascii")

    def render_GET(self, request: Request) -> bytes:
        """Send the file, or that the browser has it already."""
        for header, value in PAGE_HEADERS.items():
            request.setHeader(header, value)
        request.setHeader(b"content-type", self._kind)
        if request.setETag(self._etag) is CACHED:
            return b""
        return self._body


def put_page(root: Resource) -> None:
    """Serve the page at ``/`` of this resource, and its files under ``/static/``."""
    static = notFound()
    for name in _SERVED:
        static.putChild(name.encode("ascii"), PageFile(name))
    root.putChild(b"static", static)
    root.putChild(b"", PageFile("page.html"))
