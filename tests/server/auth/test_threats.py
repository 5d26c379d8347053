"""The rows of the threat list that are about who may do what, each with its figure."""

from __future__ import annotations

from typing import Any

from oni.server._settings import ChannelRules, ServerSettings, Settings
from tests.carriers import wire
from tests.server.auth.test_authentication import AuthCase, _by_cookie
from tests.server.house import WebSocketClient

DENIED, LIMIT = 103, 106


class CookieTests(AuthCase):
    """T2: a cookie is no proof by itself."""

    server = ServerSettings(allowed_origins=("https://good.example",))

    def test_foreign_origin(self) -> None:
        """With a valid cookie, pages of other sites are refused before there is a websocket."""
        self.oni.authenticate(_by_cookie)
        for origin in (
            "https://evil.example",
            "http://localhost:8001",
            "https://localhost:8000",
            "http://localhost:8000.evil.example",
            "http://evil-localhost:8000",
            "https://good.example.evil.example",
            "https://evil-good.example",
            "null",
            "",
        ):
            client = self.request(
                method="GET",
                path="/connection/websocket",
                Upgrade="websocket",
                Connection="Upgrade",
                Sec_WebSocket_Key=wire.KEY,
                Sec_WebSocket_Version="13",
                Cookie="session=b0b",
                Origin=origin,
            )
            self.assertIn(client.take().split(b" ")[1], (b"403", b"400"), origin)
            self.assertEqual(self.oni.sessions, {})
            self.reactor.advance(1)
        for origin in ("http://localhost:8000", "https://good.example"):
            client = WebSocketClient(self, cookie="session=b0b", origin=origin)
            self.assertIn("client", client.ask("connect"))
            self.reactor.advance(1)  # as fast as an address may connect


class SubscriptionTests(AuthCase):
    """T18: subscribe to everything."""

    def test_each_is_authorised(self) -> None:
        """Each subscription needs its own permission; there are no patterns."""
        client = self.come()
        token = self.token(channel="private:*")
        self.assertEqual(self.code(client, "subscribe", channel="private:a", token=token), DENIED)
        for channel in ("private:*", "private:", "private:#", "*", "**"):
            self.code(client, "subscribe", channel=channel, token=self.token(channel=channel))
        self.successResultOf(self.oni.act("publish", channel="private:a", data=1))
        self.successResultOf(self.oni.act("publish", channel="chat", data=1))
        self.assertEqual([m for m in client.messages() if m], [])

    def test_limit(self) -> None:
        """The 129th is answered with an error; the connection, and what it heard, stay."""
        client = self.come(channels=["kept:by_server"])
        for number in range(127):
            self.assertEqual(self.code(client, "subscribe", channel=f"kept:{number}"), 0)
            self.reactor.advance(0.05)  # as fast as commands may come
        self.assertEqual(self.code(client, "subscribe", channel="kept:more"), LIMIT)
        self.successResultOf(self.oni.act("publish", channel="kept:7", data=1))
        self.assertEqual([m["push"]["channel"] for m in client.messages()], ["kept:7"])


class RevokedTests(AuthCase):
    """T19: a permission ends while its user is connected."""

    def test_disconnect(self) -> None:
        """A user is put out at once, by the application or the HTTP API, for good."""
        for way in ("oni", "api"):
            client, other = self.come("bob"), self.come("alice")
            if way == "oni":
                self.successResultOf(self.oni.disconnect("bob"))
            else:
                self.http('{"user": "bob"}', path="/api/disconnect", X_API_Key=self.key)
            self.assertEqual(wire.close_of(client.take()), (3503, "force disconnect"))
            self.assertIsNone(wire.close_of(other.take()))

    def test_unsubscribe(self) -> None:
        """A user is taken off one channel at once."""
        client = self.come("bob")
        client.ask("subscribe", channel="kept:a")
        self.successResultOf(self.oni.unsubscribe("bob", "kept:a"))
        self.successResultOf(self.oni.act("publish", channel="kept:a", data=1))
        (push,) = client.messages()
        self.assertEqual(push["push"]["unsubscribe"]["code"], 2000)

    @property
    def key(self) -> str:
        """The HTTP API's key."""
        return str(self.settings.api.key)


class PublishTests(AuthCase):
    """T20: publish where others read."""

    def test_off_by_default(self) -> None:
        """Without a word in the settings nobody may publish, subscribe or connect."""
        rules = ChannelRules()
        self.assertIs(rules.publish, False)
        self.assertIs(rules.subscribe, False)
        self.assertFalse(Settings().auth.anonymous)
        self.assertFalse(Settings().auth.proves_tokens)
        client = self.come()
        self.assertEqual(self.code(client, "publish", channel="news:a", data=1), DENIED)
        data = {"channel": "news:a", "data": 1}
        self.assertEqual(self.code(client, "rpc", method="oni.publish", data=data), DENIED)


class PositionTests(AuthCase):
    """T26: a position that is forged, or from elsewhere."""

    def test_no_wrong_delivery(self) -> None:
        """No such position brings anything; the client is told that it was not recovered."""
        for number in range(5):
            for channel in ("kept:a", "private:a"):
                done = self.oni.act("publish", channel=channel, data=f"{channel} {number}")
                self.successResultOf(done)
        mine, other = self.top("kept:a").epoch, self.top("private:a").epoch
        self.assertNotEqual(mine, other)
        for epoch, offset in (
            (other, 2),
            (mine + "x", 2),
            (mine.swapcase(), 2),
            ("", 2),
            (mine, 6),
            (mine, 2**63),
        ):
            client = self.come()
            told: Any = client.ask(
                "subscribe", channel="kept:a", recover=True, epoch=epoch, offset=offset
            )
            self.assertTrue(told["was_recovering"])
            self.assertNotIn("recovered", told, (epoch, offset))
            self.assertNotIn("publications", told)
            self.assertEqual((told["epoch"], told["offset"]), (mine, 5))
            self.assertEqual([m for m in client.messages() if m], [])
            client.vanish()
            self.reactor.advance(0)

    def test_no_way_around_a_permission(self) -> None:
        """With a position nobody reads what nobody may subscribe to."""
        self.successResultOf(self.oni.act("publish", channel="private:a", data=1))
        client = self.come()
        position = {"recover": True, "epoch": self.top("private:a").epoch, "offset": 0}
        code = self.code(client, "subscribe", channel="private:a", **position)
        self.assertEqual(code, DENIED)
        self.assertEqual(self.code(client, "history", channel="private:a", limit=10), DENIED)
