"""The calls of the HTTP API."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from oni.errors import Refused
from tests.carriers import wire
from tests.server.house import KEY, HouseTestCase


class ApiTestCase(HouseTestCase):
    """Calls with the key."""

    def call(self, method: str, /, **body: Any) -> Any:
        """Make a call; give the answer's body."""
        status, answer = self.http(json.dumps(body), path=f"/api/{method}", X_API_Key=KEY)
        self.assertEqual(status, 200, answer)
        return answer

    def result(self, method: str, /, **body: Any) -> Any:
        """Make a call that succeeds; give the result."""
        return self.call(method, **body)["result"]

    def error(self, method: str, /, **body: Any) -> int:
        """Make a call that fails; give the code."""
        code: int = self.call(method, **body)["error"]["code"]
        return code

    def refusal(self, method: str, /, **body: Any) -> str:
        """Make a call with a bad body; give the message."""
        status, answer = self.http(json.dumps(body), path=f"/api/{method}", X_API_Key=KEY)
        self.assertEqual((status, answer["error"]["code"]), (400, 107), body)
        message: str = answer["error"]["message"]
        return message


class ChannelCallTests(ApiTestCase):
    """Calls about channels."""

    def test_history(self) -> None:
        """Without a limit only the position; below zero all of it."""
        for number in range(3):
            self.result("publish", channel="kept:a", data=number)
        top = self.top("kept:a")
        at = {"epoch": top.epoch, "offset": 3}
        self.assertEqual(self.result("history", channel="kept:a"), {"publications": [], **at})
        read = self.result("history", channel="kept:a", limit=-1, reverse=True)
        self.assertEqual([pub["data"] for pub in read["publications"]], [2, 1, 0])
        since = {"offset": 1, "epoch": top.epoch}
        read = self.result("history", channel="kept:a", limit=1, since=since)
        tags = {"event": "message"}
        self.assertEqual(read["publications"], [{"data": 1, "offset": 2, "tags": tags}])
        self.assertEqual(self.result("history_remove", channel="kept:a"), {})
        gone = self.result("history", channel="kept:a", limit=9)
        self.assertEqual(gone, {"publications": [], **at})

    def test_nothing_kept(self) -> None:
        """What a namespace does not keep is not available."""
        for method in ("history", "history_remove", "presence", "presence_stats"):
            self.assertEqual(self.error(method, channel="chat"), 108, method)
            self.assertEqual(self.error(method, channel="nowhere:a"), 102, method)
            self.assertEqual(self.error(method, channel=""), 107, method)
            self.assertIn("channel", self.refusal(method))

    def test_presence(self) -> None:
        """Who is there, and how many."""
        self.assertEqual(self.result("presence", channel="kept:a"), {"presence": {}})
        client = self.connected()
        client.ask("subscribe", channel="kept:a")
        (name,) = self.oni.sessions
        found = self.result("presence", channel="kept:a")
        self.assertEqual(found, {"presence": {name: {"client": name}}})
        found = self.result("presence_stats", channel="kept:a")
        self.assertEqual(found, {"num_clients": 1, "num_users": 1})

    def test_publish(self) -> None:
        """A key makes a publication happen once; tags name the event."""
        body = {"channel": "kept:a", "data": 1, "idempotency_key": "k"}
        first = self.result("publish", **body)
        self.assertEqual(self.result("publish", **body), first)
        self.assertEqual(first, {"offset": 1, "epoch": self.top("kept:a").epoch})

    def test_not_offered(self) -> None:
        """What would be ignored is refused, with its name."""
        for wrong in ({"skip_history": True}, {"b64data": "eA=="}):
            (name,) = wrong
            self.assertIn(name, self.refusal("publish", channel="chat", data=1, **wrong))
            self.assertIn(name, self.refusal("broadcast", channels=["chat"], data=1, **wrong))
        body = {"user": "", "channel": "chat"}
        self.assertIn("override", self.refusal("subscribe", **body, override={"presence": {}}))
        self.assertIn("b64info", self.refusal("subscribe", **body, b64info="eA=="))
        self.result("publish", channel="chat", data=1, skip_history=False)

    def test_broadcast(self) -> None:
        """Each channel has its answer, in their order."""
        found = self.result("broadcast", channels=["a", "nowhere:b", "c"], data=1)["responses"]
        self.assertEqual([list(one) for one in found], [["result"], ["error"], ["result"]])
        self.assertEqual(found[0]["result"]["offset"], 1)
        self.assertIn("channels", self.refusal("broadcast", channels=[], data=1))
        self.assertIn(
            "event", self.refusal("broadcast", channels=["a"], data=1, tags={"event": ""})
        )

    def test_channels_and_info(self) -> None:
        """What is heard, and what this server is."""
        client = self.connected()
        client.ask("subscribe", channel="chat")
        client.ask("subscribe", channel="news:a")
        self.connected().ask("subscribe", channel="chat")
        one, two = {"num_clients": 1}, {"num_clients": 2}
        found = {"channels": {"chat": two, "news:a": one}}
        self.assertEqual(self.result("channels"), found)
        self.assertEqual(self.result("channels", pattern=""), found)
        self.assertEqual(self.result("channels", pattern="n*"), {"channels": {"news:a": one}})
        self.reactor.advance(7)
        (node,) = self.result("info")["nodes"]
        self.assertEqual(node.pop("uid"), self.oni.node)
        self.assertTrue(node.pop("version"))
        metrics = node.pop("metrics")
        self.assertEqual(metrics["interval"], 0)
        self.assertEqual((metrics["items"]["backend_up"], metrics["items"]["deaf"]), (1, 0))
        self.assertEqual(
            node,
            {
                "name": "oni",
                "num_clients": 2,
                "num_users": 1,
                "num_channels": 2,
                "num_subs": 3,
                "uptime": 7,
            },
        )


