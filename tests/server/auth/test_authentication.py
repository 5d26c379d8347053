"""Who may do what, over a whole Oni: tokens, their refresh, permissions, an application's say."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from twisted.internet.defer import Deferred

from oni.errors import Refused
from oni.server import Act, Grant, Identity
from oni.server._grants import EXPIRY_GRACE
from oni.server._settings import AuthSettings, ChannelRules
from oni.server.auth import make_token
from tests.carriers import wire
from tests.server.auth.signing import SECRET
from tests.server.house import KEPT, HouseTestCase, WebSocketClient

UNAUTHORIZED, DENIED, EXPIRED = 101, 103, 109


class AuthCase(HouseTestCase):
    """An Oni that takes tokens, and nobody without one."""

    auth = AuthSettings(hmac_secret=SECRET)
    namespaces: ClassVar = {
        "members": ChannelRules(subscribe="authenticated", publish="authenticated"),
        "private": msgspec.structs.replace(KEPT, subscribe="token", publish="subscriber"),
        "both": ChannelRules(subscribe=("authenticated", "token"), publish=True),
        "talk": ChannelRules(subscribe=True, publish=("authenticated", "subscriber")),
        "open": msgspec.structs.replace(KEPT, read_history=True, read_presence=True),
        "shut": msgspec.structs.replace(KEPT, read_history=False, read_presence=False),
        "past": msgspec.structs.replace(KEPT, read_history=True, read_presence=False),
    }

    def token(self, user: str = "bob", **claims: Any) -> str:
        """Make a token now."""
        return make_token(SECRET, user, now=self.now(), **claims)

    def come(self, user: str = "bob", **claims: Any) -> WebSocketClient:
        """Connect with a token."""
        client = self.websocket()
        self.told = client.ask("connect", token=self.token(user, **claims))
        self.assertIn("client", self.told)
        return client

    def refused(self, **connect: Any) -> tuple[int, tuple[int, str] | None]:
        """Connect in vain; give the error's code, and how the connection is closed."""
        client = self.websocket()
        client.command("connect", **connect)
        data = client.take()
        (reply,) = wire.messages(data)
        self.assertEqual(self.oni.sessions, {})
        return reply["error"]["code"], wire.close_of(data)

    def code(self, client: WebSocketClient, method: str, /, **members: Any) -> int:
        """Do something; give the error's code, 0 where there is none."""
        return int(client.ask(method, **members).get("code", 0))


