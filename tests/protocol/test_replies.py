"""Results and publications become what a client reads."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.protocol import (
    ConnectResult,
    SubscribeResult,
    encode_error,
    encode_publication,
    encode_reply,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


class ReplyTests(SynchronousTestCase):
    """Tests of the encoders."""

    def test_reply(self) -> None:
        """A reply has the command's id and the method's name."""
        self.assertEqual(json.loads(encode_reply(3, "publish")), {"id": 3, "publish": {}})

    def test_connect(self) -> None:
        """A connect reply tells the session's id and how it is watched."""
        reply = json.loads(encode_reply(1, "connect", ConnectResult("abc", "oni", 25, True)))
        self.assertEqual(
            reply,
            {"id": 1, "connect": {"client": "abc", "version": "oni", "ping": 25, "pong": True}},
        )

    def test_subscribe(self) -> None:
        """What is not so is not said."""
        self.assertEqual(
            json.loads(encode_reply(1, "subscribe", SubscribeResult(epoch="x", offset=4))),
            {"id": 1, "subscribe": {"epoch": "x", "offset": 4}},
        )

    def test_error(self) -> None:
        """An error says whether to try again."""
        self.assertEqual(
            json.loads(encode_error(2, 100, "internal server error", True)),
            {
                "id": 2,
                "error": {"code": 100, "message": "internal server error", "temporary": True},
            },
        )
        self.assertNotIn("temporary", json.loads(encode_error(2, 103, "no"))["error"])

    def test_one_line(self) -> None:
        """No encoded message holds a line feed, whatever the texts hold."""
        self.assertNotIn(b"\n", encode_error(2, 400, "two\nlines"))

    def test_pretty_data(self) -> None:
        """Data that was laid out in lines stays one message."""
        push = encode_publication("c", json.dumps({"a": ["x\ny"]}, indent=1).encode())
        self.assertNotIn(b"\n", push)
        self.assertEqual(json.loads(push)["push"]["pub"]["data"], {"a": ["x\ny"]})

    @given(
        TEXT,
        st.dictionaries(TEXT, TEXT),
        st.integers(1, 2**62),
        st.lists(st.integers(-5, 5) | TEXT),
    )
    def test_publication(
        self, channel: str, tags: dict[str, str], offset: int, data: list[object]
    ) -> None:
        """A push carries channel, data, offset and tags unchanged."""
        push = json.loads(encode_publication(channel, json.dumps(data).encode(), offset, tags))
        pub = {"data": data, "offset": offset}
        if tags:
            pub["tags"] = tags
        self.assertEqual(push, {"push": {"channel": channel, "pub": pub}})

    def test_null(self) -> None:
        """Data may be null."""
        self.assertEqual(
            json.loads(encode_publication("c", b"null")),
            {"push": {"channel": "c", "pub": {"data": None}}},
        )
