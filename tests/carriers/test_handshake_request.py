"""The request with which a connection began: cookies only where its page is known."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import Handshake


class HandshakeTests(SynchronousTestCase):
    """Tests of :class:`oni.carriers.Handshake`."""

    def cookies(self, **headers: str) -> dict[str, str]:
        """Give the cookies of a request."""
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        return dict(Handshake({"cookie": "a=1", **found}).cookies)

    def test_cookies_need_an_origin(self) -> None:
        """A cookie counts only in a request that says from which page it comes."""
        self.assertEqual(self.cookies(origin="https://here"), {"a": "1"})
        self.assertEqual(self.cookies(sec_fetch_site="same-origin"), {"a": "1"})
        for headers in (
            {},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"sec_fetch_site": "none"},
            {"sec_fetch_site": ""},
            {"referer": "https://here"},
        ):
            self.assertEqual(self.cookies(**headers), {})

    def test_headers(self) -> None:
        """All other headers are there, and the cookie header never is: it would tell the same."""
        found = Handshake({"cookie": "a=1", "host": "here", "authorization": "Bearer x"})
        self.assertEqual(dict(found.headers), {"host": "here", "authorization": "Bearer x"})
        self.assertIsNone(found.origin)
        self.assertNotIn("Bearer", repr(found))

    def test_reading_cookies(self) -> None:
        """Names and values are as they were sent; of a name the first one counts."""
        for header, expected in (
            ("a=1; b=2", {"a": "1", "b": "2"}),
            ("a=1;b=2;a=3", {"a": "1", "b": "2"}),
            ('a="x y"; b=c=d', {"a": "x y", "b": "c=d"}),
            ("", {}),
            ("; ;a; =b; c=", {"c": ""}),
        ):
            self.assertEqual(self.cookies(origin="https://here", cookie=header), expected)
