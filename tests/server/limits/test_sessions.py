"""The limits of a session: commands a second, sessions of a user, sizes, recoveries."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from oni.server._intake import MAX_COMMANDS
from oni.server._session import Session
from oni.server._settings import ServerSettings
from tests.carriers import wire
from tests.server.house import HouseTestCase, WebSocketClient


def commands(first: int, number: int, **method: Any) -> bytes:
    """Write many commands in one message."""
    lines = [json.dumps({"id": n, **method}) for n in range(first, first + number)]
    return wire.frame("\n".join(lines))


class RateTests(HouseTestCase):
    """50 commands a second, 100 at once."""

    def ids(self, client: WebSocketClient) -> list[int]:
        """Give the ids of the replies that have come."""
        return [message["id"] for message in client.messages() if message.get("id")]

    def test_burst(self) -> None:
        """100 at once are answered at once."""
        client = self.connected()
        client.send(commands(2, 99, ping={}))
        self.assertEqual(self.ids(client), list(range(2, 101)))
        self.assertEqual(client.transport.producerState, "producing")

    def test_waiting(self) -> None:
        """More of them wait, nothing is read meanwhile, and all are answered in order."""
        client = self.connected()
        client.send(commands(2, 149, ping={}))
        self.assertEqual(self.ids(client), list(range(2, 101)))
        self.assertEqual(client.transport.producerState, "paused")
        self.reactor.advance(0.9)
        self.assertEqual(self.ids(client), [])
        self.reactor.advance(0.2)
        self.assertEqual(self.ids(client), list(range(101, 151)))
        self.assertEqual(client.transport.producerState, "producing")

    def test_rate(self) -> None:
        """In the long run there are 50 a second, and nobody is disconnected."""
        client = self.connected()
        answered = 0
        for step in range(600):
            if client.transport.producerState == "producing":
                client.send(commands(1000 + 20 * step, 20, ping={}))
            self.reactor.advance(0.1)
            answered += len(self.ids(client))
        self.assertLess(abs(answered / (60 * 50) - 1), 0.06)

    def test_flood(self) -> None:
        """Who sends many more than can wait is disconnected."""
        client = self.connected()
        client.send(commands(2, MAX_COMMANDS + 200, ping={}))
        self.assertEqual(wire.close_of(client.take()), (3013, "too many requests"))
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})

    def test_pongs_count(self) -> None:
        """Answers to pings that nobody sent are commands like others."""
        client = self.connected()
        client.send(wire.frame("\n".join(["{}"] * (MAX_COMMANDS + 200))))
        self.assertEqual(wire.close_of(client.take()), (3013, "too many requests"))

    def test_mistakes_count(self) -> None:
        """Commands that are wrong are commands like others."""
        client = self.connected()
        for n in range(20):
            client.send(commands(100 * n + 2, 100, publish={}))
        self.assertEqual(wire.close_of(client.take()), (3013, "too many requests"))

    def test_heartbeat(self) -> None:
        """Who is not read from because it was fast is not disconnected as silent."""
        client = self.connected()
        self.reactor.advance(24)
        client.send(commands(2, 100 + MAX_COMMANDS - 10, ping={}))
        for _ in range(18):
            self.reactor.advance(1)
        self.assertIsNone(wire.close_of(client.take()))
        self.assertEqual(client.transport.producerState, "paused")

    def test_gone(self) -> None:
        """Nothing waits for who has gone."""
        client = self.connected()
        (session,) = self.oni.sessions.values()
        client.send(commands(2, 149, ping={}))
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})
        calls = [call.func for call in self.reactor.getDelayedCalls()]
        self.assertNotIn(session._intake._pump, calls)

    def test_a_few_too_many(self) -> None:
        """Also a few commands, or answers to pings, are followed by a pause."""
        for lines in (commands(2, 104, ping={}), wire.frame("\n".join(["{}"] * 104))):
            client = self.connected()
            client.send(lines)
            self.assertEqual(client.transport.producerState, "paused")
            self.reactor.advance(0.12)
            self.assertEqual(client.transport.producerState, "producing")
            self.assertIsNone(wire.close_of(client.take()))


class UserTests(HouseTestCase):
    """How many sessions one user may have."""

    server = ServerSettings(max_connections_per_user=2)

    def test_most(self) -> None:
        """One more is told so and closed for good; others are let in."""
        first = self.as_user("bob")
        self.as_user("bob")
        third = self.as_user("bob", expect=106)
        self.assertEqual(wire.close_of(third.last), (3504, "connection limit"))
        self.as_user("eve")
        third.vanish()
        self.reactor.advance(0)
        self.as_user("bob", expect=106)  # who was never let in makes no room
        first.vanish()
        self.reactor.advance(0)
        self.as_user("bob")

    def test_nobody(self) -> None:
        """Those that nobody knows are not one user."""
        for _ in range(5):
            self.assertIn("client", self.websocket().ask("connect"))

    def test_nothing_is_left(self) -> None:
        """Who was not let in, and who has gone, is not counted."""
        clients = [self.as_user("bob"), self.as_user("bob"), self.as_user("bob", expect=106)]
        for client in clients:
            client.vanish()
        self.reactor.advance(0)
        self.assertEqual(len(self.oni._users), 0)

    def test_gone_meanwhile(self) -> None:
        """Who has gone when it would have been let in is not counted."""
        self.patch(Session, "open", lambda session: False)
        self.as_user("bob", expect=108)
        self.assertEqual(len(self.oni._users), 0)

    def as_user(self, user: str, expect: int = 0) -> Any:
        """Connect as somebody, as an application's own authentication would."""
        client: Any = self.websocket()
        client.command("connect", data={"as": user})
        client.last = client.take()
        (reply,) = wire.messages(client.last)
        self.assertEqual(reply.get("error", {}).get("code", 0), expect)
        return client

    def setUp(self) -> None:
        """Let clients say who they are."""
        super().setUp()
        self.oni.authenticate(lambda act: self.identity(act.data))

    def identity(self, data: Any) -> Any:
        """Believe it."""
        from oni.server import Identity

        return Identity(user=data["as"]) if data else None