class SessionCallTests(ApiTestCase):
    """Calls about sessions."""

    def test_subscribe(self) -> None:
        """A session is subscribed from a position, and told why."""
        client = self.connected()
        (name,) = self.oni.sessions
        self.result("publish", channel="kept:a", data=1)
        since = {"offset": 0, "epoch": self.top("kept:a").epoch}
        body = {"user": "", "session": name, "channel": "kept:a"}
        self.assertEqual(
            self.result("subscribe", **body, data=[1], info={"a": 1}, recover_since=since), {}
        )
        subscribe, pub = (message["push"] for message in client.messages())
        self.assertEqual(subscribe["subscribe"]["data"], [1])
        self.assertEqual(pub["pub"]["data"], 1)
        there = self.result("presence", channel="kept:a")["presence"]
        self.assertEqual(there[name]["chan_info"], {"a": 1})
        self.assertEqual(self.result("unsubscribe", **body), {})
        self.assertEqual(client.messages()[0]["push"]["unsubscribe"]["code"], 2000)

    def test_disconnect(self) -> None:
        """With the usual code, or with another."""
        client = self.connected()
        self.assertEqual(self.result("disconnect", user="bob"), {})
        self.assertIsNone(wire.close_of(client.take()))
        self.result("disconnect", user="", disconnect={"code": 4000, "reason": "r"})
        self.assertEqual(wire.close_of(client.take()), (4000, "r"))
        self.assertIn("code", self.refusal("disconnect", user="", disconnect={"code": 1}))

    def test_refresh(self) -> None:
        """Until a time, or until now."""
        client = self.connected()
        self.result("refresh", user="", expire_at=2**40)
        self.assertTrue(client.messages()[0]["push"]["refresh"]["expires"])
        self.result("refresh", user="", expire_at=1)
        self.assertEqual(wire.close_of(client.take()), (3005, "connection expired"))

    def test_bad(self) -> None:
        """Who is meant must be said, and only once."""
        for method in ("subscribe", "unsubscribe", "disconnect", "refresh"):
            self.assertIn("user", self.refusal(method, channel="a"))
            body = {"user": "", "channel": "a", "client": "x", "session": "y"}
            self.assertIn("two sessions", self.refusal(method, **body))


