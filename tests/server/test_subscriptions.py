"""Subscribing: where a client stands, and what it gets of what it missed."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred

from oni.server import Grant
from oni.server._settings import ServerSettings
from tests.carriers import wire
from tests.server.house import HouseTestCase, WebSocketClient


class SubscribeTestCase(HouseTestCase):
    """Publishes, and reads what comes."""

    def publish(self, channel: str, *data: Any, event: str = "message") -> None:
        """Publish from the server."""
        for one in data:
            done = self.oni.act("publish", channel=channel, event=event, data=one)
            self.successResultOf(done)

    def heard(self, client: WebSocketClient) -> list[Any]:
        """Give the data of the publications that have come."""
        pushes = [message["push"] for message in client.messages() if "push" in message]
        return [push["pub"]["data"] for push in pushes if "pub" in push]


class PositionTests(SubscribeTestCase):
    """What the reply says."""

    def test_position(self) -> None:
        """The reply says where the client stands, and that it may come back to that."""
        self.publish("kept:a", 1, 2)
        told = self.connected().ask("subscribe", channel="kept:a")
        epoch = self.top("kept:a").epoch
        self.assertEqual(
            told, {"recoverable": True, "positioned": True, "epoch": epoch, "offset": 2}
        )

    def test_without_history(self) -> None:
        """Without history nothing can be recovered; a gap is still told."""
        told = self.connected().ask("subscribe", channel="chat")
        self.assertEqual((told.get("recoverable"), told["positioned"]), (None, True))
        again = self.connected().ask(
            "subscribe", channel="chat", recover=True, epoch=told["epoch"]
        )
        self.assertTrue(again["was_recovering"])
        self.assertNotIn("recovered", again)


class RecoverTests(SubscribeTestCase):
    """All that was missed, or nothing."""

    def recover(self, offset: int, epoch: str | None = None, **members: Any) -> Any:
        """Subscribe from a position; give the reply."""
        self.client = self.connected()
        if epoch is None:
            epoch = self.top("kept:a").epoch
        return self.client.ask(
            "subscribe", channel="kept:a", recover=True, epoch=epoch, offset=offset, **members
        )

    def test_nothing_missed(self) -> None:
        """Who stands at the top has missed nothing, and recovers."""
        self.publish("kept:a", 1, 2)
        told = self.recover(2)
        self.assertTrue(told["was_recovering"] and told["recovered"])
        self.assertNotIn("publications", told)

    def test_some_missed(self) -> None:
        """What was missed is in the reply, once, and then comes what is new."""
        self.publish("kept:a", *range(5))
        told = self.recover(2)
        missed = [(pub["offset"], pub["data"]) for pub in told["publications"]]
        self.assertEqual(missed, [(3, 2), (4, 3), (5, 4)])
        self.assertEqual((told["offset"], told["recovered"]), (5, True))
        self.publish("kept:a", 5)
        self.assertEqual(self.heard(self.client), [5])

    def test_many_missed(self) -> None:
        """More than 300 follow as pushes; the reply has the client's own position."""
        self.publish("kept:a", *range(1000))
        self.client = self.connected()
        epoch = self.top("kept:a").epoch
        number = self.client.command(
            "subscribe", channel="kept:a", recover=True, epoch=epoch, offset=10
        )
        self.publish("kept:a", 1000)
        messages = self.client.messages()
        for _ in range(20):
            messages += self.client.messages()
        self.assertEqual(messages[0]["id"], number)
        told = messages[0]["subscribe"]
        self.assertEqual((told["offset"], told["recovered"]), (10, True))
        self.assertNotIn("publications", told)
        pushes = [message["push"]["pub"] for message in messages[1:]]
        self.assertEqual([pub["data"] for pub in pushes], list(range(10, 1001)))
        self.assertEqual([pub["offset"] for pub in pushes], list(range(11, 1002)))

    def test_wrong_positions(self) -> None:
        """Another epoch, none, or an offset in the future: nothing is delivered."""
        self.publish("kept:a", 1, 2)
        other = self.top("kept:b").epoch
        for offset, epoch in ((1, other), (1, "x"), (1, ""), (3, None), (2**63, None)):
            told = self.recover(offset, epoch)
            self.assertTrue(told["was_recovering"], (offset, epoch))
            self.assertNotIn("recovered", told)
            self.assertNotIn("publications", told)
            self.assertEqual(told["offset"], 2)

    def test_rejects_gap(self) -> None:
        """A client that wants it so gets error 112, and is not subscribed."""
        told = self.recover(5, flag=2)
        self.assertEqual((told["code"], told["message"]), (112, "unrecoverable position"))
        (session,) = self.oni.sessions.values()
        self.assertNotIn("kept:a", session.subscriptions)
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)
        self.assertIn("epoch", self.client.ask("subscribe", channel="kept:a"))

    def test_filter(self) -> None:
        """With a filter only what fits is in the reply, and it stands at the top."""
        self.publish("kept:a", 1, 2)
        self.publish("kept:a", 3, event="other")
        told = self.recover(0, tf={"key": "event", "cmp": "eq", "val": "message"})
        self.assertEqual([pub["data"] for pub in told["publications"]], [1, 2])
        self.assertEqual((told["offset"], told["recovered"]), (3, True))