class PublishTests(HouseTestCase):
    """How large a publication may be."""

    def test_size(self) -> None:
        """What is larger than the rules allow is refused, whoever publishes it."""
        rules = self.settings.rules_for("kept:1")
        assert rules is not None
        self.assertEqual(rules.max_publish_bytes, 1048576)
        fits = "x" * (1048576 - 2)
        self.successResultOf(self.oni.act("publish", channel="kept:1", data=fits))
        refused = self.failureResultOf(self.oni.act("publish", channel="kept:1", data=fits + "x"))
        self.assertEqual(refused.value.code, 106)
        self.assertEqual(self.top("kept:1").offset, 1)


class RecoveryTests(HouseTestCase):
    """How many may have the history read for them at once."""

    server = ServerSettings(max_recoveries=3, max_handshakes_per_second=1000)

    def test_turns(self) -> None:
        """The others wait for their turn, and get all that they missed."""
        for n in range(5):
            self.successResultOf(self.oni.act("publish", channel="kept:1", data=n))
        epoch = self.top("kept:1").epoch
        gates: list[tuple[Deferred[None], Any]] = []
        real = self.channels.get("kept:1").attach

        def attach(*args: Any, **more: Any) -> Any:
            gate: Deferred[None] = Deferred()
            gates.append((gate, None))
            return gate.addCallback(lambda _: real(*args, **more))

        self.patch(
            type(self.channels.get("kept:1")), "attach", lambda self, *a, **m: attach(*a, **m)
        )
        clients = [self.connected() for _ in range(10)]
        since = {"recover": True, "epoch": epoch, "offset": 2}
        for client in clients:
            client.command("subscribe", channel="kept:1", **since)
        fresh = self.connected()
        fresh.command("subscribe", channel="kept:1")
        self.assertEqual(len(gates), 4)  # three, and one that needs no history
        clients[5].vanish()
        seen = 0
        while seen < len(gates):
            gates[seen][0].callback(None)
            seen += 1
            self.assertLessEqual(len(gates) - seen, 4)
            self.reactor.advance(0)
        self.assertEqual(len(gates), 10)
        for client in clients[:5] + clients[6:]:
            (reply,) = client.messages()
            self.assertEqual(
                [publication["data"] for publication in reply["subscribe"]["publications"]],
                [2, 3, 4],
            )
