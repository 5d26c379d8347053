"""The page's files: complete, from nowhere else, with headers that let nothing else in."""

from __future__ import annotations

import re
from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import CACHED, NOT_FOUND, NOT_MODIFIED
from twisted.web.resource import Resource, getChildForRequest
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyRequest

from oni.server._page import put_page


def text_of(name: str) -> str:
    """Read one of the files."""
    return files("oni.server").joinpath("static").joinpath(name).read_text(encoding="utf-8")


class ConditionalRequest(DummyRequest):
    """A request that may know the file already."""

    def setETag(self, etag: bytes) -> object:
        """Answer as a real request does."""
        self.setHeader(b"etag", etag)
        if self.requestHeaders.hasHeader(b"if-none-match"):
            self.setResponseCode(NOT_MODIFIED)
            return CACHED
        return None


class Page(SynchronousTestCase):
    """What is served at ``/``."""

    def get(self, *path: bytes, **headers: str) -> tuple[ConditionalRequest, bytes]:
        """Get one path."""
        root = Resource()
        put_page(root)
        request = ConditionalRequest(list(path))
        for name, value in headers.items():
            request.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
        result = getChildForRequest(root, request).render(request)
        return request, b"".join(request.written) if result is NOT_DONE_YET else result

    def test_page(self) -> None:
        """The page itself is HTML."""
        request, body = self.get(b"")
        self.assertTrue(body.startswith(b"<!doctype html>"))
        self.assertEqual(
            ["text/html; charset=utf-8"], request.responseHeaders.getRawHeaders("content-type")
        )

    def test_everything_it_names_is_served(self) -> None:
        """Each file that the page or a script names is there, with its kind."""
        named = re.findall(r'(?:href|src)="([^"]+)"', text_of("page.html"))
        named += [
            f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', text_of("page.js"))
        ]
        self.assertEqual(
            {"/static/icon.svg", "/static/page.css", "/static/page.js", "/static/client.js"},
            set(named),
        )
        for path in named:
            with self.subTest(path):
                request, body = self.get(*path.encode("ascii").split(b"/")[1:])
                self.assertNotEqual(NOT_FOUND, request.responseCode)
                self.assertTrue(body)

    def test_headers(self) -> None:
        """Every file forbids what is not its own: scripts, frames, other kinds."""
        for path in ((b"",), (b"static", b"page.js"), (b"static", b"page.css")):
            request, _ = self.get(*path)
            (policy,) = request.responseHeaders.getRawHeaders("content-security-policy")
            self.assertIn("default-src 'none'", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(
                ["nosniff"], request.responseHeaders.getRawHeaders("x-content-type-options")
            )

    def test_nothing_inline_and_nothing_from_elsewhere(self) -> None:
        """The files fit the policy: no inline script, style or handler, no other host."""
        html = text_of("page.html")
        self.assertNotRegex(html, r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)")
        for name in ("page.html", "page.css", "page.js", "client.js"):
            self.assertNotRegex(text_of(name), r"https?://|@import|url\(|innerHTML|eval\(")

    def test_not_modified(self) -> None:
        """A browser that has the file is not sent it again."""
        request, _ = self.get(b"")
        (etag,) = request.responseHeaders.getRawHeaders("etag")
        again, body = self.get(b"", if_none_match=etag)
        self.assertEqual((NOT_MODIFIED, b""), (again.responseCode, body))

    def test_other_files(self) -> None:
        """Only what is listed is served, whatever the path says."""
        for path in (
            (b"static", b"page.html"),
            (b"static", b".."),
            (b"static",),
            (b"static", b""),
        ):
            request, body = self.get(*path)
            self.assertEqual(NOT_FOUND, request.responseCode)
            self.assertNotIn(b"<h1>Oni</h1>", body)

    def test_labels(self) -> None:
        """Each field has a label, and what changes by itself is announced."""
        html = text_of("page.html")
        for field in re.findall(r'<(?:input|textarea) id="([^"]+)"', html):
            self.assertIn(f'<label for="{field}">', html)
        for name, role in (("state", "status"), ("publish-trouble", "alert"), ("log", "log")):
            self.assertRegex(html, rf'id="{name}"[^>]*role="{role}"')
