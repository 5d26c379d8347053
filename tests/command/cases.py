"""Run the command line in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from oni.command._cli import cli

CLEAN = dict.fromkeys(("ONI_URL", "ONI_API_KEY", "ONI_TOKEN", "ONI_HMAC_SECRET"))
SECRET = "q8Zr2mV5xK0tYc7LwNf3HsJd9Gb4Pe1A"
KEY = "Xk29dLmq8RtzB7wVfYc4Np0s"
SETTINGS = f"""\
[server]
listen = ["tcp:8123:interface=127.0.0.1"]
[auth]
anonymous = true
hmac_secret = "{SECRET}"
[api]
key = "{KEY}"
[channels]
subscribe = true
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: The exit code.
        out: What it printed.
        err: What it said on standard error.
    """

    code: int
    out: str
    err: str


class CommandTestCase(SynchronousTestCase):
    """A folder with a settings file, and the command line."""

    def setUp(self) -> None:
        """Write the file."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.config = self.file("oni.toml", SETTINGS)

    def file(self, name: str, text: str) -> str:
        """Write a file that only its owner reads; give its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return str(path)

    def oni(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        data: str | bytes | None = None,
    ) -> Ended:
        """Run a command to its end."""
        done = CliRunner(env={**CLEAN, **(env or {})}).invoke(cli, arguments, input=data)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    def assert_line(self, ended: Ended, code: int, *parts: str) -> None:
        """Assert that it ended with this code and one line that has these parts, and no output."""
        self.assertEqual(code, ended.code, ended)
        self.assertEqual("", ended.out)
        self.assertEqual(1, len(ended.err.splitlines()), ended.err)
        for part in parts:
            self.assertIn(part, ended.err)