class GapTests(SubscribeTestCase):
    """A client that reads too slowly."""

    def test_gap(self) -> None:
        """Where publications are gone, the subscription ends with 2500, and the rest goes on."""
        client = self.connected()
        for channel in ("few:a", "chat"):
            client.ask("subscribe", channel=channel)
        client.protocol._inner.pauseProducing()  # its transport is full
        self.publish("few:a", *range(10))
        self.publish("chat", "x")
        self.assertEqual(client.messages(), [])
        client.protocol._inner.resumeProducing()
        messages = client.messages()
        told = {"code": 2500, "reason": "insufficient state"}
        self.assertIn({"push": {"channel": "few:a", "unsubscribe": told}}, messages)
        heard = [message["push"] for message in messages if "pub" in message["push"]]
        self.assertEqual([push["channel"] for push in heard], ["chat"])
        again = client.ask("subscribe", channel="few:a")
        self.assertEqual(again["offset"], 10)

    def test_gap_of_servers_own(self) -> None:
        """Of a subscription that the server made, the connection ends: it recovers as a whole."""
        client = self.connected()
        (session,) = self.oni.sessions.values()
        self.successResultOf(self.oni.subscribe("", "few:a", client=session.client))
        client.messages()
        client.protocol._inner.pauseProducing()
        self.publish("few:a", *range(10))
        client.protocol._inner.resumeProducing()
        self.assertEqual(wire.close_of(client.take()), (3010, "insufficient state"))

    def test_overdue(self) -> None:
        """Where the namespace says so, a client that lags too far is disconnected."""
        client = self.connected()
        client.ask("subscribe", channel="kept:a")
        (session,) = self.oni.sessions.values()
        held = session.subscriptions._held["kept:a"]
        session.overdue(held.cursor)
        self.assertEqual(wire.close_of(client.take()), (3008, "slow"))


class FilterTests(SubscribeTestCase):
    """Only what fits."""

    def test_live(self) -> None:
        """What does not fit is not delivered; the event's name is a tag, too."""
        client = self.connected()
        client.ask("subscribe", channel="chat", tf={"key": "event", "cmp": "sw", "val": "user_"})
        self.publish("chat", 1, event="user_created")
        self.publish("chat", 2, event="order_placed")
        self.publish("chat", 3, event="user_deleted")
        self.assertEqual(self.heard(client), [1, 3])

    def test_wrong(self) -> None:
        """A filter that is none is refused with its path."""
        error = self.connected().ask("subscribe", channel="chat", tf={"op": "xor"})
        self.assertEqual(error["code"], 107)
        self.assertIn("subscribe.tf.op", error["message"])


class PresenceTests(SubscribeTestCase):
    """Who is there, and who comes and goes."""

    def test_join_and_leave(self) -> None:
        """Who asked hears of others, not of itself; who did not ask hears of nobody."""
        first, second = self.connected(), self.connected()
        first.ask("subscribe", channel="kept:a", join_leave=True)
        second.ask("subscribe", channel="kept:a")
        third = self.connected()
        third.ask("subscribe", channel="kept:a")
        third.vanish()
        kinds = [list(message["push"])[1] for message in first.messages()]
        self.assertEqual(kinds, ["join", "join", "leave"])
        self.assertEqual(second.messages(), [])

    def test_not_in_this_namespace(self) -> None:
        """Where the namespace does not tell, asking changes nothing."""
        first = self.connected()
        first.ask("subscribe", channel="chat", join_leave=True)
        self.connected().ask("subscribe", channel="chat")
        self.assertEqual(first.messages(), [])

    def test_presence(self) -> None:
        """Presence says who is subscribed, until it is not."""
        self.on("before", _grant(Grant(info={"name": "Bob"})), action="connect")
        self.on("before", _grant(Grant(info=["x"], data=7)), action="subscribe")
        one, two = self.connected(), self.connected()
        self.assertEqual(one.ask("subscribe", channel="kept:a")["data"], 7)
        two.ask("subscribe", channel="kept:a")
        ids = list(self.oni.sessions)
        info = {"conn_info": {"name": "Bob"}, "chan_info": ["x"]}
        expected = {name: {"client": name, **info} for name in ids}
        self.assertEqual(one.ask("presence", channel="kept:a"), {"presence": expected})
        stats = one.ask("presence_stats", channel="kept:a")
        self.assertEqual(stats, {"num_clients": 2, "num_users": 1})
        two.ask("unsubscribe", channel="kept:a")
        stats = one.ask("presence_stats", channel="kept:a")
        self.assertEqual(stats["num_clients"], 1)


