"""All commands together: help, versions, wrong usage, how each ends."""

from __future__ import annotations

import errno
import os
from unittest.mock import patch

import click
from msgspec import Raw

from oni import __version__
from oni.command._cli import cli
from oni.command._history import _Entry, _Page
from oni.command._http import Answer
from oni.command._show import Printer
from tests.command.cases import CommandTestCase

COMMANDS = (
    *("pub", "sub", "history", "ledger", "sources"),
    *("token", "check-config", "doctor", "bench"),
)


class Cli(CommandTestCase):
    """What holds for every command."""

    def test_help(self) -> None:
        """Every command has help that names its purpose and its options."""
        listed = self.oni("--help")
        self.assertEqual(0, listed.code)
        for name in COMMANDS:
            self.assertIn(f"\n  {name} ", listed.out)
            told = self.oni(name, "-h")
            self.assertEqual(0, told.code)
            self.assertTrue(told.out.startswith(f"Usage: oni {name} "), told.out)
        self.assertEqual(set(COMMANDS), set(cli.commands))

    def test_every_option_is_explained(self) -> None:
        """No option is without help."""
        commands = dict(cli.commands)
        for name, command in cli.commands.items():
            if isinstance(command, click.Group):
                commands |= {f"{name} {part}": each for part, each in command.commands.items()}
        for name, command in commands.items():
            self.assertTrue(command.short_help, name)
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    self.assertTrue(parameter.help, f"{name} {parameter.name}")

    def test_version(self) -> None:
        """The version names what it runs on."""
        self.assertIn(f"Oni {__version__} (Twisted ", self.oni("--version").out)

    def test_wrong_usage(self) -> None:
        """What is wrong with the command line is one line that names the command's help."""
        self.assert_line(self.oni("pubb"), 2, "oni: No such command 'pubb'", "oni --help")
        self.assert_line(self.oni("pub", "news"), 2, "oni pub: Missing", "oni pub --help")
        self.assert_line(self.oni("pub", "news", "1", "--foo"), 2, "--foo")
        self.assert_line(self.oni("history", "news", "-n", "x"), 2, "'x'")

    def test_nothing_said(self) -> None:
        """Without a command one line says what to do."""
        self.assert_line(self.oni(), 2, "oni: Missing command.")
        self.assert_line(self.oni("ledger"), 2, "oni ledger: Missing command. (see ")
        self.assert_line(self.oni("sources"), 2, "oni sources: Missing command. (see ")

    def test_not_utf_8(self) -> None:
        """Bytes that are no text are wrong usage, wherever they stand."""
        for arguments in (
            ("pub", "n\udcff", "1"),
            ("history", "n\udcff"),
            ("token", "--user", "bob", "--info", "\udcff", "-c", self.config),
        ):
            self.assert_line(self.oni(*arguments), 2, "not UTF-8", "\\udcff")

    def test_full_disk(self) -> None:
        """Output that cannot be written is said in a line."""
        page = _Page(publications=[_Entry(Raw(b"1"), 1)], epoch="e", offset=1)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with (
            patch("oni.command._history.call", return_value=page),
            patch.object(Printer, "_write", side_effect=full),
        ):
            self.assert_line(self.oni("history", "news"), 1, "No space left on device")

    def test_what_is_off(self) -> None:
        """What the daemon does not offer is said in the words of its settings."""
        path = self.file("no_key.toml", "[auth]\nanonymous = true\n")
        off = Answer(401, {}, b"")
        with patch("oni.command._http.request", return_value=off):
            self.assert_line(self.oni("pub", "news", "1", "-c", path), 1, "no [api] key")
            self.assert_line(self.oni("pub", "news", "1"), 1, "needs a key: --config FILE")
        refused = b'{"error": {"code": 108, "message": "not available"}}'
        with patch("oni.command._http.request", return_value=Answer(200, {}, refused)):
            self.assert_line(self.oni("history", "news"), 1, "not available (108)", "history_size")

    def test_interrupted(self) -> None:
        """Ctrl-C is one word and the code that shells give it."""
        with patch("oni.command._history.call", side_effect=KeyboardInterrupt):
            ended = self.oni("history", "news")
        self.assertEqual((130, "", "oni: interrupted"), (ended.code, ended.out, ended.err.strip()))

    def test_text_from_elsewhere(self) -> None:
        """What an error repeats cannot move a terminal's cursor."""
        ended = self.oni("pub", "news", "1", "-c", "\x1b[2J")
        self.assertNotIn("\x1b", ended.err)
        self.assertIn("\\u001b[2J", ended.err)
