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
        named = set(re.findall(r'(?:href|src)="(/[^"]+)"', text_of("page.html")))
        named |= {
            f"/static/{name}"
            for script in files("oni.server").joinpath("static").iterdir()
            for name in re.findall(r'from "\./([^"]+)"', text_of(script.name))
        }
        there = {f.name for f in files("oni.server").joinpath("static").iterdir()}
        self.assertEqual({f"/static/{name}" for name in there - {"page.html"}}, named)
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
        for file in files("oni.server").joinpath("static").iterdir():
            text = text_of(file.name).replace("http://www.w3.org/2000/svg", "")
            self.assertNotRegex(
                text, r"https?://|@import|\burl\(|(inner|outer)HTML|insertAdjacent|eval\("
            )

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
        for field in re.findall(r'<(?:input|textarea|select) id="([^"]+)"', html):
            wrapped = rf'<label class="choice"><input id="{field}"'
            self.assertRegex(html, rf'<label for="{field}">|{wrapped}')
        for name, role in (("state", "status"), ("publish-trouble", "alert"), ("news", "status")):
            self.assertRegex(html, rf'id="{name}"[^>]*role="{role}"')

    def test_quiet(self) -> None:
        """What changes all the time is not read out: only a word now and then."""
        html = text_of("page.html")
        self.assertNotIn("aria-live", html)
        for name in ("log", "figures", "phases", "channel-table"):
            self.assertNotRegex(html, rf'id="{name}"[^>]*role="(status|alert|log)"')
