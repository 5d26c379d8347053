"""What the server side does to sessions."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import Refused
from oni.server import Farewell, Order
from oni.server._order_effects import _glob
from oni.values import Position
from tests.carriers import wire
from tests.server.house import HouseTestCase, WebSocketClient


class OrderTests(HouseTestCase):
    """What an application may do to its users."""

    def setUp(self) -> None:
        """Connect two clients."""
        super().setUp()
        self.clients = (self.connected(), self.connected())
        self.ids = list(self.oni.sessions)

    def pushes(self, client: WebSocketClient) -> list[Any]:
        """Give the pushes that have come."""
        return [message["push"] for message in client.messages()]

    def test_subscribe(self) -> None:
        """All of a user's sessions are subscribed, each with a push before anything else."""
        self.successResultOf(self.oni.subscribe("", "kept:a", data={"why": 1}, info="x"))
        self.successResultOf(self.oni.act("publish", channel="kept:a", data=7))
        for client in self.clients:
            subscribe, pub = self.pushes(client)
            self.assertEqual(
                subscribe["subscribe"],
                {
                    "recoverable": True,
                    "positioned": True,
                    "epoch": self.top("kept:a").epoch,
                    "data": {"why": 1},
                },
            )
            self.assertEqual(pub["pub"]["data"], 7)
        there = self.clients[0].ask("presence", channel="kept:a")["presence"]
        self.assertEqual({who["chan_info"] for who in there.values()}, {"x"})

    def test_subscribe_one(self) -> None:
        """One session only, from a position; twice is once; settings do not bind the server."""
        for number in range(3):
            self.successResultOf(self.oni.act("publish", channel="kept:a", data=number))
        since = Position(self.top("kept:a").epoch, 1)
        for _ in range(2):
            done = self.oni.subscribe("", "kept:a", client=self.ids[0], since=since)
            self.successResultOf(done)
        pushes = self.pushes(self.clients[0])
        self.assertEqual([list(push)[1] for push in pushes], ["subscribe", "pub", "pub"])
        self.assertEqual([push["pub"]["data"] for push in pushes[1:]], [1, 2])
        self.assertEqual(self.pushes(self.clients[1]), [])
        self.successResultOf(self.oni.subscribe("", "log:x", client=self.ids[0]))
        self.assertEqual(len(self.pushes(self.clients[0])), 1)

    def test_nobody(self) -> None:
        """A user without sessions is no error; a channel that there is not is one."""
        self.successResultOf(self.oni.subscribe("bob", "kept:a"))
        self.assertEqual(self.pushes(self.clients[0]), [])
        error = self.failureResultOf(self.oni.subscribe("", "nowhere:a"), Refused)
        self.assertEqual(error.value.code, 102)

    def test_unsubscribe(self) -> None:
        """The client is told that it is over for good; who was not subscribed is told nothing."""
        one, other = self.clients
        one.ask("subscribe", channel="chat")
        self.successResultOf(self.oni.unsubscribe("", "chat"))
        told = {"code": 2000, "reason": "server unsubscribe"}
        self.assertEqual(self.pushes(one), [{"channel": "chat", "unsubscribe": told}])
        self.assertEqual(self.pushes(other), [])
        self.successResultOf(self.oni.act("publish", channel="chat", data=7))
        self.assertEqual(self.pushes(one), [])

    def test_disconnect(self) -> None:
        """Connections are closed with a code; some may stay."""
        one, other = self.clients
        done = self.oni.disconnect("", keep=[self.ids[1]], farewell=Farewell(4000, "why"))
        self.successResultOf(done)
        self.assertEqual(wire.close_of(one.take()), (4000, "why"))
        self.assertIsNone(wire.close_of(other.take()))
        self.successResultOf(self.oni.disconnect(""))
        self.assertEqual(wire.close_of(other.take()), (3503, "force disconnect"))

    def test_bad_farewell(self) -> None:
        """A code or reason that cannot be sent is refused where it is written."""
        for farewell in (Farewell(1000, ""), Farewell(5000, ""), Farewell(3000, "ä" * 62)):
            self.assertRaises(ValueError, self.oni.disconnect, "", farewell=farewell)

    def test_refresh(self) -> None:
        """Sessions go on for a time, for ever, or no longer."""
        one, other = self.clients
        self.successResultOf(self.oni.refresh("", client=self.ids[0], ttl=5))
        self.successResultOf(self.oni.refresh("", client=self.ids[1], ttl=5))
        self.successResultOf(self.oni.refresh("", client=self.ids[1]))
        self.assertEqual(self.pushes(one), [{"refresh": {"expires": True, "ttl": 5}}])
        self.assertEqual(self.pushes(other)[-1], {"refresh": {}})
        self.reactor.advance(25)
        for client in self.clients:
            client.send(wire.frame("{}"))
        self.reactor.advance(5.5)
        self.assertEqual(wire.close_of(one.take()), (3005, "connection expired"))
        self.assertIsNone(wire.close_of(other.take()))
        self.successResultOf(self.oni.refresh("", expired=True))
        self.assertEqual(wire.close_of(other.take()), (3005, "connection expired"))

    def test_handlers(self) -> None:
        """An order is an act: handlers see whom it is about, and may refuse it."""
        seen: list[Any] = []

        def refuse(act: Any) -> None:
            seen.append((act.client, act.user, act.request.user))
            raise Refused(1000, "no")

        self.on("before", refuse, action="disconnect")
        self.failureResultOf(self.oni.disconnect("bob"), Refused)
        self.assertEqual(seen, [("", "", "bob")])

    def test_without_order(self) -> None:
        """The general way needs the order; what belongs to sessions stays theirs."""
        for action in ("subscribe", "unsubscribe", "disconnect", "refresh", "history", "connect"):
            self.assertRaises(ValueError, self.oni.act, action, channel="kept:a")
        done = self.oni.act("unsubscribe", channel="chat", request=Order(user=""))
        self.successResultOf(done)


class GlobTests(SynchronousTestCase):
    """Patterns of channels."""

    def test_patterns(self) -> None:
        """Stars, question marks, classes and alternatives; everything else is itself."""
        for pattern, yes, no in (
            ("*", ["", "a:b"], []),
            ("a*", ["a", "abc"], ["ba"]),
            ("*:a", ["x:a"], ["x:ab"]),
            ("a**b?", ["abx", "a.bx"], ["ab"]),
            ("[ab]c", ["ac", "bc"], ["cc", "[ab]c"]),
            ("[!ab]c", ["cc"], ["ac"]),
            ("[a-c]1", ["b1"], ["d1", "-1"]),
            ("{news,chat}:*", ["news:1", "chat:"], ["log:1"]),
            ("a.b+", ["a.b+"], ["aXb+", "a.bb"]),
            ("\\*", ["*"], ["x"]),
            ("[", ["["], ["x"]),
            ("{", ["{"], ["x"]),
            ("*a*b*c*", ["xaxbxcx", "abc"], ["cba"]),
        ):
            match = _glob(pattern).fullmatch
            for name in yes:
                self.assertTrue(match(name), (pattern, name))
            for name in no:
                self.assertFalse(match(name), (pattern, name))

    def test_no_endless_search(self) -> None:
        """A pattern of many stars takes no time to speak of."""
        self.assertFalse(_glob("*a" * 60 + "b").fullmatch("a" * 255))
