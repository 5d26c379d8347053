"""Publishing over HTTP."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from oni.errors import Refused
from oni.server._settings import ServerSettings
from tests.server.house import KEY, Client, HouseTestCase

BODY = '{"channel":"chat","data":{"n":1}}'


class PublishTests(HouseTestCase):
    """Tests of ``POST /api/publish``."""

    server = ServerSettings(max_body_bytes=2000)

    def setUp(self) -> None:
        """Hold the channel, so that its position is kept."""
        super().setUp()
        self.chat = self.channels.get("chat")

    def publish(self, body: Any, **headers: str) -> tuple[int, Any]:
        """Publish with the key."""
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return self.http(text, **{"X-API-Key": KEY, **headers})

    def test_publish(self) -> None:
        """A publication reaches subscribers; the answer says where it stands."""
        client = self.connected()
        client.ask("subscribe", channel="news:a")
        status, answer = self.publish(
            {"channel": "news:a", "data": {"n": 1}, "tags": {"event": "added", "lang": "en"}}
        )
        epoch = self.top("news:a").epoch
        self.assertEqual((status, answer), (200, {"result": {"offset": 1, "epoch": epoch}}))
        self.assertEqual(
            client.messages()[0]["push"]["pub"],
            {"data": {"n": 1}, "offset": 1, "tags": {"event": "added", "lang": "en"}},
        )

    def test_pretty(self) -> None:
        """A body that is laid out in lines is one publication."""
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.publish(json.dumps({"channel": "chat", "data": {"a": [1, "x\ny"]}}, indent=2))
        (message,) = client.messages()
        self.assertEqual(message["push"]["pub"]["data"], {"a": [1, "x\ny"]})

    def test_default_event(self) -> None:
        """Without the tag the event is a message."""
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.publish(BODY)
        self.assertEqual(client.messages()[0]["push"]["pub"]["tags"], {"event": "message"})

    def test_act(self) -> None:
        """It is an act like any other, of the user ``api``."""
        seen: list[Any] = []

        def change(act: Any) -> None:
            seen.append(act.details)
            act.data = {"changed": act.data}

        self.on("before", change, action="publish", user="api", event="added")
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.publish({"channel": "chat", "data": 1, "tags": {"event": "added"}})
        self.assertEqual((seen[0]["client"], seen[0]["channel"]), ("", "chat"))
        self.assertEqual(client.messages()[0]["push"]["pub"]["data"], {"changed": 1})

    def test_refused_by_handler(self) -> None:
        """A refusal is an error with the handler's code."""

        def refuse(act: Any) -> None:
            raise Refused(1000, "no")

        self.on("before", refuse, action="publish")
        self.assertEqual(self.publish(BODY), (200, {"error": {"code": 1000, "message": "no"}}))

    def test_failed_handler(self) -> None:
        """Any other failure tells nothing of its details."""
        self.on("before", lambda act: 1 / 0, action="publish")
        self.assertEqual(
            self.publish(BODY),
            (200, {"error": {"code": 100, "message": "internal server error"}}),
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_key(self) -> None:
        """Without the right key, given once, nothing happens."""
        for headers in (
            {},
            {"X-API-Key": ""},
            {"X-API-Key": KEY + "x"},
            {"X-API-Key": KEY[:-1]},
            {"X-API-Key": "\xe9"},
            {"X-API-Key": f"{KEY}\r\nX-API-Key: {KEY}"},
            {"Authorization": f"apikey {KEY}"},
        ):
            status, answer = self.http(BODY, **headers)
            self.assertEqual((status, answer["error"]["code"]), (401, 101), headers)
        self.assertEqual(self.top("chat").offset, 0)

    def test_bad_body(self) -> None:
        """A body that is not what it should be is a bad request that names what is wrong."""
        for body, words in (
            ("", ""),
            ("hello", ""),
            ("[]", ""),
            ('{"channel":"a"}', "data"),
            ('{"data":1}', "channel"),
            ('{"channel":7,"data":1}', "channel"),
            ('{"channel":"a","data":NaN}', ""),
            ('{"channel":"a","data":1e999}', ""),
            ('{"channel":"a","data":1,"tags":{"a":1}}', "tags"),
            ('{"channel":"a","data":1,"tags":{"event":""}}', "tags.event"),
            ('{"channel":"a","data":1,"tags":{"event":"a\\nb"}}', "tags.event"),
            ("[" * 1500, "nested"),
            (b'{"channel":"a","data":"\xff"}', "UTF-8"),
        ):
            status, answer = self.publish(body)
            self.assertEqual((status, answer["error"]["code"]), (400, 107), body)
            self.assertIn(words, answer["error"]["message"])
        self.assertEqual(self.publish(BODY)[0], 200)

    def test_bad_names(self) -> None:
        """A channel that there cannot be is an error."""
        for body, code in (
            ({"channel": "", "data": 1}, 107),
            ({"channel": "a b", "data": 1}, 107),
            ({"channel": "nowhere:x", "data": 1}, 102),
        ):
            status, answer = self.publish(body)
            self.assertEqual((status, answer["error"]["code"]), (200, code), body)

    def test_unknown(self) -> None:
        """A method that there is not is not found; one that is needs POST."""
        for path in ("/api/dance", "/api/publish/x", "/api/"):
            status, answer = self.http(BODY, path=path, **{"X-API-Key": KEY})
            self.assertEqual((status, answer["error"]["code"]), (404, 104), path)
        for method in ("GET", "PUT", "OPTIONS", "DELETE"):
            client = self.request(BODY, method, **{"X-API-Key": KEY})
            data = client.take()
            self.assertTrue(data.startswith(b"HTTP/1.1 405 "), method)
            self.assertIn(b"allow: post", data.lower())
        self.assertEqual(self.top("chat").offset, 0)

    def test_too_large(self) -> None:
        """A body that says it is too large is refused at once; nothing of it is read."""
        client = self.request(b"", **{"Content-Length": "2001", "X-API-Key": KEY})
        self.assertTrue(client.take().startswith(b"HTTP/1.1 413 "))
        self.assertTrue(client.transport.disconnecting)
        client.send(b"x" * 2001)
        self.assertEqual(client.take(), b"")
        self.reactor.advance(5.1)
        self.assertTrue(client.transport.aborted)

    def test_too_large_in_chunks(self) -> None:
        """A body of unknown length is refused when it becomes too large, not when it ends."""
        client = Client(self)
        client.send(
            b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"X-API-Key: " + KEY.encode() + b"\r\n\r\n"
        )
        for _ in range(4):
            client.send(b"1f4\r\n" + b" " * 500 + b"\r\n")
            self.assertEqual(client.take(), b"")
        client.send(b"1\r\n \r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 413 "))
        client.send(b"0\r\n\r\n")
        self.assertEqual(client.take(), b"")

    def test_chunked(self) -> None:
        """A body in chunks is taken."""
        client = Client(self)
        size = b"%x" % len(BODY)
        client.send(
            b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"X-API-Key: " + KEY.encode() + b"\r\n\r\n"
            b"" + size + b"\r\n" + BODY.encode() + b"\r\n0\r\n\r\n"
        )
        self.assertEqual(self.answer_of(client)[0], 200)

    def test_limit(self) -> None:
        """A body as large as the limit is taken."""
        text = json.dumps({"channel": "chat", "data": ""})
        padding = "x" * (2000 - len(text))
        self.assertEqual(self.publish({"channel": "chat", "data": padding})[0], 200)

    def test_slow_body(self) -> None:
        """A body that does not come in time is given up."""
        client = self.request(b"", **{"Content-Length": "50", "X-API-Key": KEY})
        for _ in range(29):
            client.send(b" ")
            self.reactor.advance(1)
        self.assertFalse(client.transport.aborted)
        self.reactor.advance(1.1)
        self.assertTrue(client.transport.aborted)

    def test_slow_handler(self) -> None:
        """The answer comes when the act is done, not when all that follows it is."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="publish")
        self.on("after", lambda act: Deferred(), action="publish")
        client = self.request(BODY, **{"X-API-Key": KEY})
        self.assertEqual(client.take(), b"")
        gate.callback(None)
        self.assertEqual(self.answer_of(client)[0], 200)

    def test_gone(self) -> None:
        """A client that does not wait for the answer disturbs nothing."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="publish")
        client = self.request(BODY, **{"X-API-Key": KEY})
        client.vanish()
        gate.callback(None)
        self.assertEqual(self.top("chat").offset, 1)
        self.assertEqual(client.take(), b"")