class BatchTests(ApiTestCase):
    """Many calls in one request."""

    def test_replies(self) -> None:
        """Each reply is named after its command; a wrong one does not stop the rest."""
        commands = [
            {"publish": {"channel": "kept:a", "data": 1}},
            {"publish": {"channel": "kept:a"}},
            {"publish": {"channel": "nowhere:a", "data": 1}},
            {"dance": {}},
            {},
            {"batch": {"commands": []}},
            {"unsubscribe": {"user": "", "channel": "kept:a"}},
            {"history": {"channel": "kept:a", "limit": 1}},
        ]
        for parallel in (False, True):
            replies = self.call("batch", commands=commands, parallel=parallel)["replies"]
            codes = [one.get("error", {}).get("code", 0) for one in replies]
            self.assertEqual(codes, [0, 107, 102, 104, 104, 104, 0, 0])
            self.assertIn("offset", replies[0]["publish"])
            self.assertEqual(replies[6], {"unsubscribe": {}})
            self.assertEqual(replies[7]["history"]["publications"][0]["data"], 1)
        self.assertEqual(self.call("batch", commands=[]), {"replies": []})
        self.assertIn("commands", self.refusal("batch"))

    def test_order(self) -> None:
        """Without `parallel` the next one begins when one has ended."""
        gate: Deferred[None] = Deferred()
        begun: list[str] = []
        self.on("before", lambda act: begun.append(act.channel), action="publish")
        self.on("before", lambda act: gate, action="publish", channel="a")
        commands = [{"publish": {"channel": name, "data": 1}} for name in ("a", "b")]
        request = self.request(
            json.dumps({"commands": commands}), path="/api/batch", X_API_Key=KEY
        )
        self.assertEqual(begun, ["a"])
        gate.callback(None)
        self.assertEqual(begun, ["a", "b"])
        self.assertEqual(len(self.answer_of(request)[1]["replies"]), 2)
        del begun[:]
        self.call("batch", commands=commands, parallel=True)
        self.assertEqual(begun, ["a", "b"])


class ActTests(ApiTestCase):
    """Calls as acts."""

    def test_every_call_is_an_act(self) -> None:
        """Handlers hear of each, as done by the user ``api``, and may refuse it."""
        seen: list[Any] = []

        def refuse(act: Any) -> None:
            seen.append((act.action, act.user, act.client))
            raise Refused(1000, "no")

        self.on("before", refuse)
        channel, user = {"channel": "kept:a"}, {"user": "bob"}
        for method, body in (
            ("publish", {**channel, "data": 1}),
            ("subscribe", {**channel, **user}),
            ("unsubscribe", {**channel, **user}),
            ("disconnect", user),
            ("refresh", user),
            ("presence", channel),
            ("presence_stats", channel),
            ("history", channel),
            ("history_remove", channel),
            ("channels", {}),
            ("info", {}),
        ):
            self.assertEqual(self.error(method, **body), 1000, method)
            self.assertEqual(seen.pop(), (method, "api", ""))
        answer = self.result("broadcast", channels=["a", "b"], data=1)
        self.assertEqual([one["error"]["code"] for one in answer["responses"]], [1000, 1000])
        self.assertEqual(seen, [("publish", "api", "")] * 2)

    def test_fault(self) -> None:
        """A handler's fault is an internal error, and its text stays here."""

        def break_down(act: Any) -> None:
            raise ValueError("a secret")

        self.on("before", break_down, action="info")
        answer = self.call("info")
        self.assertEqual(answer, {"error": {"code": 100, "message": "internal server error"}})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
