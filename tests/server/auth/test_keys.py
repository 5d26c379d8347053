"""``[auth]`` and the key files of a settings file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import SettingsError
from oni.server._settings import Settings
from oni.server._settings_file import parse_settings
from oni.server.auth._keys import keys_of
from oni.server.auth._settings import PublicKey
from tests.server.auth.signing import SECRET, pair

KEY = "a-key-for-tests-only"


class KeysCase(SynchronousTestCase):
    """A folder with keys in it."""

    def setUp(self) -> None:
        """Write them."""
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.write("es.pem", pair("ES256")[1])
        self.write("rs.pem", pair("RS256")[1])
        self.write("private.pem", pair("ES256")[0])
        self.write("secret", f"\n{SECRET}\n")
        self.write("key", f" {KEY}\n")

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.folder / name).write_text(text)

    def parse(self, text: str) -> Settings:
        """Read settings that lie in the folder."""
        return parse_settings(text, str(self.folder))

    def problem(self, text: str) -> str:
        """Expect one problem, which repeats no secret."""
        problems = self.assertRaises(SettingsError, self.parse, text).problems
        self.assertEqual(len(problems), 1, problems)
        self.assertNotIn(SECRET[:8], problems[0])
        return problems[0]


class AuthTests(KeysCase):
    """Tests of ``[auth]``."""

    def test_all(self) -> None:
        """A secret and public keys, from the file itself or from others."""
        settings = self.parse(
            f"""
            [auth]
            hmac_secret = "{SECRET}"
            issuer = "shop"
            audience = "oni"
            leeway = 0
            [[auth.public_keys]]
            algorithm = "ES256"
            file = "es.pem"
            kid = "new"
            [[auth.public_keys]]
            algorithm = "RS256"
            pem = '''{pair("RS256")[1]}'''
            """
        )
        auth = settings.auth
        self.assertEqual((auth.issuer, auth.audience, auth.leeway), ("shop", "oni", 0))
        self.assertEqual(
            auth.public_keys[0], PublicKey(algorithm="ES256", file="es.pem", kid="new")
        )
        keys = keys_of(auth, settings.folder)
        self.assertEqual([key.algorithm for key in keys], ["HS256", "ES256", "RS256"])
        self.assertEqual([key.kid for key in keys], [None, "new", None])
        self.assertNotIn(SECRET, repr(settings))
        self.assertNotIn("PUBLIC", repr(settings))

    def test_secret_file(self) -> None:
        """The secret may stand in a file of its own, with space around it."""
        settings = self.parse('[auth]\nhmac_secret_file = "secret"')
        (key,) = keys_of(settings.auth, settings.folder)
        (other,) = keys_of(self.parse(f'[auth]\nhmac_secret = "{SECRET}"').auth)
        self.assertEqual(key, other)
        self.assertTrue(settings.auth.proves_tokens)

    def test_wrong_secrets(self) -> None:
        """Too short, given twice, missing or a key of another kind: refused with the path."""
        self.write("short", "x" * 31)
        self.write("binary", "")
        (self.folder / "binary").write_bytes(b"\xff" * 64)
        self.write("long", "x" * 70000)
        for text, path, reason in (
            ('hmac_secret = "short"', "auth.hmac_secret", "32 characters or more"),
            ("hmac_secret = 7", "auth.hmac_secret", "something else"),
            ('hmac_secret_file = "short"', "auth.hmac_secret_file", "32 characters or more"),
            ('hmac_secret_file = "none"', "auth.hmac_secret_file", os.strerror(2)),
            ('hmac_secret_file = "binary"', "auth.hmac_secret_file", "not UTF-8"),
            ('hmac_secret_file = "long"', "auth.hmac_secret_file", "longer than"),
            ('hmac_secret_file = "es.pem"', "auth.hmac_secret_file", "no key for HS256"),
            (
                f'hmac_secret_file = "secret"\nhmac_secret = "{SECRET}"',
                "auth.hmac_secret_file",
                "set, too",
            ),
        ):
            problem = self.problem(f"[auth]\n{text}")
            self.assertTrue(problem.startswith(f"{path}: "), problem)
            self.assertIn(reason, problem)

    def test_wrong_public_keys(self) -> None:
        """Each entry is checked, and named by its place."""
        for entry, path, reason in (
            ("7", "[0]", "a table"),
            ("{}", "[0].algorithm", "'ES256' or 'RS256', got nothing"),
            ('{algorithm = "HS256", file = "es.pem"}', "[0].algorithm", "'HS256'"),
            ('{algorithm = "none", file = "es.pem"}', "[0].algorithm", "'none'"),
            ('{algorithm = "ES256"}', "[0]", "either file or pem"),
            ('{algorithm = "ES256", file = "es.pem", pem = "x"}', "[0]", "either file or pem"),
            ('{algorithm = "ES256", file = "none.pem"}', "[0].file", os.strerror(2)),
            ('{algorithm = "ES256", file = "private.pem"}', "[0].file", "private"),
            ('{algorithm = "RS256", file = "es.pem"}', "[0].file", "no key for RS256"),
            ('{algorithm = "ES256", pem = "x"}', "[0].pem", "no key for ES256"),
            ('{algorithm = "ES256", file = "es.pem", kind = 1}', "[0].kind", "unknown key"),
        ):
            problem = self.problem(f"[auth]\npublic_keys = [{entry}]")
            self.assertTrue(problem.startswith(f"auth.public_keys{path}: "), problem)
            self.assertIn(reason, problem)
        self.assertIn("a list of tables", self.problem("[auth]\npublic_keys = 7"))

    def test_many_wrong_public_keys(self) -> None:
        """Of several wrong entries each is named by its own place, and by one line."""
        wrong = ["7", '{algorithm = "none"}', '{algorithm = "ES256", pem = "x"}', "{}"]
        text = f"[auth]\npublic_keys = [{', '.join(wrong)}]"
        problems = self.assertRaises(SettingsError, self.parse, text).problems
        self.assertEqual(
            sorted(problem.partition(":")[0] for problem in problems),
            [
                "auth.public_keys[0]",
                "auth.public_keys[1].algorithm",
                "auth.public_keys[2].pem",
                "auth.public_keys[3].algorithm",
            ],
        )

    def test_one_name_twice(self) -> None:
        """Two keys of one algorithm cannot have one name."""
        entry = '{algorithm = "ES256", file = "es.pem", kid = "k"}'
        self.assertIn("'k'", self.problem(f"[auth]\npublic_keys = [{entry}, {entry}]"))

    def test_limits(self) -> None:
        """The leeway is small."""
        for value in ("-1", "301", "inf", "nan"):
            self.assertIn("auth.leeway", self.problem(f"[auth]\nleeway = {value}"))


class KeyFileTests(KeysCase):
    """Tests of keys for the HTTP API and the console, in files of their own."""

    def test_key_files(self) -> None:
        """The key is what the file says, without the space around it."""
        for section in ("api", "admin"):
            settings = self.parse(f'[{section}]\nkey_file = "key"')
            self.assertEqual(getattr(settings, section).key, KEY)

    def test_wrong(self) -> None:
        """A file that is missing or says too little, and a key besides, are refused."""
        self.write("short", "x")
        for section in ("api", "admin"):
            for text, path in (
                ('key_file = "none"', f"{section}.key_file"),
                ('key_file = "short"', f"{section}.key"),
                (f'key_file = "key"\nkey = "{"k" * 16}"', f"{section}.key_file"),
            ):
                problem = self.problem(f"[{section}]\n{text}")
                self.assertTrue(problem.startswith(f"{path}: "), problem)


class PermissionSettingsTests(KeysCase):
    """Tests of permissions in ``[channels]``."""

    def test_kinds(self) -> None:
        """A permission is true, false, a word, or a list of words."""
        rules = self.parse(
            """
            [channels]
            subscribe = "authenticated"
            publish = ["authenticated", "subscriber"]
            read_history = true
            [channels.private]
            subscribe = "token"
            read_presence = false
            """
        ).rules_for("private:a")
        assert rules is not None
        self.assertEqual(rules.subscribe, "token")
        self.assertEqual(rules.publish, ("authenticated", "subscriber"))
        self.assertEqual((rules.read_history, rules.read_presence), (True, False))

    def test_wrong(self) -> None:
        """Other words, and a list of nothing, which would let everybody in, are refused."""
        for key, value in (
            ("publish", '"token"'),
            ("publish", "[]"),
            ("publish", '["authenticated", "token"]'),
            ("publish", "[true]"),
            ("subscribe", '"subscriber"'),
            ("subscribe", "[]"),
            ("subscribe", '"anonymous"'),
            ("read_history", '"token"'),
            ("read_presence", "1"),
        ):
            problems = self.assertRaises(
                SettingsError, self.parse, f"[channels]\n{key} = {value}"
            ).problems
            self.assertTrue(problems[0].startswith(f"channels.{key}"), problems)

    def test_tokens_without_keys(self) -> None:
        """Where tokens are wanted, and nothing proves them, there is a warning."""
        text = '[channels.a]\nsubscribe = ["authenticated", "token"]\n'
        (warning,) = self.parse(text).warnings()
        self.assertIn("channels.a.subscribe", warning)
        self.assertEqual(self.parse(text + '[auth]\nhmac_secret_file = "secret"').warnings(), ())
