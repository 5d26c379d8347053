"""Options: which daemon is meant, with which key, and kinds of values."""

from __future__ import annotations

from unittest.mock import patch

import click
from click.testing import CliRunner

from oni.command._cli import _OneLine
from oni.command._failures import CommandError
from oni.command._options import DURATION, POSITION, daemon_options, read_secret
from oni.command._target import Target, target_of_settings, target_of_url
from oni.server import load_settings
from oni.values import Position
from tests.command.cases import CLEAN, KEY, CommandTestCase

OTHER = "environment-key-0123456789"


class Targets(CommandTestCase):
    """Which daemon a command speaks to."""

    def target(self, *arguments: str, data: str = "", **env: str) -> Target:
        """Give the target that these arguments name."""
        found: list[Target] = []

        @click.group(cls=_OneLine)
        def group() -> None:
            pass

        @group.command()
        @daemon_options
        def look(target: Target) -> None:
            found.append(target)

        done = CliRunner(env={**CLEAN, **env}).invoke(group, ["look", *arguments], input=data)
        self.assertEqual(0, done.exit_code, done.stderr)
        return found[0]

    def test_default(self) -> None:
        """Without anything it is the daemon on this machine, without a key."""
        found = self.target()
        self.assertEqual(("http://127.0.0.1:8000", None), (found.address, found.key))

    def test_settings_file(self) -> None:
        """A settings file has both."""
        found = self.target("-c", self.config)
        self.assertEqual(("http://127.0.0.1:8123", KEY), (found.address, found.key))

    def test_environment(self) -> None:
        """So has the environment."""
        found = self.target(ONI_URL="https://a.example/x/", ONI_API_KEY=OTHER)
        self.assertEqual(("https://a.example/x", OTHER), (found.address, found.key))

    def test_file_before_environment(self) -> None:
        """A settings file that is named counts more than the environment."""
        found = self.target("-c", self.config, ONI_URL="http://a.example", ONI_API_KEY=OTHER)
        self.assertEqual(("http://127.0.0.1:8123", KEY), (found.address, found.key))

    def test_command_line_before_all(self) -> None:
        """What the command line says counts most."""
        found = self.target(
            "-c", self.config, "--url", "http://b.example", "--key", "k" * 16, ONI_API_KEY=OTHER
        )
        self.assertEqual(("http://b.example", "k" * 16), (found.address, found.key))

    def test_key_file(self) -> None:
        """A key file counts more than settings and environment; - is standard input."""
        path = self.file("key", f"  {OTHER}\n")
        found = self.target("-c", self.config, "--key-file", path, ONI_API_KEY="e" * 16)
        self.assertEqual(OTHER, found.key)
        self.assertEqual(OTHER, self.target("--key-file", "-", data=f"{OTHER}\n").key)

    def test_no_key_is_shown(self) -> None:
        """The target's text tells no key."""
        self.assertNotIn(KEY, repr(self.target("-c", self.config)))

    def test_no_address(self) -> None:
        """What is no address is refused, with what one looks like."""
        for text in (
            "",
            "news",
            "ftp://x",
            "http://",
            "http://u:p@x",
            "http://x?y",
            "http://x:y",
            "http://a b",
            "http://..",
            f"http://{'a' * 64}.example",
        ):
            error = self.assertRaises(CommandError, target_of_url, text)
            self.assertIn("--url: ", error.format_message())

    def test_addresses(self) -> None:
        """Names, ports and paths are where they should be, also for IPv6."""
        found = target_of_url("https://[fd00::7]/oni/")
        self.assertEqual(("fd00::7", 443, True), (found.host, found.port, found.secure))
        self.assertEqual("[fd00::7]", found.authority)
        self.assertEqual("wss://[fd00::7]/oni/connection/websocket", found.websocket)
        self.assertEqual("x:81", target_of_url("http://x:81").authority)

    def test_other_alphabets(self) -> None:
        """What is not ASCII is written as it goes over the wire."""
        found = target_of_url("https://b\xfccher.example/l\xe4den/%C3%A4/")
        self.assertEqual("xn--bcher-kva.example", found.host)
        self.assertEqual("https://xn--bcher-kva.example/l%C3%A4den/%C3%A4", found.address)

    def test_name_that_is_allowed(self) -> None:
        """On the daemon's machine it is called by a name that it answers to."""
        text = '[server]\nlisten = ["tcp:8123"]\nallowed_hosts = ["a.example", "localhost"]\n'
        path = self.file("named.toml", text)
        found = target_of_settings(load_settings(path), path)
        self.assertEqual(("127.0.0.1", "a.example:8123"), (found.host, found.authority))

    def test_no_port(self) -> None:
        """A daemon on a socket file needs --url."""
        path = self.file("unix.toml", '[server]\nlisten = ["unix:/run/oni.sock"]\n')
        self.assert_line(self.oni("history", "x", "-c", path), 1, path, "--url")

    def test_wrong_settings_file(self) -> None:
        """The first problem is said, and where to find the rest."""
        path = self.file("wrong.toml", "[srver]\n[auth]\nanonymous = 1\n")
        ended = self.oni("history", "x", "-c", path)
        self.assert_line(ended, 1, "srver: unknown section", f"oni check-config {path}")
        ended = self.oni("history", "x", "-c", str(self.folder / "none.toml"))
        self.assert_line(ended, 1, "none.toml: No such file")

    def test_wrong_key(self) -> None:
        """A key that cannot be in a header is refused, and not repeated."""
        ended = self.oni("history", "x", env={"ONI_API_KEY": "geheim\u00fc\nX: y"})
        self.assert_line(ended, 1, "the key has characters")
        self.assertNotIn("geheim", ended.err)

    def test_timeout(self) -> None:
        """There is always a time limit."""
        self.assert_line(self.oni("history", "x", "--timeout", "0"), 2, "--timeout")
        self.assert_line(self.oni("history", "x", "--timeout", "999999999d"), 2, "--timeout")
        self.assertEqual(90.0, self.target("--timeout", "1.5m").timeout)