class ConnectTests(AuthCase):
    """Tests of who may connect."""

    def test_token(self) -> None:
        """Who has a token is let in as its user, with what belongs to it."""
        heard: list[Any] = []
        self.on("before", lambda act: heard.append((act.user, act.meta, act.grant.info)))
        self.come(info={"name": "Bob"}, meta={"tenant": 7}, ttl=60, channels=["kept:a"])
        self.assertEqual((self.told["expires"], self.told["ttl"]), (True, 60))
        self.assertEqual(list(self.told["subs"]), ["kept:a"])
        (session,) = self.oni.sessions.values()
        self.assertEqual((session.user, session.info), ("bob", {"name": "Bob"}))
        self.assertEqual(heard, [("bob", {"tenant": 7}, {"name": "Bob"})])

    def test_handlers_are_matched_by_user(self) -> None:
        """The user is known from the first handler on, also to match specs."""
        heard: list[str] = []
        self.on("before", lambda act: heard.append(act.user), action="connect", user="bob")
        self.come("alice")
        self.come("bob")
        self.assertEqual(heard, ["bob"])

    def test_meta(self) -> None:
        """Later acts of the session have what the token told of it; nobody is told else."""
        client = self.come(meta={"tenant": 7})
        heard: list[Any] = []
        self.on("before", lambda act: heard.append(act.meta))
        client.ask("subscribe", channel="kept:a")
        self.assertEqual(heard, [{"tenant": 7}])
        self.assertNotIn("tenant", str(client.ask("presence", channel="kept:a")))

    def test_without(self) -> None:
        """Without a token nobody is let in, and shall not come back."""
        self.assertEqual(self.refused(), (UNAUTHORIZED, (3500, "invalid token")))

    def test_wrong(self) -> None:
        """A wrong token lets nobody in, for good."""
        for token in ("x", make_token(SECRET[::-1]), self.token(channel="news"), self.token("")):
            self.assertEqual(
                self.refused(token=token), (UNAUTHORIZED, (3500, "invalid token")), token
            )

    def test_expired(self) -> None:
        """An expired one makes clients come back with another one."""
        self.assertEqual(
            self.refused(token=self.token(ttl=-6)), (EXPIRED, (3005, "connection expired"))
        )

    def test_refusals_are_heard(self) -> None:
        """Handlers in after hear of each refusal, as they do of others."""
        heard: list[Any] = []
        self.on("after", lambda act: heard.append((act.action, act.refusal.code)))
        self.refused(token="x")
        self.assertEqual(heard, [("connect", UNAUTHORIZED)])

    def test_handlers_come_later(self) -> None:
        """No handler of the application is called for a token that proves nothing."""
        heard: list[Any] = []
        self.on("before", heard.append)
        self.refused(token="x")
        self.assertEqual(heard, [])

    def test_a_handler_refuses(self) -> None:
        """A handler may refuse whom a token lets in."""

        def banned(act: Act) -> None:
            raise Refused(1000, "banned")

        self.on("before", banned, action="connect", user="bob")
        self.assertEqual(self.refused(token=self.token()), (1000, (3507, "permission denied")))
        self.come("alice")

    def test_a_grant_lasts_no_longer(self) -> None:
        """Whatever handlers make of the grant, the connection ends with the token."""
        for ttl, expected in ((None, 60), (3600, 60), (30, 30)):
            self.on("before", _grants(ttl), times=1, action="connect")
            self.come(ttl=60)
            self.assertEqual((self.told["ttl"], self.told["data"]), (expected, "hello"))

    def test_a_slow_handler(self) -> None:
        """Time that a handler takes before the client is let in is the token's time, too."""
        waits: Deferred[None] = Deferred()
        self.on("before", lambda act: waits, action="connect")
        client = self.websocket()
        client.command("connect", token=self.token(ttl=60))
        self.reactor.advance(8)
        waits.callback(None)
        (reply,) = client.messages()
        self.assertEqual(reply["connect"]["ttl"], 52)

    def test_subs(self) -> None:
        """What a token says of a channel is told to the client, and to others."""
        client = self.come(subs={"kept:a": {"info": {"x": 1}, "data": {"y": 2}}})
        self.assertEqual(self.told["subs"]["kept:a"]["data"], {"y": 2})
        (present,) = client.ask("presence", channel="kept:a")["presence"].values()
        self.assertEqual((present["user"], present["chan_info"]), ("bob", {"x": 1}))

    def test_unseen(self) -> None:
        """Who is subscribed unseen is in no presence."""
        client = self.come(subs={"kept:a": {"override": {"presence": {"value": False}}}})
        self.assertEqual(client.ask("presence", channel="kept:a")["presence"], {})


class AnonymousTests(AuthCase):
    """Tests of an Oni that lets anonymous clients in beside those with tokens."""

    auth = AuthSettings(hmac_secret=SECRET, anonymous=True)

    def test_both(self) -> None:
        """With a token somebody, without one nobody; a wrong one is never taken for none."""
        self.come("bob")
        self.connected()
        self.assertEqual({s.user for s in self.oni.sessions.values()}, {"bob", ""})
        for session in self.oni.sessions.copy().values():
            session.connection_lost()
        self.reactor.advance(0)
        self.assertEqual(self.refused(token="x")[0], UNAUTHORIZED)

    def test_token_for_nobody(self) -> None:
        """A token may be for nobody in particular, and end."""
        self.come("", ttl=60)
        self.assertEqual(self.told["ttl"], 60)


