"""Settings as TOML: everything that holds, and no secret."""

from __future__ import annotations

import tomllib

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oni.command._toml import HIDDEN, is_secret, toml_text
from oni.server import Settings, describe
from oni.server._settings_file import parse_settings

TEXT = r"""
[server]
listen = ["tcp:8000", "unix:/run/\u007f\"x"]
max_connections = 7
pong_timeout = 2.5
[auth]
anonymous = true
hmac_secret = "q8Zr2mV5xK0tYc7LwNf3HsJd9Gb4Pe1A"
[api]
key = "Xk29dLmq8RtzB7wVfYc4Np0s"
[channels]
publish = true
[channels."chat.de"]
history_size = 3
history_ttl = 60.0
[dispatcher]
phases = ["before", {name = "check", timeout = 2.0}, {name = "during", timeout = 3.0}, "after"]
"""


class Toml(SynchronousTestCase):
    """What ``--show`` prints."""

    def test_complete(self) -> None:
        """It names every key that has a value, defaults too, and namespaces."""
        found = tomllib.loads(toml_text(Settings()))
        for info in describe():
            section, _, key = info.path.rpartition(".")
            if info.default:
                self.assertIn(key, found[section], info.path)
        chat = tomllib.loads(toml_text(parse_settings(TEXT)))["channels"]["chat.de"]
        self.assertEqual((True, 3), (chat["publish"], chat["history_size"]))

    def test_same_settings(self) -> None:
        """Read again with its secrets, it means the same."""
        settings = parse_settings(TEXT)
        shown = toml_text(settings)
        for name, secret in (
            ("hmac_secret", "q8Zr2mV5xK0tYc7LwNf3HsJd9Gb4Pe1A"),
            ("key", "Xk29dLmq8RtzB7wVfYc4Np0s"),
        ):
            self.assertIn(f'\n{name} = "{HIDDEN}"\n', shown)
            self.assertNotIn(secret, shown)
            shown = shown.replace(f'\n{name} = "{HIDDEN}"\n', f'\n{name} = "{secret}"\n')
        self.assertEqual(settings, parse_settings(shown))

    def test_every_secret_is_known(self) -> None:
        """A setting whose help speaks of a secret is hidden, or is the name of a file."""
        secret = {info.path for info in describe() if is_secret(info.path.rpartition(".")[2])}
        self.assertTrue({"api.key", "auth.hmac_secret", "admin.key"} <= secret)
        for info in describe():
            name = info.path.rpartition(".")[2]
            if any(word in name for word in ("key", "secret", "password", "token")):
                public = name.endswith("_file") or name in (
                    "public_keys",
                    "allowed_match_spec_keywords",
                )
                self.assertTrue(is_secret(name) or public, info.path)

    def test_passwords_in_addresses(self) -> None:
        """Who and what stands before the host of an address is hidden."""
        backend = msgspec.structs.replace(Settings().backend, url="redis://u:geheim@h:1/0?x=y")
        shown = toml_text(msgspec.structs.replace(Settings(), backend=backend))
        self.assertNotIn("geheim", shown)
        self.assertIn(f'url = "redis://{HIDDEN}@h:1/0?x=y"', shown)