class LimitTests(SubscribeTestCase):
    """Room for few channels."""

    server = ServerSettings(max_channels_per_connection=1)

    def test_limit(self) -> None:
        """More than so many channels are refused, and room comes back."""
        client = self.connected()
        client.ask("subscribe", channel="a")
        self.assertEqual(client.ask("subscribe", channel="b")["code"], 106)
        client.ask("unsubscribe", channel="a")
        self.assertIn("epoch", client.ask("subscribe", channel="b"))


class ExpiryTests(SubscribeTestCase):
    """Subscriptions that end by themselves."""

    def test_expires(self) -> None:
        """One that is not refreshed ends with 2501 after a grace; the client may ask again."""
        self.on("before", _grant(Grant(ttl=60)), action="subscribe")
        client = self.connected()
        told = client.ask("subscribe", channel="chat")
        self.assertEqual((told["expires"], told["ttl"]), (True, 60))
        self.wait(client, 84)
        self.assertEqual(self.gone(client), [])
        self.wait(client, 2)
        self.assertEqual(self.gone(client), [{"code": 2501, "reason": "subscription expired"}])
        self.assertIn("epoch", client.ask("subscribe", channel="chat"))

    def test_refreshed(self) -> None:
        """A refresh, answered by the application, lets it go on."""
        self.on("before", _grant(Grant(ttl=60)), action="subscribe")
        self.oni.answer("sub_refresh", lambda act: Grant(ttl=100))
        client = self.connected()
        client.ask("subscribe", channel="chat")
        self.wait(client, 60)
        told = client.ask("sub_refresh", channel="chat", token="t")
        self.assertEqual(told, {"expires": True, "ttl": 100})
        self.wait(client, 100)
        self.assertEqual(self.gone(client), [])
        self.oni._answers._functions.clear()
        self.oni.answer("sub_refresh", lambda act: Grant())
        self.assertEqual(client.ask("sub_refresh", channel="chat", token="t"), {})
        self.wait(client, 200)
        self.assertEqual(self.gone(client), [])

    def test_servers_own(self) -> None:
        """Where the server made it, the connection ends with 3006."""
        self.oni.answer("sub_refresh", lambda act: Grant(ttl=1))
        client = self.connected()
        self.successResultOf(self.oni.subscribe("", "chat"))
        client.ask("sub_refresh", channel="chat", token="t")
        self.reactor.advance(25)
        client.send(wire.frame("{}"))
        client.take()
        self.reactor.advance(1)
        self.assertEqual(wire.close_of(client.take()), (3006, "subscription expired"))

    def wait(self, client: WebSocketClient, seconds: int) -> None:
        """Let time pass, in which the client answers pings."""
        self.seen = getattr(self, "seen", [])
        for _ in range(seconds):
            self.reactor.advance(1)
            messages = client.messages()
            self.seen += [message for message in messages if message]
            if {} in messages:
                client.send(wire.frame("{}"))

    def gone(self, client: WebSocketClient) -> list[Any]:
        """Give what was told about unsubscribing."""
        return [
            message["push"]["unsubscribe"]
            for message in self.seen
            if "unsubscribe" in message.get("push", {})
        ]


class SlowBackendTests(SubscribeTestCase):
    """What happens while a channel is still being attached to."""

    def test_gone_meanwhile(self) -> None:
        """A client that leaves before it is subscribed leaves nothing behind."""
        gate: Deferred[None] = Deferred()
        channel = self.channels.get("kept:a")
        enter = channel.enter

        def slowly(info: Any) -> Any:
            return gate.addCallback(lambda _: enter(info))

        client = self.connected()
        with mock.patch.object(type(channel), "enter", lambda self, info: slowly(info)):
            client.command("subscribe", channel="kept:a")
        client.vanish()
        gate.callback(None)
        self.reactor.advance(0)
        self.assertEqual(self.oni.sessions, {})
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)
        self.assertEqual(self.successResultOf(channel.presence()), {})

    def test_gone_while_the_server_subscribes(self) -> None:
        """The same where the server subscribes it: nobody cancels that."""
        gate: Deferred[None] = Deferred()
        channel = self.channels.get("kept:a")
        enter = channel.enter

        def slowly(_: Any, info: Any) -> Any:
            return gate.addCallback(lambda _: enter(info))

        client = self.connected()
        with mock.patch.object(type(channel), "enter", slowly):
            done = self.oni.subscribe("", "kept:a")
        client.vanish()
        gate.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.successResultOf(channel.presence()), {})
        self.assertEqual(self.channels.statistics()["subscriptions"], 0)


def _grant(grant: Grant) -> Any:
    def give(act: Any) -> None:
        act.grant = grant

    return give