class RefreshTests(AuthCase):
    """Tests of how a connection goes on."""

    def test_expires(self) -> None:
        """A connection that is not refreshed is closed a while after its token has expired."""
        client = self.come(ttl=60)
        self.keep_alive(client, 60 + EXPIRY_GRACE - 1)
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(2)
        self.assertEqual(wire.close_of(client.take()), (3005, "connection expired"))

    def test_refresh(self) -> None:
        """With a new token it goes on, for as long as that says."""
        client = self.come(ttl=60)
        self.keep_alive(client, 60)
        reply = client.ask("refresh", token=self.token(ttl=100))
        self.assertEqual((reply["expires"], reply["ttl"]), (True, 100))
        self.keep_alive(client, 100 + EXPIRY_GRACE - 1)
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(2)
        self.assertEqual(wire.close_of(client.take()), (3005, "connection expired"))

    def test_for_ever(self) -> None:
        """With a token that does not expire it does not end any more."""
        client = self.come(ttl=60)
        self.assertNotIn("expires", client.ask("refresh", token=self.token(ttl=None)))
        self.keep_alive(client, 600)
        self.assertIsNone(wire.close_of(client.take()))

    def test_expired_token(self) -> None:
        """With an expired one the client is told to connect again, and then gets another."""
        client = self.come(ttl=60)
        client.command("refresh", token=self.token(ttl=-6))
        data = client.take()
        self.assertEqual(wire.messages(data), [])
        self.assertEqual(wire.close_of(data), (3005, "connection expired"))

    def test_wrong_token(self) -> None:
        """A wrong one ends the connection for good; so does one for somebody else, or none."""
        for token in ("x", self.token("alice"), self.token(channel="a"), ""):
            client = self.come(ttl=60)
            client.command("refresh", token=token)
            data = client.take()
            self.assertEqual(wire.messages(data), [])
            self.assertEqual(wire.close_of(data), (3500, "invalid token"))

    def test_a_handler_refuses(self) -> None:
        """A handler may let a connection go on no longer."""

        def over(act: Act) -> None:
            raise Refused(1000, "enough")

        self.on("before", over, action="refresh", user="bob")
        self.assertEqual(self.code(self.come(), "refresh", token=self.token()), 1000)

    def test_the_application_answers(self) -> None:
        """An application's answer may make it shorter, and never longer."""
        ttls = [30.0, 600.0, None]
        self.oni.answer("refresh", lambda act: Grant(ttl=ttls.pop(0)))
        client = self.come(ttl=60)
        for expected in (30, 100, 100):
            told = client.ask("refresh", token=self.token(ttl=100))
            self.assertEqual(told["ttl"], expected)

    def test_an_answer_without_end(self) -> None:
        """A time that is no number is a fault: nothing goes on longer by it, for nobody."""
        ttls: list[Any] = [float("nan"), float("inf"), "5"]
        self.oni.answer("refresh", lambda act: Grant(ttl=ttls.pop()))
        while ttls:
            client, other = self.come(ttl=60), self.come("alice", ttl=60)
            token = self.token(ttl=None)
            self.assertEqual(self.code(client, "refresh", token=token), 100)
            self.reactor.advance(60 + EXPIRY_GRACE + 1)
            for ended in (client, other):
                self.assertEqual(wire.close_of(ended.take()), (3005, "connection expired"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError, OverflowError, TypeError)), 3)

    def keep_alive(self, client: WebSocketClient, seconds: float) -> None:
        """Let time pass, and answer pings."""
        end = self.reactor.seconds() + seconds
        while self.reactor.seconds() < end:
            self.reactor.advance(min(5, end - self.reactor.seconds()))
            client.send(wire.frame("{}"))


