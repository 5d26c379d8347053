"""What acts do: for a client's commands that are neither subscribing nor publishing alone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from oni.errors import Refused
from oni.server import Grant
from tests.carriers import wire
from tests.server.house import HouseTestCase


class ConnectTests(HouseTestCase):
    """What a connect is given."""

    def grant(self, **members: Any) -> None:
        """Let every connect be given this."""

        def give(act: Any) -> None:
            act.grant = Grant(**members)

        self.on("before", give, action="connect")

    def test_data(self) -> None:
        """A handler gives data to the client, and information for others."""
        self.grant(data={"hello": 1}, info={"name": "Bob"})
        client = self.websocket()
        self.assertEqual(client.ask("connect")["data"], {"hello": 1})
        client.ask("subscribe", channel="chat")
        client.command("publish", channel="chat", data=1)
        push = client.messages()[-1]["push"]
        self.assertEqual(push["pub"]["info"]["conn_info"], {"name": "Bob"})

    def test_subscriptions(self) -> None:
        """The server subscribes the client; the reply comes before any publication."""
        self.grant(channels=["kept:a", "news:a", "kept:a"])
        client = self.websocket()
        number = client.command("connect")
        self.successResultOf(self.oni.act("publish", channel="news:a", data="x"))
        reply, push = client.messages()
        self.assertEqual(reply["id"], number)
        self.assertEqual(list(reply["connect"]["subs"]), ["kept:a", "news:a"])
        self.assertTrue(reply["connect"]["subs"]["kept:a"]["recoverable"])
        self.assertEqual(push["push"]["channel"], "news:a")
        self.assertEqual(client.ask("subscribe", channel="kept:a")["code"], 105)

    def test_recovery(self) -> None:
        """What the client missed of these is in the reply to the next connect."""
        self.grant(channels=["kept:a"])
        first = self.websocket()
        told = first.ask("connect")["subs"]["kept:a"]
        first.vanish()
        self.successResultOf(self.oni.act("publish", channel="kept:a", data="missed"))
        subs = {
            "kept:a": {"recover": True, "epoch": told["epoch"], "offset": told.get("offset", 0)},
            "kept:b": {"recover": True},
        }
        told = self.websocket().ask("connect", subs=subs)["subs"]
        self.assertEqual(list(told), ["kept:a"])
        self.assertEqual([pub["data"] for pub in told["kept:a"]["publications"]], ["missed"])

    def test_unknown_channel(self) -> None:
        """A channel that there is not is a mistake of the server's; nobody gets half of it."""
        self.grant(channels=["kept:a", "nowhere:a"])
        client = self.websocket()
        self.assertEqual(client.ask("connect")["code"], 102)
        self.reactor.advance(1)
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)

    def test_not_json(self) -> None:
        """A grant that cannot be told is an internal error, with its traceback in the log."""
        self.grant(data=object())
        self.assertEqual(self.websocket().ask("connect")["code"], 100)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_no_grant(self) -> None:
        """Something else than a grant is an internal error, too."""

        def give(act: Any) -> None:
            act.grant = {"data": 1}

        self.on("before", give, action="connect")
        self.assertEqual(self.websocket().ask("connect")["code"], 100)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_expires(self) -> None:
        """A session that is not refreshed ends, and the client may come back."""
        self.grant(ttl=10)
        client = self.websocket()
        told = client.ask("connect")
        self.assertEqual((told["expires"], told["ttl"]), (True, 10))
        self.reactor.advance(34)
        client.send(wire.frame("{}"))
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(1)
        self.assertEqual(wire.close_of(client.take()), (3005, "connection expired"))

    def test_refreshed(self) -> None:
        """A refresh, answered by the application, lets it go on."""
        self.grant(ttl=10)
        tokens = []

        def answer(act: Any) -> Grant:
            tokens.append(act.token)
            return Grant()

        self.oni.answer("refresh", answer)
        client = self.websocket()
        name = client.ask("connect")["client"]
        told = client.ask("refresh", token="new")
        self.assertEqual(told, {"client": name, "version": "oni"})
        self.assertEqual(tokens, ["new"])
        for _ in range(4):
            self.reactor.advance(24)
            client.send(wire.frame("{}"))
        self.assertIsNone(wire.close_of(client.take()))

    def test_bad_refresh(self) -> None:
        """An answer that is no grant is a fault; a refusal is the reply."""
        answers: list[Any] = [True, Refused(109, "token expired")]

        def answer(act: Any) -> Any:
            told = answers.pop(0)
            if isinstance(told, Refused):
                raise told
            return told

        self.oni.answer("refresh", answer)
        client = self.connected()
        self.assertEqual(client.ask("refresh", token="t")["code"], 100)
        self.assertEqual(client.ask("refresh", token="t")["code"], 109)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class AskTests(HouseTestCase):
    """RPCs and messages."""

    def test_rpc(self) -> None:
        """The application answers: with a value, later, by a coroutine, or with a refusal."""
        later: Deferred[Any] = Deferred()

        async def coroutine(act: Any) -> Any:
            return [act.data, act.event]

        def refuse(act: Any) -> None:
            raise Refused(1000, "no")

        for method, answer in (
            ("now", lambda act: {"a": act.data}),
            ("later", lambda act: later),
            ("coroutine", coroutine),
            ("refuse", refuse),
            ("nothing", lambda act: None),
            ("broken", lambda act: object()),
        ):
            self.oni.answer("rpc", answer, method)
        client = self.connected()
        self.assertEqual(client.ask("rpc", method="now", data=1), {"data": {"a": 1}})
        self.assertEqual(
            client.ask("rpc", method="coroutine", data=[]), {"data": [[], "coroutine"]}
        )
        self.assertEqual(client.ask("rpc", method="nothing"), {"data": None})
        self.assertEqual(client.ask("rpc", method="refuse")["code"], 1000)
        self.assertEqual(client.ask("rpc", method="broken")["code"], 100)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        number = client.command("rpc", method="later")
        self.assertEqual(client.messages(), [])
        later.callback(7)
        self.assertEqual(client.messages(), [{"id": number, "rpc": {"data": 7}}])

    def test_rpc_is_an_act(self) -> None:
        """Handlers hear of it, by the method as its event, and may refuse it."""

        def refuse(act: Any) -> None:
            raise Refused(1000, "not today")

        self.oni.answer("rpc", lambda act: 1, "pay")
        self.on("before", refuse, action="rpc", event="pay")
        self.assertEqual(self.connected().ask("rpc", method="pay")["code"], 1000)

    def test_oni_publish(self) -> None:
        """The server's own rpc publishes with any event's name and with tags."""
        client, other = self.connected(), self.connected()
        for each in (client, other):
            each.ask("subscribe", channel="chat")
        data = {"channel": "chat", "event": "moved", "data": {"x": 1}, "tags": {"a": "b"}}
        told = client.ask("rpc", method="oni.publish", data={**data, "exclude_self": True})
        self.assertEqual(told["data"]["offset"], 1)
        self.assertEqual(client.messages(), [])
        (message,) = other.messages()
        pub = message["push"]["pub"]
        self.assertEqual((pub["data"], pub["tags"]), ({"x": 1}, {"a": "b", "event": "moved"}))

    def test_oni_publish_refused(self) -> None:
        """It is a publish like any other: names are checked, and the settings hold."""
        client = self.connected()
        for data, code in (
            ({"channel": "news:a", "data": 1}, 103),
            ({"channel": "nowhere:a", "data": 1}, 102),
            ({"channel": "chat"}, 107),
            ({"channel": "chat", "data": 1, "event": ""}, 107),
            ({"channel": "", "data": 1}, 107),
            (None, 107),
        ):
            told = client.ask("rpc", method="oni.publish", data=data)
            self.assertEqual(told["code"], code, data)

    def test_oni_publish_in_order(self) -> None:
        """It keeps its place among the client's publications on that channel."""
        gate: Deferred[None] = Deferred()
        self.on("before", lambda act: gate, action="publish", times=1)
        client = self.connected()
        client.ask("subscribe", channel="chat")
        client.command("publish", channel="chat", data=1)
        client.command("rpc", method="oni.publish", data={"channel": "chat", "data": 2})
        self.assertEqual(client.messages(), [])
        gate.callback(None)
        pushes = [message["push"] for message in client.messages() if "push" in message]
        self.assertEqual([push["pub"]["data"] for push in pushes], [1, 2])

    def test_send(self) -> None:
        """A message has no reply; a refusal has none, either."""
        heard: list[Any] = []

        def hear(act: Any) -> None:
            heard.append(act.data)
            raise Refused(1000, "no")

        self.oni.answer("send", hear)
        client = self.connected()
        client.send(wire.command(send={"data": {"a": 1}}))
        self.assertEqual((heard, client.messages()), ([{"a": 1}], []))
        self.assertEqual(client.ask("ping"), {})

    def test_send_to_nobody(self) -> None:
        """Where the application takes no messages, the connection ends for good."""
        client = self.connected()
        client.send(wire.command(send={"data": 1}))
        self.assertEqual(wire.close_of(client.take()), (3508, "not available"))

    def test_message(self) -> None:
        """The application may send a message that belongs to no channel."""
        client = self.connected()
        (session,) = self.oni.sessions.values()
        session.send({"hello": 1})
        self.assertEqual(client.messages(), [{"push": {"message": {"data": {"hello": 1}}}}])
        client.vanish()
        session.send({"hello": 2})


