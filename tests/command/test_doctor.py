"""``oni doctor``: how what it finds is judged."""

from __future__ import annotations

import ast
import json
import os
import re
import resource
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

from oni.command._doctor_here import NEEDED, clock_row, descriptors_row, version_row
from oni.command._doctor_rows import Level, Row
from oni.command._doctor_settings import look_at_settings, permissions_row, strength_row
from oni.server import load_settings
from tests.command.cases import KEY, SECRET, CommandTestCase

NOBODY = "http://127.0.0.1:9"


class Here(CommandTestCase):
    """This machine."""

    def test_versions(self) -> None:
        """What is too old is an error that says what to install."""
        self.assertIs(Level.OK, version_row("Twisted", "26.10.0", (26, 10)).level)
        self.assertIs(Level.OK, version_row("Twisted", "27.1.0rc1", (26, 10)).level)
        old = version_row("Twisted", "26.9.3", (26, 10))
        self.assertEqual((Level.ERROR, "pip install 'Twisted>=26.10'"), (old.level, old.todo))

    def test_needed_versions(self) -> None:
        """What is needed is what the distribution asks for."""
        setup = Path(__file__).resolve().parents[2] / "setup.py"
        (core,) = (
            ast.literal_eval(node.value)
            for node in ast.parse(setup.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CORE"
        )
        asked = dict(re.fullmatch(r"([\w.]+)>=([\d.]+)", one).groups() for one in core)  # type: ignore[union-attr]
        for name, needed in NEEDED.items():
            self.assertEqual(asked[name.lower()], ".".join(map(str, needed)))
            self.assertTrue(version(name))

    def test_descriptors(self) -> None:
        """A limit below the connections that are allowed is a warning with the way out."""
        unlimited = resource.RLIM_INFINITY
        self.assertIs(Level.OK, descriptors_row(1000, 1064, 1064).level)
        self.assertIs(Level.OK, descriptors_row(1000, unlimited, unlimited).level)
        low = descriptors_row(1000, 1063, unlimited)
        self.assertEqual(Level.WARNING, low.level)
        self.assertIn("ulimit -n 1064", low.todo)
        self.assertIn("LimitNOFILE=1064", descriptors_row(1000, 512, 1000).todo)

    def test_clock(self) -> None:
        """A clock that nothing sets is a warning."""
        self.assertEqual(
            [Level.OK, Level.WARNING, Level.WARNING],
            [clock_row(state).level for state in (0, 5, None)],
        )


class Settings(CommandTestCase):
    """A settings file."""

    def look(self, path: str) -> dict[str, Row]:
        """Look at a file."""
        return {row.what: row for row in look_at_settings(load_settings(path), path)}

    def test_all_well(self) -> None:
        """Good settings have no row that is not ok."""
        rows = self.look(self.config)
        self.assertEqual({Level.OK}, {row.level for row in rows.values()}, rows)
        self.assertTrue({"settings file", "api.key", "auth.hmac_secret", "origins"} <= set(rows))

    def test_permissions(self) -> None:
        """Who may read a file with secrets, and who may write one at all."""
        for mode, has_secrets, level in (
            (0o600, True, Level.OK),
            (0o640, True, Level.WARNING),
            (0o644, True, Level.ERROR),
            (0o644, False, Level.OK),
            (0o620, False, Level.ERROR),
            (0o602, False, Level.ERROR),
        ):
            os.chmod(self.config, mode)
            row = permissions_row(self.config, os.stat(self.config), has_secrets)
            self.assertIs(level, row.level, oct(mode))

    def test_files_of_secrets(self) -> None:
        """Where secrets are in files of their own, these are what others must not read."""
        key = self.file("key", "Zq81mWc5RtLx0vNbYp7K")
        secret = self.file("secret", SECRET)
        text = '[auth]\nhmac_secret_file = "secret"\n[api]\nkey_file = "key"\n'
        path = self.file("files.toml", text)
        Path(path).chmod(0o644)
        Path(secret).chmod(0o644)
        found = {row.what: row for row in look_at_settings(load_settings(path), path)}
        self.assertIs(Level.OK, found["settings file"].level)
        self.assertIs(Level.OK, found["api.key_file"].level)
        row = found["auth.hmac_secret_file"]
        self.assertEqual((Level.ERROR, f"chmod 600 {secret}"), (row.level, row.todo))
        self.assertIn(key, found["api.key_file"].found)

    def test_strength(self) -> None:
        """A secret that can be guessed is an error; it is never repeated."""
        for secret, level in (
            (SECRET, Level.OK),
            (KEY, Level.OK),
            ("a" * 64, Level.ERROR),
            ("abababababababababababab", Level.ERROR),
            ("a-long-random-text", Level.ERROR),
            ("MySecretK29dLmq8RtzB7wVfYc4Np0s", Level.ERROR),
            ("Xk29dLmq8RtzB7wVfYc4", Level.WARNING),
        ):
            row = strength_row("api.key", secret)
            self.assertIs(level, row.level, row)
            self.assertNotIn(secret, row.found + row.todo)

    def test_every_secret(self) -> None:
        """Every secret that can be set is looked at, also one in a file of its own."""
        self.file("hmac", f"{SECRET}\n")
        weak = "a" * 40
        text = f'[api]\nkey = "{weak}"\n[admin]\nkey = "{weak}"\n[metrics]\nkey = "{weak}"\n'
        path = self.file("many.toml", text + '[auth]\nhmac_secret_file = "hmac"\n')
        rows = self.look(path)
        self.assertTrue({"api.key", "admin.key", "metrics.key", "auth.hmac_secret"} <= set(rows))

    def test_same_secrets(self) -> None:
        """One secret for two purposes is an error."""
        text = f'[auth]\nhmac_secret = "{SECRET}"\n[api]\nkey = "{SECRET}"\n'
        path = self.file("same.toml", text)
        found = [
            row for row in look_at_settings(load_settings(path), path) if "same as" in row.found
        ]
        self.assertEqual([Level.ERROR], [row.level for row in found])

    def test_origins(self) -> None:
        """A page without TLS beyond this machine is a warning."""
        server = '[server]\nallowed_origins = ["{}"]\n'
        for origin, level in (
            ("https://a.example", Level.OK),
            ("http://localhost:3000", Level.OK),
            ("http://a.example", Level.WARNING),
        ):
            path = self.file("origin.toml", server.format(origin))
            self.assertIs(level, self.look(path)["origins"].level)

    def test_backend(self) -> None:
        """History in memory is a warning: it ends with the process."""
        path = self.file("kept.toml", "[channels.a]\nhistory_size = 1\nhistory_ttl = 1\n")
        row = self.look(path)["backend"]
        self.assertIs(Level.WARNING, row.level)
        self.assertIn("channels.a keep", row.found)

    def test_what_the_daemon_warns_of(self) -> None:
        """What the daemon says when it starts is said here, too."""
        path = self.file("open.toml", '[server]\nlisten = ["tcp:8000"]\n')
        self.assertIs(Level.WARNING, self.look(path)["settings"].level)


class Doctor(CommandTestCase):
    """The command."""

    def oni_doctor(self, *arguments: str) -> tuple[int, dict[str, Row]]:
        """Run it where nobody listens; give its code and rows."""
        with patch("socket.create_connection", side_effect=ConnectionRefusedError(111, "refused")):
            ended = self.oni("doctor", "--json", *arguments)
        self.assertEqual("", ended.err)
        rows = [json.loads(line) for line in ended.out.splitlines()]
        found = {
            row["what"]: Row(
                Level(row["level"]), **{k: row.get(k, "") for k in ("what", "found", "todo")}
            )
            for row in rows
        }
        return ended.code, found

    def test_no_daemon(self) -> None:
        """That no daemon answers is an error only where it was said to be there."""
        code, rows = self.oni_doctor("-c", self.config)
        self.assertEqual((0, Level.WARNING), (code, rows["daemon"].level))
        code, rows = self.oni_doctor("--url", NOBODY)
        self.assertEqual((1, Level.ERROR), (code, rows["daemon"].level))
        code, rows = self.oni_doctor()
        self.assertEqual((0, Level.WARNING), (code, rows["daemon"].level))

    def test_every_row_has_a_way_out(self) -> None:
        """What is not ok says what to do."""
        os.chmod(self.config, 0o666)
        code, rows = self.oni_doctor("-c", self.config)
        self.assertEqual((1, Level.ERROR), (code, rows["settings file"].level))
        for row in rows.values():
            self.assertEqual(row.level is Level.OK, not row.todo, row)

    def test_plain(self) -> None:
        """On a pipe each row is one line that begins with its level."""
        with patch("socket.create_connection", side_effect=ConnectionRefusedError(111, "refused")):
            ended = self.oni("doctor", "-c", self.config)
        for line in ended.out.splitlines():
            self.assertRegex(line, r"^(ok|warning|error) +\S.*: ")
