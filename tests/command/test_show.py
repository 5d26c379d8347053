"""What is printed: plain for programs, coloured for people, harmless for terminals."""

from __future__ import annotations

import io
import json
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from oni.command._show import Printer, compact, note, one_line, position_text
from oni.values import Position


class Terminal(io.StringIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class Texts(SynchronousTestCase):
    """Texts from anywhere."""

    def test_controls(self) -> None:
        """Nothing is left that moves a cursor, ends a line or turns text round."""
        text = "a\x1b[2J\r\n\x85\u2028\u202e\x9bb\U000e0001"
        shown = one_line(text)
        self.assertTrue(shown.isprintable())
        self.assertEqual(text, json.loads(f'"{shown}"'))

    def test_letters_stay(self) -> None:
        """What is printable stays as it is."""
        text = "gr\u00fc\u00dfe \u65e5\u672c \U0001f600"
        self.assertEqual(text, one_line(text))

    def test_compact(self) -> None:
        """JSON becomes one line; numbers and texts stay what they are."""
        raw = '{"a": 1.50,\n "b": 12345678901234567890123, "c": "\u202e\\n"}'.encode()
        shown = compact(raw)
        self.assertNotIn("\n", shown)
        self.assertIn("1.50", shown)
        self.assertIn("12345678901234567890123", shown)
        self.assertEqual(json.loads(raw), json.loads(shown))

    def test_position(self) -> None:
        """A position is printed as options take it."""
        self.assertEqual("ab:7", position_text(Position("ab", 7)))


class Printing(SynchronousTestCase):
    """Publications."""

    def printed(self, output: io.StringIO, as_json: bool = False) -> str:
        """Print a publication; give what arrives."""
        with patch("sys.stdout", output), patch.dict("os.environ", {"TERM": "xterm"}):
            Printer(as_json).publication(
                "news", Position("ab", 7), {"event": "hired\x1b", "a": "b"}, b'{"user": "bob"}'
            )
        return output.getvalue()

    def test_columns(self) -> None:
        """On a pipe: columns, with tabs between them."""
        line = self.printed(io.StringIO())
        self.assertEqual('news\tab:7\thired\\u001b\t{"user":"bob"}\n', line)

    def test_json(self) -> None:
        """As JSON: everything, with the event apart from the other tags."""
        for output in (io.StringIO(), Terminal()):
            line = self.printed(output, as_json=True)
            self.assertEqual(1, line.count("\n"))
            self.assertEqual(
                {
                    "channel": "news",
                    "epoch": "ab",
                    "offset": 7,
                    "event": "hired\x1b",
                    "tags": {"a": "b"},
                    "data": {"user": "bob"},
                },
                json.loads(line),
            )

    def test_terminal(self) -> None:
        """On a terminal: colours, and nothing else of what came is a control."""
        line = self.printed(Terminal())
        self.assertIn("\x1b[", line)
        self.assertIn("hired\\u001b", line)
        self.assertIn('{"user":"bob"}', line)

    def test_no_color(self) -> None:
        """Who wants no colours gets none."""
        with patch.dict("os.environ", {"NO_COLOR": "1"}):
            line = self.printed(Terminal())
        self.assertNotIn("\x1b[36m", line)
        self.assertNotIn("\x1b[1;32m", line)

    def test_narrow_terminal(self) -> None:
        """A line is as long as it is: the terminal folds it, so that it can be copied."""
        output = Terminal()
        with patch("sys.stdout", output), patch.dict("os.environ", {"COLUMNS": "40"}):
            Printer(False).publication(
                "news", Position("ab", 7), {}, json.dumps("x" * 200).encode()
            )
        self.assertEqual(1, output.getvalue().count("\n"))
        self.assertIn("x" * 200, output.getvalue())

    def test_gap(self) -> None:
        """A gap is an object for programs; people read it elsewhere."""
        for as_json, count in ((True, 1), (False, 0)):
            output = io.StringIO()
            with patch("sys.stdout", output):
                Printer(as_json).gap("news", Position("ab", 7))
            self.assertEqual(count, output.getvalue().count('"gap":true'))

    def test_note(self) -> None:
        """A note is one line on standard error, plain where that is no terminal."""
        output = io.StringIO()
        with patch("sys.stderr", output):
            note("a\nb [red]c[/red]" + "x" * 300)
        self.assertEqual("oni: a\\u000ab [red]c[/red]" + "x" * 300 + "\n", output.getvalue())