class HistoryTests(HouseTestCase):
    """What was published."""

    def setUp(self) -> None:
        """Publish ten."""
        super().setUp()
        self.client = self.connected()
        self.client.ask("subscribe", channel="kept:a")
        for number in range(10):
            self.client.ask("publish", channel="kept:a", data=number)

    def read(self, **members: Any) -> Any:
        """Read; give the data, or the error."""
        told = self.client.ask("history", channel="kept:a", **members)
        if "code" in told:
            return told
        self.assertEqual((told["offset"], told["epoch"]), (10, self.top("kept:a").epoch))
        return [pub["data"] for pub in told["publications"]]

    def test_pages(self) -> None:
        """By limit, from a position, and backwards."""
        epoch = self.top("kept:a").epoch
        self.assertEqual(self.read(), [])
        self.assertEqual(self.read(limit=3), [0, 1, 2])
        self.assertEqual(self.read(limit=3, since={"offset": 3, "epoch": epoch}), [3, 4, 5])
        self.assertEqual(self.read(limit=3, since={"offset": 3}), [3, 4, 5])
        self.assertEqual(self.read(limit=3, reverse=True), [9, 8, 7])
        since = {"offset": 3, "epoch": epoch}
        self.assertEqual(self.read(limit=9, reverse=True, since=since), [1, 0])
        self.assertEqual(self.read(limit=-1), list(range(10)))
        self.assertEqual(self.read(limit=5, since={"offset": 99, "epoch": epoch}), [])

    def test_another_life(self) -> None:
        """A position of another epoch is refused."""
        error = self.read(limit=1, since={"offset": 1, "epoch": "other"})
        self.assertEqual(error, {"code": 112, "message": "unrecoverable position"})

    def test_at_most(self) -> None:
        """A client gets 300 at once, at most."""
        for number in range(10, 400):
            done = self.oni.act("publish", channel="kept:a", data=number)
            self.successResultOf(done)
        for limit in (-1, 1000):
            told = self.client.ask("history", channel="kept:a", limit=limit)
            self.assertEqual(len(told["publications"]), 300)

    def test_info(self) -> None:
        """Each says by whom, where, and what event it was."""
        told = self.client.ask("history", channel="kept:a", limit=1)
        (session,) = self.oni.sessions
        self.assertEqual(
            told["publications"],
            [{"data": 0, "offset": 1, "tags": {"event": "message"}, "info": {"client": session}}],
        )

    def test_only_subscribers(self) -> None:
        """Who is not subscribed may not read, nor see who is."""
        other = self.connected()
        for method in ("history", "presence", "presence_stats"):
            self.assertEqual(other.ask(method, channel="kept:a")["code"], 103, method)
