"""The reactor that a command runs, and how it ends."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from unittest import mock

import crochet
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import Logger, globalLogBeginner
from twisted.trial.unittest import SynchronousTestCase

from oni.command._reactor import run


class SomeReactor(Clock):
    """Runs until it is stopped, and refuses to be stopped twice, as a real one does."""

    def __init__(self, scene: Callable[[SomeReactor], object]) -> None:
        super().__init__()
        self.running = False
        self._scene = scene
        self._is_stopped = False
        self._begin: list[tuple[Any, ...]] = []

    def callWhenRunning(self, function: Any, *arguments: Any) -> None:
        """Remember it."""
        self._begin.append((function, *arguments))

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> None:
        """Remember it."""
        self._end = function

    def stop(self) -> None:
        """Stop."""
        if self._is_stopped:
            raise ReactorNotRunning
        self._is_stopped = True
        self._end()

    def run(self) -> None:
        """Do what the test wants."""
        self.running = True
        for function, *arguments in self._begin:
            function(*arguments)
        self._scene(self)


class SomeProgram:
    """Remembers how it is to end."""

    exit_code = 7

    def __init__(self) -> None:
        self.stopped: list[bool] = []

    def start(self, end: Callable[[], None]) -> None:
        """Begin."""
        self.end = end

    def stop(self, by_signal: bool) -> None:
        """End, which is when it has done all there was to do."""
        self.stopped.append(by_signal)
        self.end()


class RunTests(SynchronousTestCase):
    """``run`` on a reactor of our own."""

    def run_it(self, scene: Callable[[SomeReactor], object]) -> str:
        """Run a program, and give what is on standard error."""
        self.program = SomeProgram()
        self.patch(crochet, "no_setup", lambda: None)
        with (
            mock.patch("twisted.internet.reactor", SomeReactor(scene), create=True),
            mock.patch.object(globalLogBeginner, "beginLoggingTo") as begin,
            mock.patch("sys.stderr", io.StringIO()) as errors,
        ):
            self.assertEqual(7, run(lambda reactor: self.program))
            (self.observer,) = begin.call_args[0][0]
            log = Logger(observer=self.observer)
            try:
                raise ZeroDivisionError("oh")
            except ZeroDivisionError:
                log.failure("{handler} failed", handler="mail")
            log.warn("nobody reads this")
        return errors.getvalue()

    def test_by_itself(self) -> None:
        """It ends when it says so, once."""

        def scene(reactor: SomeReactor) -> None:
            self.program.end()
            self.program.end()

        self.run_it(scene)
        self.assertEqual([False], self.program.stopped)

    def test_by_a_signal(self) -> None:
        """What ends because it was told to does not stop the reactor a second time."""
        self.run_it(SomeReactor.stop)
        self.assertEqual([True], self.program.stopped)

    def test_bugs(self) -> None:
        """Of the log only failures are shown, with what failed."""
        lines = self.run_it(SomeReactor.stop).splitlines()
        self.assertEqual("oni: mail failed", lines[0])
        self.assertTrue(lines[-1].endswith("ZeroDivisionError: oh"), lines)
        self.assertNotIn("oni: nobody reads this", lines)