class Values(CommandTestCase):
    """Kinds of values."""

    def test_durations(self) -> None:
        """A time span has a unit, or is in seconds."""
        for text, seconds in {"3": 3, "0.5s": 0.5, "2m": 120, "1h": 3600, "7d": 604800}.items():
            self.assertEqual(seconds, DURATION.convert(text, None, None))
        for text in ("", "s", "-1", "1w", "1e3", "inf", "1 s", "9" * 12):
            self.assertRaises(click.BadParameter, DURATION.convert, text, None, None)

    def test_positions(self) -> None:
        """A position is an epoch and an offset."""
        self.assertEqual(Position("a:b", 7), POSITION.convert("a:b:7", None, None))
        for text in ("", "7", ":7", "a:", "a:x", "a:-1", "a:\u0661", "a:" + "9" * 19):
            self.assertRaises(click.BadParameter, POSITION.convert, text, None, None)

    def test_secret_files(self) -> None:
        """A secret that is not there is an error that names the file only."""
        for name, text in (("empty", " \n"), ("missing", None)):
            path = str(self.folder / name) if text is None else self.file(name, text)
            error = self.assertRaises(CommandError, read_secret, path)
            self.assertIn(path, error.format_message())
        (self.folder / "binary").write_bytes(b"\xff\xfe")
        self.assertRaises(CommandError, read_secret, str(self.folder / "binary"))

    def test_nobody_answers(self) -> None:
        """A refused connection is one line and a code of its own."""
        with patch("socket.create_connection", side_effect=ConnectionRefusedError(111, "refused")):
            ended = self.oni("pub", "news", "1")
        self.assert_line(ended, 3, "http://127.0.0.1:8000 cannot be reached: refused")
        with patch("socket.create_connection", side_effect=TimeoutError):
            self.assert_line(self.oni("pub", "news", "1"), 3, "did not answer within 10 s")
