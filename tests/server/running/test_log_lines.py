"""Log events as harmless lines: text for people, JSON for programs."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.server.running._log_lines import JsonLines, TextLines, name_of

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl"


class LineTests(SynchronousTestCase):
    """What an event becomes."""

    def event(self, template: str = "", level: LogLevel = LogLevel.info, **values: Any) -> Any:
        """Make an event as a logger does."""
        events: list[Any] = []
        Logger("oni.tests", observer=events.append).emit(level, template, **values)  # type: ignore[arg-type]
        return {**events[0], "log_time": 1.5}

    def text(self, *arguments: Any, **values: Any) -> str:
        """Write an event as text."""
        return TextLines(("the-secret-key",)).write(self.event(*arguments, **values)).decode()

    def json(self, *arguments: Any, **values: Any) -> Any:
        """Write an event as JSON, and read it."""
        line = JsonLines(("the-secret-key",)).write(self.event(*arguments, **values))
        self.assertEqual(1, line.count(b"\n"))
        self.assertEqual(1, len(line.decode().splitlines()))
        return json.loads(line)

    def test_text(self) -> None:
        """Text begins with the time, the logger and the level."""
        self.assertEqual(
            "1970-01-01T00:00:01+0000 [oni.tests#warn] 3 of bob\n",
            self.text("{count} of {user}", LogLevel.warn, count=3, user="bob"),
        )

    def test_json(self) -> None:
        """JSON has the event's name, its sentence and its values."""
        self.assertEqual(
            {
                "time": "1970-01-01T00:00:01.500000Z",
                "level": "warn",
                "logger": "oni.tests",
                "event": "count_of_user_left",
                "message": "3 of bob left",
                "fields": {"count": 3, "user": "bob", "ready": True},
            },
            self.json("{count} of {user} left", LogLevel.warn, count=3, user="bob", ready=True),
        )

    def test_an_event_has_one_name(self) -> None:
        """Events of one kind have one name, whatever their values."""
        self.assertEqual(name_of("Oni {version} listens"), "oni_version_listens")

    def test_control_characters(self) -> None:
        """A name with line ends makes one line, of text and of JSON, and shows what it has."""
        for evil in ("\r\n2026-01-01 [oni] a lie", "\x85", "\u2028", "\x1b[31m", "\u202e", "\x00"):
            with self.subTest(evil=evil):
                for named in ("{name}", "{name!s}"):
                    line = self.text(named, name=f"a{evil}b")
                    self.assertEqual(1, len(line.splitlines()), line)
                    self.assertNotIn("\x1b", line)
                self.assertIn("\\x", self.text("{name}", name="a\r\nb"))
                self.assertNotIn(
                    evil, json.dumps(self.json("{name}", name=f"a{evil}b"), ensure_ascii=False)
                )

    def test_long_values(self) -> None:
        """A value is cut at 256 characters, one by one."""
        long = "x" * 10_000
        self.assertLess(len(self.text("{one} {two}", one=long, two=long)), 600)
        told = self.json("{one}", one=long, other=long)
        self.assertEqual({"one": "x" * 256 + "...", "other": "x" * 256 + "..."}, told["fields"])

    def test_objects(self) -> None:
        """An object is written by its own words, and they are no safer than others."""

        class Named:
            def __repr__(self) -> str:
                return "<Named\n" + "x" * 1000 + ">"

        line = self.text("{it!r} {it}", it=Named())
        self.assertEqual(1, len(line.splitlines()))
        self.assertLess(len(line), 700)

    def test_calls(self) -> None:
        """A name with parentheses is called, as Twisted's logger does."""
        self.assertIn(" seven\n", self.text("{number()}", number=lambda: "seven"))
        self.assertIn(" 1.50\n", self.text("{number:.2f}", number=1.5))

    def test_tokens(self) -> None:
        """Tokens and keys are taken out, wherever they stand, before anything is cut."""
        for value in (TOKEN, f"/connection?token={TOKEN}&x", "y" * 240 + TOKEN, "the-secret-key"):
            with self.subTest(value=value):
                failure = Failure(ValueError(value))
                for line in (
                    self.text("{value}", value=value, log_failure=failure),
                    json.dumps(
                        self.json("{value}", value=value, other=value, log_failure=failure)
                    ),
                ):
                    self.assertNotIn(TOKEN[-12:], line)
                    self.assertNotIn(TOKEN[:30], line)
                    self.assertNotIn("the-secret-key", line)

    def test_failures(self) -> None:
        """A traceback is told: as indented lines, or as a list."""
        try:
            raise ValueError("a\r\n2026 [oni] lie")
        except ValueError:
            failure = Failure()
        text = self.text("went wrong", LogLevel.critical, log_failure=failure)
        first, *rest = text.splitlines()
        self.assertTrue(first.endswith("went wrong"))
        self.assertTrue(rest and all(line.startswith("\t") for line in rest))
        self.assertIn("\tTraceback", text)
        told = self.json("went wrong", log_failure=failure)
        self.assertTrue(told["lines"][0].startswith("Traceback"))

    def test_endless_tracebacks(self) -> None:
        """Only their beginning and their end."""
        lines = tuple(f"line {number}" for number in range(5000))
        self.assertEqual(201, len(self.json("x", log_lines=lines)["lines"]))

    def test_whatever_is_logged(self) -> None:
        """An event that cannot be written is told of; nothing is raised."""

        class Bad:
            def __str__(self) -> str:
                raise RuntimeError("never")

        for lines in (TextLines(), JsonLines()):
            for event in (
                self.event("{bad}", bad=Bad()),
                self.event("{missing}"),
                self.event("{", x=1),
                self.event("{x.y[0]}", x=1),
            ):
                self.assertIn(b"could not be written", lines.write(event))
            lines.write({"log_format": None})
            lines.write({})
            told = lines.write(self.event("{a}", a=float("nan"), b=2**70, c="\ud800", d=b"\xff"))
            self.assertEqual(1, told.count(b"\n"))
