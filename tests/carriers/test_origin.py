"""Which origins may connect."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import origin_is_allowed


class OriginTests(SynchronousTestCase):
    """Tests of :func:`oni.carriers.origin_is_allowed`."""

    def test_absent(self) -> None:
        """Without an origin it is no browser."""
        self.assertTrue(origin_is_allowed(None, "localhost", False))

    def test_same(self) -> None:
        """Scheme, host and port must be the request's own; default ports need not be said."""
        for origin, host, secure in (
            ("http://localhost:8000", "localhost:8000", False),
            ("http://localhost", "localhost:80", False),
            ("https://example.org:443", "Example.org", True),
            ("http://[::1]:8000", "[::1]:8000", False),
            ("http://xn--mnchen-3ya.example", "xn--mnchen-3ya.example", False),
        ):
            self.assertTrue(origin_is_allowed(origin, host, secure), origin)

    def test_other(self) -> None:
        """Anything else is another site."""
        for origin in (
            "null",
            "",
            "http://",
            "localhost:8000",
            "http://localhost",
            "http://localhost:80",
            "https://localhost:8000",
            "http://localhost:8000.evil.example",
            "http://evil.example#localhost:8000",
            "http://localhost:8000@evil.example",
            "http://localhost.:8000",
            "http://xlocalhost:8000",
            "http://localhost:8000/",
            "http://localhost:8000 http://localhost:8000",
            "http://localhost:8000\n",
            "http://127.0.0.1:8000",
        ):
            self.assertFalse(origin_is_allowed(origin, "localhost:8000", False), origin)

    def test_listed(self) -> None:
        """Listed origins are allowed, compared as origins and not as text."""
        allowed = ("https://Example.org", "nonsense")
        self.assertTrue(origin_is_allowed("https://example.org:443", "x", False, allowed))
        self.assertFalse(origin_is_allowed("http://example.org", "x", False, allowed))
        self.assertFalse(origin_is_allowed("https://a.example.org", "x", False, allowed))
        self.assertFalse(origin_is_allowed("nonsense", "x", False, allowed))
        self.assertFalse(origin_is_allowed("null", "x", False, ("null",)))

    def test_bad_host(self) -> None:
        """A host that is none has no origin."""
        self.assertFalse(origin_is_allowed("http://a", "a b", False))
