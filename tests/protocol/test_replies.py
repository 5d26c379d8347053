"""Results and publications become what a client reads."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from oni.protocol import (
    ConnectResult,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublicationResult,
    RefreshResult,
    RpcResult,
    SubscribeResult,
    encode_error,
    encode_join,
    encode_leave,
    encode_message,
    encode_publication,
    encode_refresh,
    encode_reply,
    encode_subscribe,
    encode_unsubscribe,
)
from oni.values import ClientInfo

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


class ReplyTests(SynchronousTestCase):
    """Tests of the encoders."""

    def test_reply(self) -> None:
        """A reply has the command's id and the method's name."""
        self.assertEqual(json.loads(encode_reply(3, "publish")), {"id": 3, "publish": {}})

    def test_connect(self) -> None:
        """A connect reply tells the session's id and how it is watched."""
        reply = json.loads(
            encode_reply(1, "connect", ConnectResult("abc", "oni", ping=25, pong=True))
        )
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

    def test_connect_subs(self) -> None:
        """A connect reply tells of the server's own subscriptions, with what was missed."""
        missed = PublicationResult(Raw(b"1"), 4, {"event": "e"}, ClientInfo("u", "c"))
        sub = SubscribeResult(
            recoverable=True,
            positioned=True,
            epoch="x",
            offset=4,
            publications=[missed],
            was_recovering=True,
            recovered=True,
        )
        reply = json.loads(
            encode_reply(1, "connect", ConnectResult("c", expires=True, ttl=9, subs={"a": sub}))
        )
        self.assertEqual(
            reply["connect"],
            {
                "client": "c",
                "expires": True,
                "ttl": 9,
                "subs": {
                    "a": {
                        "recoverable": True,
                        "positioned": True,
                        "epoch": "x",
                        "offset": 4,
                        "publications": [
                            {
                                "data": 1,
                                "offset": 4,
                                "tags": {"event": "e"},
                                "info": {"user": "u", "client": "c"},
                            }
                        ],
                        "was_recovering": True,
                        "recovered": True,
                    }
                },
            },
        )

    def test_results(self) -> None:
        """History, presence and rpc say what they have, also where it is nothing."""
        who = ClientInfo("u", "c", {"a": 1})
        for result, expected in (
            (HistoryResult([], "e", 0), {"publications": [], "epoch": "e", "offset": 0}),
            (
                PresenceResult({"c": who}),
                {"presence": {"c": {"user": "u", "client": "c", "conn_info": {"a": 1}}}},
            ),
            (PresenceStatsResult(0, 0), {"num_clients": 0, "num_users": 0}),
            (RpcResult(None), {"data": None}),
            (RefreshResult(True, 60), {"expires": True, "ttl": 60}),
        ):
            self.assertEqual(json.loads(encode_reply(1, "x", result))["x"], expected)

    def test_pushes(self) -> None:
        """Each kind of push has its place."""
        who = ClientInfo("u", "c")
        info = {"info": {"user": "u", "client": "c"}}
        for push, expected in (
            (encode_join("a", who), {"channel": "a", "join": info}),
            (encode_leave("a", who), {"channel": "a", "leave": info}),
            (
                encode_subscribe(
                    "a", SubscribeResult(True, 5, True, True, "e", 4, data=Raw(b"1"))
                ),
                {
                    "channel": "a",
                    "subscribe": {
                        "recoverable": True,
                        "positioned": True,
                        "epoch": "e",
                        "offset": 4,
                        "data": 1,
                    },
                },
            ),
            (
                encode_unsubscribe("a", 2500, "insufficient state"),
                {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}},
            ),
            (encode_message({"x": 1}), {"message": {"data": {"x": 1}}}),
            (encode_refresh(60), {"refresh": {"expires": True, "ttl": 60}}),
            (encode_refresh(None), {"refresh": {}}),
        ):
            self.assertEqual(json.loads(push), {"push": expected})

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
        self.assertNotIn(b"\n", encode_reply(2, "rpc", RpcResult(Raw(b"{\n}"))))

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
