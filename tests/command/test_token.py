"""``oni token``, and the tokens that other commands make for themselves."""

from __future__ import annotations

import time
from typing import Any

import jwt

from oni.command._token import secret_of
from oni.server import load_settings
from tests.command.cases import SECRET, CommandTestCase


def claims(token: str, key: str = SECRET, **options: Any) -> dict[str, Any]:
    """Read a token's claims, and check its signature."""
    return dict(jwt.decode(token.strip(), key, algorithms=["HS256"], **options))


class Token(CommandTestCase):
    """Tokens on standard output."""

    def test_connection_token(self) -> None:
        """It names the user, and expires in an hour."""
        ended = self.oni("token", "-u", "bob", "-c", self.config)
        self.assertEqual((0, ""), (ended.code, ended.err))
        found = claims(ended.out)
        self.assertEqual("bob", found["sub"])
        self.assertApproximates(time.time() + 3600, found["exp"], 60)
        self.assertEqual({"sub", "iat", "exp"}, set(found))

    def test_options(self) -> None:
        """What is said is in it."""
        ended = self.oni(
            *("token", "-u", "bob", "-c", self.config, "--ttl", "5m", "--info", '{"a": 1}'),
            *("--subscribe", "x", "--subscribe", "y"),
        )
        found = claims(ended.out)
        self.assertEqual(({"a": 1}, ["x", "y"]), (found["info"], found["channels"]))
        self.assertApproximates(time.time() + 300, found["exp"], 60)

    def test_subscription_token(self) -> None:
        """With a channel it is a subscription's."""
        ended = self.oni("token", "-u", "bob", "-c", self.config, "--channel", "x")
        self.assertEqual("x", claims(ended.out)["channel"])
        wrong = self.oni(
            "token", "-u", "b", "-c", self.config, "--channel", "x", "--subscribe", "y"
        )
        self.assert_line(wrong, 2, "--subscribe")

    def test_issuer_and_audience(self) -> None:
        """The claims that the daemon demands come from its settings."""
        more = f'[auth]\nhmac_secret = "{SECRET}"\nissuer = "me"\naudience = "oni"\n'
        ended = self.oni("token", "-u", "bob", "-c", self.file("more.toml", more))
        self.assertEqual("me", claims(ended.out, audience="oni", issuer="me")["iss"])

    def test_other_places_for_the_secret(self) -> None:
        """A file, standard input and the environment may hold it; nothing else may."""
        path = self.file("secret", f"{SECRET}\n")
        for arguments, env, data in (
            (["--secret-file", path], {}, None),
            (["--secret-file", "-"], {}, f"{SECRET}\n"),
            ([], {"ONI_HMAC_SECRET": SECRET}, None),
        ):
            ended = self.oni("token", "-u", "bob", *arguments, env=env, data=data)
            self.assertEqual("bob", claims(ended.out)["sub"])
        self.assert_line(self.oni("token", "-u", "bob"), 2, "ONI_HMAC_SECRET")

    def test_secret_file_of_the_settings(self) -> None:
        """A secret that the settings keep in a file of its own is found beside them."""
        self.file("hmac", f"{SECRET}\n")
        path = self.file("apart.toml", '[auth]\nhmac_secret_file = "hmac"\n')
        self.assertEqual(SECRET, secret_of(load_settings(path)))
        self.assertEqual("bob", claims(self.oni("token", "-u", "bob", "-c", path).out)["sub"])

    def test_private_key(self) -> None:
        """A private key signs with its own algorithm."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = self.file("key.pem", pem.decode())
        ended = self.oni(
            *("token", "-u", "bob", "--private-key", path, "--algorithm", "ES256", "--kid", "k1")
        )
        found = jwt.decode(ended.out.strip(), key.public_key(), algorithms=["ES256"])
        self.assertEqual("bob", found["sub"])
        self.assertEqual("k1", jwt.get_unverified_header(ended.out.strip())["kid"])
        self.assert_line(self.oni("token", "-u", "b", "--private-key", path), 2, "--algorithm")
        wrong = self.oni(
            *("token", "-u", "b", "--private-key", self.config, "--algorithm", "ES256")
        )
        self.assert_line(wrong, 1, "no token can be made")
        self.assertNotIn(SECRET, wrong.err)

    def test_mistakes(self) -> None:
        """Mistakes are one line."""
        for arguments, part in (
            (("--info", "{"), "--info is no JSON"),
            (("--ttl", "0"), "--ttl"),
        ):
            ended = self.oni("token", "-u", "b", "-c", self.config, *arguments)
            self.assertIn(part, ended.err)
            self.assertIn(ended.code, (1, 2))
        path = self.file("none.toml", "[auth]\nanonymous = true\n")
        self.assert_line(self.oni("token", "-u", "b", "-c", path), 1, "no auth.hmac_secret")

    def test_user_of_other_commands(self) -> None:
        """--user needs the settings' secret."""
        self.assert_line(self.oni("sub", "x", "-u", "bob"), 2, "--user needs --config")
        path = self.file("none.toml", "[auth]\nanonymous = true\n")
        self.assert_line(self.oni("sub", "x", "-u", "bob", "-c", path), 1, "no auth.hmac_secret")
