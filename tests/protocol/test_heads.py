"""The head of a request is read strictly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.protocol import BadHeadError, parse_head


class HeadTests(SynchronousTestCase):
    """Tests of :func:`oni.protocol.parse_head`."""

    def test_read(self) -> None:
        """Method, path and headers are found."""
        head = parse_head(
            b"GET /a/b?token=x HTTP/1.1\r\nHost: localhost:8000 \r\nX-A:\tb\r\nx-a: c"
        )
        self.assertEqual((head.method, head.path), (b"GET", b"/a/b"))
        self.assertEqual(head.values(b"host"), [b"localhost:8000"])
        self.assertEqual(head.values(b"x-a"), [b"b", b"c"])
        self.assertFalse(head.asks_for_websocket)

    def test_websocket(self) -> None:
        """A websocket is asked for by GET and the Upgrade header, however it is written."""
        for text in (b"Upgrade: websocket", b"UPGRADE: h2c, WebSocket"):
            self.assertTrue(parse_head(b"GET / HTTP/1.1\r\n" + text).asks_for_websocket)
            self.assertFalse(parse_head(b"POST / HTTP/1.1\r\n" + text).asks_for_websocket)

    def test_bad(self) -> None:
        """What is not exactly a head is refused."""
        for head in (
            b"",
            b"GET /",
            b"GET / HTTP/2.0",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"G\xe9T / HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1\r\n folded: x",
            b"GET / HTTP/1.1\r\nHost : x",
            b"GET / HTTP/1.1\r\nHost",
            b"GET / HTTP/1.1\r\n: x",
            b"GET / HTTP/1.1\r\nHost: a\nX-Evil: b",
            b"GET / HTTP/1.1\r\nHost: a\rX-Evil: b",
            b"GET / HTTP/1.1\r\nHost: a\r\n",
        ):
            self.assertRaises(BadHeadError, parse_head, head)

    def test_smuggling(self) -> None:
        """Bytes at which another parser begins a new line are refused wherever they stand."""
        for byte in (0x00, 0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x7F, 0x85):
            evil = bytes([byte])
            for head in (
                b"GET / HTTP/1.1\r\nX-Test: hello" + evil + b"X-Evil: smuggled",
                b"GET / HTTP/1.1\r\nX-Te" + evil + b"st: hello",
                b"GET /" + evil + b" HTTP/1.1",
            ):
                self.assertRaises(BadHeadError, parse_head, head)

    @given(st.binary(max_size=100))
    def test_any_bytes(self, value: bytes) -> None:
        """A header that is accepted is one line for every parser."""
        try:
            head = parse_head(b"GET / HTTP/1.1\r\nX: " + value)
        except BadHeadError:
            return
        lines = head.values(b"x")
        if value.count(b"\r\n") == 0:
            self.assertEqual(lines, [value.strip(b" \t")])
            self.assertLessEqual(len(value.decode("latin-1").splitlines()), 1)
