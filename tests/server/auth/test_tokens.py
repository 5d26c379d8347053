"""What a token says, on a clock."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server._grants import Grant
from oni.server.auth import make_token
from oni.server.auth._jwt import BadTokenError, load_secret, sign
from oni.server.auth._settings import AuthSettings
from oni.server.auth._tokens import ExpiredTokenError, Tokens
from tests.server.auth.signing import SECRET

NOW = 1_700_000_000.0


class TokensCase(SynchronousTestCase):
    """A clock, and tokens that were made on it."""

    settings = AuthSettings(hmac_secret=SECRET)

    def setUp(self) -> None:
        """Begin at a time of day."""
        self.clock = Clock()
        self.clock.advance(NOW)
        self.tokens = Tokens(self.settings, [load_secret(SECRET)], self.clock.seconds)

    def make(self, user: str = "bob", **claims: Any) -> str:
        """Make a token now."""
        return make_token(SECRET, user, now=self.clock.seconds(), **claims)

    def refused(self, **claims: Any) -> str:
        """Expect that a token is refused for good; give the reason."""
        error = self.assertRaises(BadTokenError, self.tokens.identity, self.make(**claims))
        self.assertNotIsInstance(error, ExpiredTokenError)
        return str(error)


class ConnectionTokenTests(TokensCase):
    """Tests of tokens to connect with."""

    def test_claims(self) -> None:
        """It says who somebody is, and what comes with the connection."""
        found = self.tokens.identity(
            self.make(
                ttl=60,
                info={"name": "Bob"},
                channels=["news", "a"],
                subs={"a": {"info": 1, "data": {"x": [2]}, "override": {"presence": None}}},
                meta={"tenant": 7},
            )
        )
        self.assertEqual((found.user, found.meta), ("bob", {"tenant": 7}))
        self.assertEqual(found.grant.info, {"name": "Bob"})
        self.assertEqual(found.grant.ttl, 60)
        self.assertEqual(found.grant.subs, {"news": Grant(), "a": Grant(info=1, data={"x": [2]})})

    def test_little(self) -> None:
        """All it must say is nothing: then it is for nobody, and for ever."""
        found = self.tokens.identity(self.make("", ttl=None))
        self.assertEqual((found.user, found.grant.ttl), ("", None))

    def test_unseen(self) -> None:
        """It may keep the client out of a channel's presence."""
        subs = {"a": {"override": {"presence": {"value": False}}}}
        self.assertFalse(self.tokens.identity(self.make(subs=subs)).grant.subs["a"].is_seen)

    def test_base64(self) -> None:
        """JSON may come as base64, as Centrifugo's tokens have it; what is none is refused."""
        encoded = base64.b64encode(b'{"a":1}').decode()
        found = self.tokens.identity(self.make(b64info=encoded, subs={"x": {"b64data": encoded}}))
        self.assertEqual(found.grant.info, {"a": 1})
        self.assertEqual(found.grant.subs["x"].data, {"a": 1})
        for text in ("!", "!e30=", "AAAA", base64.b64encode(b"[" * 99).decode()):
            self.refused(b64info=text)

    def test_wrong_types(self) -> None:
        """A claim of another type is refused, with its name."""
        for name, value in (
            ("exp", "soon"),
            ("exp", True),
            ("exp", -1),
            ("exp", 1e300),
            ("nbf", []),
            ("iat", {}),
            ("sub", 7),
            ("channels", "news"),
            ("channels", [7]),
            ("subs", ["a"]),
            ("meta", "x"),
            ("aud", 7),
        ):
            token = sign(json.dumps({"sub": "bob", name: value}).encode(), SECRET, "HS256")
            error = self.assertRaises(BadTokenError, self.tokens.identity, token)
            self.assertIn(name, str(error))

    def test_channels_that_cannot_be(self) -> None:
        """A channel with a name that no channel has makes the token a wrong one."""
        for name in ("", "a b", "a\n", "x" * 256, "chat:inbox#zo\xeb"):
            self.assertIn("channel name", self.refused(channels=["news", name]))
            self.assertIn("channel name", self.refused(subs={name: {}}))

    def test_expires(self) -> None:
        """It is taken until it expires, and for the leeway longer; then another one is wanted."""
        token = self.make(ttl=60)
        self.clock.advance(59)
        self.assertEqual(self.tokens.identity(token).grant.ttl, 1)
        self.clock.advance(5.5)
        self.assertEqual(self.tokens.identity(token).grant.ttl, 0)
        self.clock.advance(0.5)
        self.assertRaises(ExpiredTokenError, self.tokens.identity, token)

    def test_not_yet(self) -> None:
        """Before its time, but for the leeway, it is refused for good."""
        for name in ("nbf", "iat"):
            self.tokens.identity(self.make(**{name: NOW + 5}))
            self.assertIn("not valid yet", self.refused(**{name: NOW + 5.1}))

    def test_expire_at(self) -> None:
        """The connection may end at another time than the token."""
        for expire_at, ttl in ((NOW + 600, 600), (NOW + 5, 5), (0, None)):
            token = self.make(ttl=60, expire_at=expire_at)
            self.assertEqual(self.tokens.identity(token).grant.ttl, ttl)
        token = self.make(ttl=60, expire_at=NOW - 5)
        self.assertRaises(ExpiredTokenError, self.tokens.identity, token)
        # The token itself expires all the same.
        token = self.make(ttl=60, expire_at=0)
        self.clock.advance(66)
        self.assertRaises(ExpiredTokenError, self.tokens.identity, token)

    def test_for_ages(self) -> None:
        """A time that clients could not count with is cut down to one that they can."""
        self.assertEqual(self.tokens.identity(self.make(exp=2**52)).grant.ttl, 2**31 - 1)

    def test_subscription_token(self) -> None:
        """A subscription token lets nobody connect: it proves less."""
        self.assertIn("subscription", self.refused(channel="news"))
        self.assertIn("subscription", self.refused(channel=""))

    def test_foreign_audience(self) -> None:
        """A token that is meant for somebody is not for whoever has no name (RFC 7519, 4.1.3)."""
        self.assertIn("somebody else", self.refused(aud="them"))
        self.assertIn("somebody else", self.refused(aud=["them", "others"]))


