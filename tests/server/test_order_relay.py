"""Orders reach users that are connected to another node."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from oni.channels import Channels
from oni.errors import BackendError, Refused
from oni.server import Farewell, Oni, make_factory
from oni.server._session import Session
from oni.testing import FakeBackend
from tests.carriers import wire
from tests.server.house import HouseTestCase, WebSocketClient


class NodesTestCase(HouseTestCase):
    """Two nodes on the same streams: the client is connected to the second one."""

    def setUp(self) -> None:
        """Build the nodes anew, on fake backends."""
        super().setUp()
        self.successResultOf(self.oni.stop())
        self.backend = FakeBackend(self.reactor, holds=False)
        self.other_backend = self.backend.peer()
        self.oni = self.node_on(self.backend)
        self.other = self.node_on(self.other_backend)
        self.factory = make_factory(self.other, self.reactor)
        self.client = self.connected()
        (self.session,) = self.other.sessions.values()

    def node_on(self, backend: FakeBackend) -> Oni:
        """Start a node."""
        channels = Channels(backend, options=self.settings.stream_of, reactor=self.reactor)
        oni = Oni(self.settings, self.reactor, channels=channels)
        self.successResultOf(oni.start())
        self.addCleanup(oni.stop)
        return oni

    def pushes(self, client: WebSocketClient | None = None) -> list[Any]:
        """Give the pushes that have come."""
        return [message["push"] for message in (client or self.client).messages()]

    def done(self, ordered: Deferred[Any]) -> None:
        """See that an order is done."""
        self.assertIsNone(self.successResultOf(ordered))


class OrdersTests(NodesTestCase):
    """Every order, given on the first node."""

    def test_subscribe(self) -> None:
        """The user is subscribed there, from a position, and told why."""
        since = self.successResultOf(self.oni.act("publish", channel="kept:a", data=1))
        self.successResultOf(self.oni.act("publish", channel="kept:a", data=2))
        order = self.oni.subscribe("", "kept:a", data={"why": 1}, info="x", since=since)
        self.done(order)
        subscribe, missed = self.pushes()
        self.assertEqual(subscribe["subscribe"]["data"], {"why": 1})
        self.assertEqual(missed["pub"]["data"], 2)
        there = self.client.ask("presence", channel="kept:a")["presence"]
        self.assertEqual([who["chan_info"] for who in there.values()], ["x"])
        self.successResultOf(self.oni.act("publish", channel="kept:a", data=3))
        (live,) = [push for push in self.pushes() if "pub" in push]
        self.assertEqual(live["pub"]["data"], 3)

    def test_unsubscribe(self) -> None:
        """The user is unsubscribed there."""
        self.client.ask("subscribe", channel="chat")
        self.done(self.oni.unsubscribe("", "chat"))
        (push,) = self.pushes()
        self.assertEqual(push["unsubscribe"]["code"], 2000)
        self.assertEqual(list(self.session.subscriptions), [])

    def test_disconnect(self) -> None:
        """The user's connection is closed there, with the given farewell."""
        self.done(self.oni.disconnect("", farewell=Farewell(4001, "so long")))
        self.assertEqual(wire.close_of(self.client.take()), (4001, "so long"))

    def test_whom(self) -> None:
        """Only those who are meant: another user's, another session, and kept ones stay."""
        self.done(self.oni.disconnect("bob"))
        self.done(self.oni.disconnect("", client="nobody"))
        self.done(self.oni.disconnect("", keep=(self.session.client,)))
        self.assertEqual(self.client.take(), b"")
        self.done(self.oni.disconnect("", client=self.session.client))
        self.assertNotEqual(self.client.take(), b"")

    def test_refresh(self) -> None:
        """The user's sessions go on for so long, or end."""
        self.done(self.oni.refresh("", ttl=30.0))
        (push,) = self.pushes()
        self.assertEqual(push["refresh"], {"expires": True, "ttl": 30})
        self.done(self.oni.refresh("", expired=True))
        self.assertEqual((wire.close_of(self.client.take()) or ())[0], 3005)

    def test_http_api(self) -> None:
        """An order over the first node's HTTP API, too."""
        self.factory = make_factory(self.oni, self.reactor)
        status, body = self.http(
            json.dumps({"user": ""}), path="/api/disconnect", X_API_Key="a key of many characters"
        )
        self.assertEqual((status, body), (200, {"result": {}}))
        self.assertIsNotNone(wire.close_of(self.client.take()))

    def test_no_act_there(self) -> None:
        """Handlers see the order where it was given, and only there."""
        seen: list[str] = []
        for oni, name in ((self.oni, "here"), (self.other, "there")):
            oni.dispatcher.add_event_handler(
                lambda act, name=name, **details: seen.append(name),
                "before",
                use_weakref=False,
                action="unsubscribe",
            )
        self.done(self.oni.unsubscribe("", "chat"))
        self.assertEqual(seen, ["here"])

    def test_backend_is_down(self) -> None:
        """Where the others cannot be told, the order is done here, and fails."""
        self.factory = make_factory(self.oni, self.reactor)
        here = self.connected()
        self.backend.is_down = True
        refused = self.failureResultOf(self.oni.disconnect(""), Refused)
        self.assertEqual(refused.value.code, 100)
        self.backend.is_down = False
        self.assertGreater(len(self.flushLoggedErrors(BackendError)), 0)
        self.assertIsNotNone(wire.close_of(here.take()))
        self.assertEqual(self.client.take(), b"")