class SubscribeTests(AuthCase):
    """Tests of who may subscribe, and with which token."""

    keep_alive = RefreshTests.keep_alive

    def test_token(self) -> None:
        """Where a token is needed, the right one opens the channel."""
        client = self.come(ttl=None)
        token = self.token(channel="private:a", ttl=60, info={"x": 1})
        told = client.ask("subscribe", channel="private:a", token=token)
        self.assertEqual((told["expires"], told["ttl"]), (True, 60))
        (present,) = client.ask("presence", channel="private:a")["presence"].values()
        self.assertEqual(present["chan_info"], {"x": 1})

    def test_wrong(self) -> None:
        """No token, or one for another channel or user, opens nothing."""
        client = self.come()
        for token in (
            "",
            "x",
            self.token(),
            self.token(channel="private:b"),
            self.token("alice", channel="private:a"),
            self.token("", channel="private:a"),
        ):
            code = self.code(client, "subscribe", channel="private:a", token=token)
            self.assertEqual(code, DENIED, token)

    def test_expired(self) -> None:
        """With an expired one the client is told to get another one."""
        token = self.token(channel="private:a", ttl=-6)
        client = self.come()
        self.assertEqual(self.code(client, "subscribe", channel="private:a", token=token), EXPIRED)

    def test_a_token_is_always_looked_at(self) -> None:
        """Also where none is needed, a wrong one is refused; and a right one opens no more."""
        client = self.come()
        self.assertEqual(self.code(client, "subscribe", channel="kept:a", token="x"), DENIED)
        token = self.token(channel="log:a")
        self.assertEqual(self.code(client, "subscribe", channel="log:a", token=token), DENIED)
        token = self.token(channel="nowhere:a")
        self.assertEqual(self.code(client, "subscribe", channel="nowhere:a", token=token), 102)

    def test_a_grant_lasts_no_longer(self) -> None:
        """Whatever handlers make of the grant, the subscription ends with the token."""
        self.on("before", _grants(3600), action="subscribe")
        token = self.token(channel="private:a", ttl=60)
        told = self.come().ask("subscribe", channel="private:a", token=token)
        self.assertEqual((told["ttl"], told["data"]), (60, "hello"))

    def test_a_slow_handler(self) -> None:
        """Time that a handler takes before the subscription is the token's time, too."""
        waits: Deferred[None] = Deferred()
        self.on("before", lambda act: waits, action="subscribe")
        client = self.come(ttl=None)
        client.command(
            "subscribe", channel="private:a", token=self.token(channel="private:a", ttl=60)
        )
        self.keep_alive(client, 40)
        client.take()
        waits.callback(None)
        (reply,) = client.messages()
        self.assertEqual(reply["subscribe"]["ttl"], 20)

    def test_a_too_slow_handler(self) -> None:
        """What would be over already ends at once, so that the client gets another token."""
        waits: Deferred[None] = Deferred()
        self.on("before", lambda act: waits, action="subscribe")
        client = self.come(ttl=None)
        token = self.token(channel="private:a", ttl=60)
        client.command("subscribe", channel="private:a", token=token)
        self.keep_alive(client, 60 + EXPIRY_GRACE + 1)
        client.take()
        waits.callback(None)
        reply, push = client.messages()
        self.assertIn("subscribe", reply)
        self.assertEqual(push["push"]["unsubscribe"]["code"], 2501)

    def test_a_slow_answer(self) -> None:
        """So is the time that it takes to answer a refresh."""
        waits: Deferred[Grant] = Deferred()
        self.oni.answer("sub_refresh", lambda act: waits)
        client = self.subscribed()
        client.command(
            "sub_refresh", channel="private:a", token=self.token(channel="private:a", ttl=60)
        )
        self.keep_alive(client, 40)
        client.take()
        waits.callback(Grant())
        (reply,) = client.messages()
        self.assertEqual(reply["sub_refresh"]["ttl"], 20)

    def subscribed(self) -> WebSocketClient:
        """Subscribe with a token for a minute."""
        client = self.come(ttl=None)
        token = self.token(channel="private:a", ttl=60)
        client.ask("subscribe", channel="private:a", token=token)
        return client

    def test_ends(self) -> None:
        """A subscription that is not refreshed ends a while after its token has expired."""
        client = self.subscribed()
        self.keep_alive(client, 60 + EXPIRY_GRACE + 1)
        pushes = [message["push"] for message in client.messages() if "push" in message]
        told = {"code": 2501, "reason": "subscription expired"}
        self.assertEqual(pushes, [{"channel": "private:a", "unsubscribe": told}])
        self.successResultOf(self.oni.act("publish", channel="private:a", data=1))
        self.assertEqual(client.messages(), [])

    def test_refresh(self) -> None:
        """With a new token it goes on."""
        client = self.subscribed()
        self.keep_alive(client, 60)
        token = self.token(channel="private:a", ttl=100)
        told = client.ask("sub_refresh", channel="private:a", token=token)
        self.assertEqual(told, {"expires": True, "ttl": 100})
        self.keep_alive(client, 100 + EXPIRY_GRACE - 1)
        self.assertFalse([m for m in client.messages() if m])
        self.keep_alive(client, 2)
        self.assertTrue([m for m in client.messages() if m])

    def test_expired_refresh(self) -> None:
        """With an expired one it ends so that the client subscribes again: then it gets another.

        The reply comes after that. Alone it would make clients give up.
        """
        client = self.subscribed()
        token = self.token(channel="private:a", ttl=-6)
        client.command("sub_refresh", channel="private:a", token=token)
        push, reply = client.messages()
        self.assertEqual(push["push"]["unsubscribe"]["code"], 2501)
        self.assertEqual(reply["error"]["code"], EXPIRED)
        (session,) = self.oni.sessions.values()
        self.assertNotIn("private:a", session.subscriptions)

    def test_wrong_refresh(self) -> None:
        """With a wrong one, or none, it does not go on: it ends when the first token says so."""
        self.oni.answer("sub_refresh", lambda act: Grant())
        client = self.subscribed()
        for token in ("", "x", self.token("alice", channel="private:a"), self.token()):
            code = self.code(client, "sub_refresh", channel="private:a", token=token)
            self.assertEqual(code, DENIED)
        self.keep_alive(client, 60 + EXPIRY_GRACE + 1)
        self.assertTrue([m for m in client.messages() if m.get("push")])

    def test_refresh_of_the_server_s(self) -> None:
        """What the server has made, where clients may not subscribe, the application prolongs."""
        self.oni.answer("sub_refresh", lambda act: Grant(ttl=90))
        client = self.come()
        self.successResultOf(self.oni.subscribe("bob", "log:a"))
        client.messages()
        told = client.ask("sub_refresh", channel="log:a", token="")
        self.assertEqual(told["ttl"], 90)

    def test_an_answer_without_end(self) -> None:
        """A time that is no number is a fault, and the subscription ends when it did before."""
        self.oni.answer("sub_refresh", lambda act: Grant(ttl=float("nan")))
        client = self.subscribed()
        token = self.token(channel="private:a", ttl=None)
        self.assertEqual(self.code(client, "sub_refresh", channel="private:a", token=token), 100)
        self.keep_alive(client, 60 + EXPIRY_GRACE + 1)
        self.assertTrue([m for m in client.messages() if m.get("push")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_refresh_elsewhere(self) -> None:
        """Where there is no subscription, a token makes none."""
        token = self.token(channel="private:b")
        client = self.subscribed()
        self.assertEqual(
            self.code(client, "sub_refresh", channel="private:b", token=token), DENIED
        )


class PermissionTests(AuthCase):
    """Tests of what the settings let the anonymous, the authenticated and the subscriber do."""

    auth = AuthSettings(hmac_secret=SECRET, anonymous=True)

    def test_authenticated(self) -> None:
        """Where users must be known, the anonymous may neither subscribe nor publish."""
        anonymous, bob = self.connected(), self.come()
        for method in ("subscribe", "publish"):
            for client, code in ((anonymous, DENIED), (bob, 0)):
                self.assertEqual(self.code(client, method, channel="members:a", data=1), code)

    def test_subscriber(self) -> None:
        """Where publishers must be subscribers, nobody else publishes, and no longer than that."""
        client = self.connected()
        self.assertEqual(self.code(client, "publish", channel="private:a", data=1), DENIED)
        token = self.token("", channel="private:a")
        self.assertEqual(self.code(client, "subscribe", channel="private:a", token=token), 0)
        self.assertEqual(self.code(client, "publish", channel="private:a", data=1), 0)
        client.ask("unsubscribe", channel="private:a")
        self.assertEqual(self.code(client, "publish", channel="private:a", data=1), DENIED)

    def test_all_of_a_list(self) -> None:
        """Of a list all must hold."""
        anonymous, bob = self.connected(), self.come()
        self.assertEqual(self.code(bob, "publish", channel="talk:a", data=1), DENIED)
        for client, code in ((anonymous, DENIED), (bob, 0)):
            client.ask("subscribe", channel="talk:a")
            self.assertEqual(self.code(client, "publish", channel="talk:a", data=1), code)
        for user, client, code in (("", anonymous, DENIED), ("bob", bob, 0)):
            token = self.token(user, channel="both:a")
            found = self.code(client, "subscribe", channel="both:a", token=token)
            self.assertEqual(found, code)
        self.assertEqual(self.code(self.come(), "subscribe", channel="both:a"), DENIED)

    def test_rpc(self) -> None:
        """The rpc that publishes is a publish: the same permissions hold."""
        data = {"channel": "members:a", "data": 1}
        for client, code in ((self.connected(), DENIED), (self.come(), 0)):
            self.assertEqual(self.code(client, "rpc", method="oni.publish", data=data), code)

    def test_what_is_kept(self) -> None:
        """History and presence are for subscribers, for everybody or for nobody, as set."""
        client = self.connected()
        for method in ("history", "presence", "presence_stats"):
            for channel, before, after in (
                ("kept:a", DENIED, 0),
                ("open:a", 0, 0),
                ("shut:a", DENIED, DENIED),
            ):
                self.assertEqual(self.code(client, method, channel=channel), before)
                client.ask("subscribe", channel=channel)
                self.assertEqual(self.code(client, method, channel=channel), after)
                client.ask("unsubscribe", channel=channel)
        self.assertEqual(self.code(client, "history", channel="past:a"), 0)
        self.assertEqual(self.code(client, "presence", channel="past:a"), DENIED)

    def test_personal(self) -> None:
        """A personal channel is for its users only, whatever one does there."""
        bob, alice, anonymous = self.come("bob"), self.come("alice"), self.connected()
        token = self.token("alice", channel="open:inbox#bob")
        for client, channel, code in (
            (bob, "open:inbox#bob", 0),
            (bob, "open:talk#alice,bob", 0),
            (alice, "open:talk#alice,bob", 0),
            (alice, "open:inbox#bob", DENIED),
            (anonymous, "open:inbox#bob", DENIED),
            (anonymous, "open:inbox#", DENIED),
            (bob, "members:inbox#bob", 0),
            (alice, "members:inbox#bob", DENIED),
        ):
            for method in ("subscribe", "publish"):
                found = self.code(client, method, channel=channel, data=1)
                self.assertEqual(found, code, (channel, method))
            if channel.startswith("open:"):
                for method in ("history", "presence", "presence_stats"):
                    self.assertEqual(self.code(client, method, channel=channel), code)
        self.assertEqual(
            self.code(alice, "subscribe", channel="open:inbox#bob", token=token), DENIED
        )

    def test_the_server_may(self) -> None:
        """The application and the HTTP API may do all this."""
        for channel in ("members:a", "private:a", "shut:a", "open:inbox#bob"):
            self.successResultOf(self.oni.act("publish", channel=channel, data=1))
        bob = self.come("bob")
        self.successResultOf(self.oni.subscribe("bob", "private:a"))
        self.assertTrue(bob.messages())

    def test_a_handler_refuses(self) -> None:
        """The settings' check comes first; then handlers may refuse what it allows."""
        heard: list[str] = []

        def check(act: Act) -> None:
            heard.append(act.channel)
            if act.channel == "members:secret":
                raise Refused(1000, "secret")

        self.on("before", check, action="subscribe")
        self.assertEqual(self.code(self.connected(), "subscribe", channel="members:a"), DENIED)
        self.assertEqual(self.code(self.come(), "subscribe", channel="members:secret"), 1000)
        self.assertEqual(heard, ["members:secret"])


class ApplicationTests(AuthCase):
    """Tests of ``oni.authenticate``: an application says who somebody is."""

    def test_cookie(self) -> None:
        """A cookie may say it, where the request comes from a page that was let in."""
        self.oni.authenticate(_by_cookie)
        for origin, expected in (("http://localhost:8000", "bob"), (None, None)):
            headers = {} if origin is None else {"origin": origin}
            client = WebSocketClient(self, cookie="session=b0b", **headers)
            told = client.ask("connect")
            self.assertEqual(told.get("code"), None if expected else UNAUTHORIZED)
            users = [session.user for session in self.oni.sessions.values()]
            self.assertEqual(users, [expected] if expected else [])
            client.vanish()
            self.reactor.advance(0)

    def test_the_request_is_forgotten(self) -> None:
        """Who is connected costs no memory for its handshake; without a question nobody does."""
        client = self.websocket()
        (session,) = self.oni.sessions.values()
        self.assertIsNone(session.handshake)
        self.assertEqual(dict(session.carrier.handshake.headers), {})
        client.vanish()
        self.reactor.advance(0)
        self.oni.authenticate(_by_cookie)
        client = WebSocketClient(self, cookie="session=b0b", origin="http://localhost:8000")
        (session,) = self.oni.sessions.values()
        self.assertIsNotNone(session.handshake)
        self.assertIn("client", client.ask("connect"))
        self.assertIsNone(session.handshake)

    def test_tokens_still_count(self) -> None:
        """Whom the application does not know may still have a token; or is nobody."""
        self.oni.authenticate(_by_cookie)
        self.come("alice")
        for session in self.oni.sessions.copy().values():
            session.connection_lost()
        self.reactor.advance(0)
        self.assertEqual(self.refused()[0], UNAUTHORIZED)

    def test_order(self) -> None:
        """Functions are asked in their order, until one knows the client."""
        asked: list[int] = []

        def ask(number: int, answer: Identity | None) -> Any:
            return lambda act: asked.append(number) or answer

        self.oni.authenticate(ask(1, None))
        self.oni.authenticate(ask(2, Identity(user="carol", meta=7)))
        self.oni.authenticate(ask(3, Identity(user="dave")))
        self.assertIn("client", self.websocket().ask("connect", token="anything"))
        self.assertEqual(asked, [1, 2])
        (session,) = self.oni.sessions.values()
        self.assertEqual((session.user, session.meta), ("carol", 7))

    def test_slow(self) -> None:
        """An answer may come later; the client's commands wait, and handlers know the user."""
        answer: Deferred[Identity] = Deferred()
        heard: list[str] = []
        self.oni.authenticate(lambda act: answer)
        self.on("before", lambda act: heard.append(act.user), user="carol")
        client = self.websocket()
        client.send(
            wire.frame('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"members:a"}}')
        )
        self.assertEqual(client.messages(), [])
        self.assertEqual(heard, [])
        answer.callback(Identity(user="carol"))
        self.assertEqual([message["id"] for message in client.messages()], [1, 2])
        self.assertEqual(heard, ["carol", "carol"])

    def test_answered_within_another_act(self) -> None:
        """The connect is an event of its own, also where another one's handler says who it is."""
        answer: Deferred[Identity] = Deferred()
        self.oni.authenticate(lambda act: answer if act.token == "slow" else None)
        slow = self.websocket()
        slow.command("connect", token="slow")
        gate: Deferred[None] = Deferred()

        def say(act: Act) -> Deferred[None]:
            answer.callback(Identity(user="carol"))
            return gate

        self.on("before", say, action="publish")
        self.on("before", lambda act: gate, action="connect", user="carol")
        self.come("bob").command("publish", channel="chat", data=1)
        states = {e.event.action: e.state for e in self.oni.dispatcher.pending()}
        self.assertEqual(states, {"publish": "running", "connect": "running"})
        gate.callback(None)
        (reply,) = slow.messages()
        self.assertIn("connect", reply)

    def test_gone_meanwhile(self) -> None:
        """Where the client goes, the question is given up."""
        cancelled: list[bool] = []
        answer: Deferred[Identity] = Deferred(lambda _: cancelled.append(True))
        self.oni.authenticate(lambda act: answer)
        client = self.websocket()
        client.command("connect")
        client.vanish()
        self.reactor.advance(0)
        self.assertEqual((cancelled, self.oni.sessions), ([True], {}))

    def test_too_slow(self) -> None:
        """A question that takes too long ends with the time to connect."""
        self.oni.authenticate(lambda act: Deferred())
        client = self.websocket()
        client.command("connect")
        self.reactor.advance(10.1)
        self.assertEqual(wire.close_of(client.take()), (3502, "stale"))

    def test_refused(self) -> None:
        """A refusal is the reply; a fault is in the log, and the client may come back."""

        def no(act: Act) -> None:
            raise Refused(1000, "not you")

        def fault(act: Act) -> None:
            raise RuntimeError("broken")

        self.oni.authenticate(no)
        self.assertEqual(self.refused(), (1000, (3507, "permission denied")))
        self.oni._authentication._functions[:] = [fault]
        self.assertEqual(self.refused(), (100, (3000, "connection closed")))
        for wrong in ("bob", Identity(user=5)):  # type: ignore[arg-type]
            self.oni._authentication._functions[:] = [lambda act, wrong=wrong: wrong]
            self.assertEqual(self.refused(), (100, (3000, "connection closed")))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)

    def test_refresh(self) -> None:
        """It is asked again when the client refreshes, and bounds how long that lasts."""

        def by_ticket(act: Act) -> Identity | None:
            return Identity(user=act.token, grant=Grant(ttl=60)) if act.token else None

        self.oni.authenticate(by_ticket)
        client = self.websocket()
        self.assertEqual(client.ask("connect", token="erin")["ttl"], 60)
        self.assertEqual(client.ask("refresh", token="erin")["ttl"], 60)
        client.command("refresh", token="mallory")
        self.assertEqual(wire.close_of(client.take()), (3500, "invalid token"))

    def test_without_a_token_to_renew(self) -> None:
        """Who came with no token cannot renew it: it is not asked to, and ends in time."""
        self.oni.authenticate(lambda act: Identity(user="bob", grant=Grant(ttl=60)))
        client = self.websocket()
        self.assertNotIn("expires", client.ask("connect"))
        RefreshTests.keep_alive(self, client, 59)  # type: ignore[arg-type]
        self.assertIsNone(wire.close_of(client.take()))
        self.reactor.advance(2)
        self.assertEqual(wire.close_of(client.take()), (3005, "connection expired"))

    def test_what_cannot_be_asked(self) -> None:
        """Only what can be called can be asked."""
        self.assertRaises(TypeError, self.oni.authenticate, "bob")


class EventStreamTests(AuthCase):
    """Tests of tokens with server-sent events."""

    def status(self, path: str, **headers: str) -> int:
        """Ask for a channel; give the status."""
        client = self.request(method="GET", path=f"/connection/sse/{path}", **headers)
        return int(client.take().split(b" ")[1])

    def test_tokens(self) -> None:
        """Tokens may come in a header, or in the address."""
        token, other = self.token(), self.token(channel="private:a")
        for path, headers, status in (
            ("kept:a", {}, 401),
            ("kept:a?token=x", {}, 401),
            (f"kept:a?token={self.token(ttl=-6)}", {}, 401),
            (f"kept:a?token={token}", {}, 200),
            ("kept:a", {"Authorization": f"Bearer {token}"}, 200),
            ("kept:a", {"Authorization": f"bearer {token}"}, 200),
            ("kept:a", {"Authorization": f"Basic {token}"}, 401),
            (f"private:a?token={token}", {}, 403),
            (f"private:a?token={token}&subscription_token=x", {}, 403),
            (f"private:a?token={token}&subscription_token={other}", {}, 200),
        ):
            self.assertEqual(self.status(path, **headers), status, path)

    def test_ends(self) -> None:
        """A response ends a while after its token has expired."""
        path = f"/connection/sse/kept:a?token={self.token(ttl=60)}"
        client = self.request(method="GET", path=path)
        self.reactor.pump([1.0] * int(60 + EXPIRY_GRACE - 1))
        self.assertEqual(len(self.oni.sessions), 1)
        self.reactor.pump([1.0] * 2)
        self.assertEqual(self.oni.sessions, {})
        self.assertTrue(client.take().endswith(b"0\r\n\r\n"))

    def test_cookie(self) -> None:
        """A cookie counts where the browser says that the page is of the same origin."""
        self.oni.authenticate(_by_cookie)
        cookie = {"Cookie": "session=b0b"}
        self.assertEqual(self.status("kept:a", **cookie), 401)
        self.assertEqual(self.status("kept:a", Sec_Fetch_Site="cross-site", **cookie), 401)
        self.assertEqual(self.status("kept:a", Sec_Fetch_Site="same-origin", **cookie), 200)
        self.assertEqual(self.status("kept:a", Origin="http://localhost:8000", **cookie), 200)
        self.assertEqual(self.status("kept:a", Origin="http://evil.example", **cookie), 403)


def _grants(ttl: float | None) -> Any:
    """Make a handler that gives a grant of its own."""

    def grant(act: Act) -> None:
        act.grant = Grant(data="hello", ttl=ttl)

    return grant


def _by_cookie(act: Act) -> Identity | None:
    """Know Bob by his cookie."""
    if act.handshake is not None and act.handshake.cookies.get("session") == "b0b":
        return Identity(user="bob")
    return None