class IssuerTests(TokensCase):
    """Tests of who signs, and for whom."""

    settings = AuthSettings(hmac_secret=SECRET, issuer="shop", audience="oni")

    def test_right(self) -> None:
        """Both are as set; of several audiences, one is."""
        for audience in ("oni", ["them", "oni"]):
            self.tokens.identity(self.make(iss="shop", aud=audience))

    def test_wrong(self) -> None:
        """Missing or other ones are refused, in both kinds of tokens."""
        for claims in (
            {"iss": "shop"},
            {"aud": "oni"},
            {"iss": "shop2", "aud": "oni"},
            {"iss": "shop", "aud": "on"},
            {"iss": "shop", "aud": []},
        ):
            self.refused(**claims)
            token = self.make(channel="a", **claims)
            self.assertRaises(BadTokenError, self.tokens.permission, token, "a", "bob", "c")


class SubscriptionTokenTests(TokensCase):
    """Tests of tokens to subscribe with."""

    def permission(self, user: str = "bob", **claims: Any) -> Grant:
        """Come as Bob in the session ``one`` with a token for the channel ``a``."""
        token = self.make(user, **{"channel": "a", **claims})
        return self.tokens.permission(token, "a", "bob", "one")

    def test_claims(self) -> None:
        """It gives what comes with the subscription."""
        found = self.permission(info={"x": 1}, ttl=60)
        self.assertEqual(found, Grant(info={"x": 1}, ttl=60))
        self.assertFalse(self.permission(override={"presence": {"value": False}}).is_seen)

    def test_not_for_this(self) -> None:
        """One for another channel, user or session is refused, and so is a connection token."""
        self.permission(client="one")
        for user, claims in (
            ("bob", {"channel": "A"}),
            ("bob", {"channel": "a*"}),
            ("alice", {}),
            ("", {}),
            ("bob", {"client": "two"}),
            ("bob", {"channel": None}),
        ):
            self.assertRaises(BadTokenError, self.permission, user, **claims)

    def test_expires(self) -> None:
        """It expires as others do."""
        token = self.make(channel="a", ttl=60)
        self.clock.advance(66)
        self.assertRaises(ExpiredTokenError, self.tokens.permission, token, "a", "bob", "one")