class MessagesTests(NodesTestCase):
    """What comes from other nodes, and what is made of it."""

    def setUp(self) -> None:
        """Listen to what the first node says."""
        super().setUp()
        self.said: list[bytes] = []
        self.oni.channels.hear_control(self.said.append)
        self.client.ask("subscribe", channel="chat")
        self.done(self.oni.unsubscribe("nobody", "chat"))

    def tell(self, **changes: Any) -> list[Any]:
        """Send what was said, with changes; give what the client is told."""
        message = {**json.loads(self.said[0]), "id": str(len(self.said)), **changes}
        message["order"] = {**message["order"], "user": ""}
        self.successResultOf(self.oni.channels.control(json.dumps(message).encode()))
        return self.pushes()

    def test_understood(self) -> None:
        """The message is one that is obeyed, so that the tests below say something."""
        self.assertEqual(len(self.tell()), 1)
        message = json.loads(self.said[0])
        self.assertEqual((message["kind"], message["version"]), ("oni.order", 1))
        self.assertEqual(message["node"], self.oni.node)

    def test_unknown(self) -> None:
        """Another kind, another version, or no such message at all is left alone."""
        self.assertEqual(self.tell(kind="oni.news"), [])
        self.assertEqual(self.tell(version=2), [])
        for message in (b"", b"\xff\x00", b"[]", b"{}", b"7"):
            self.successResultOf(self.oni.channels.control(message))
        self.assertEqual(self.pushes(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_bad(self) -> None:
        """An order that cannot be understood is not obeyed; the next one is."""
        for changes in ({"action": "publish"}, {"channel": 7}, {"data": "x", "order": {}}):
            message = {**json.loads(self.said[0]), **changes}
            message.pop("id")
            self.successResultOf(self.oni.channels.control(json.dumps(message).encode()))
        self.assertEqual(self.pushes(), [])
        self.assertEqual(len(self.tell()), 1)

    def test_more_members(self) -> None:
        """Members that a later minor change adds are ignored."""
        self.assertEqual(len(self.tell(colour="red")), 1)

    def test_own(self) -> None:
        """A node does not obey what it said itself: it did so already."""
        self.assertEqual(self.tell(node=self.other.node), [])

    def test_again(self) -> None:
        """A message that comes twice is obeyed once."""
        self.assertEqual(len(self.tell(id="once")), 1)
        self.client.ask("subscribe", channel="chat")
        self.assertEqual(self.tell(id="once"), [])
        self.assertEqual(len(self.tell(id="twice")), 1)

    def test_own_once(self) -> None:
        """On the node where it is given an order happens once."""
        self.done(self.other.refresh("", ttl=30.0))
        self.assertEqual(len(self.pushes()), 1)

    def test_fails(self) -> None:
        """What fails there is logged there, and hurts nobody here."""

        def fail(session: Session, ttl: float | None) -> None:
            raise ValueError(ttl)

        self.patch(Session, "expire_in", fail)
        self.done(self.oni.refresh("", ttl=30.0))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopped(self) -> None:
        """A node that has stopped, and started again, hears each order once."""
        self.successResultOf(self.other.stop())
        self.successResultOf(self.other.start())
        self.client = self.connected()
        self.done(self.oni.refresh("", ttl=30.0))
        self.assertEqual(len(self.pushes()), 1)
