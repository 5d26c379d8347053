"""The last resort: a process that was told to end does end."""

from __future__ import annotations

import signal

from twisted.trial.unittest import SynchronousTestCase

from oni.server._deadline import ExitDeadline


class ExitDeadlineTests(SynchronousTestCase):
    """It begins once, and with the signal."""

    def setUp(self) -> None:
        """Keep the process' own handlers."""
        self.armed: list[float] = []
        self.now = 100.0
        self.ended: list[str] = []
        self.deadline = self.make()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def make(self) -> ExitDeadline:
        """Make one that ends nothing."""
        return ExitDeadline(
            3.0, self.armed.append, lambda: self.ended.append("now"), lambda: self.now
        )

    def test_second_signal(self) -> None:
        """A second signal, of either kind, ends the process at once."""
        seen: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
                signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
                seen.clear()
                self.ended.clear()
                self.make().watch_signals()
                signal.raise_signal(signal.SIGTERM)
                self.assertEqual([], self.ended)
                self.now += 0.2
                signal.raise_signal(signal.SIGTERM)  # the same one, sent to a whole group
                self.assertEqual(([], [signal.SIGTERM]), (self.ended, seen))
                self.now += 0.2
                signal.raise_signal(number)
                self.assertEqual(["now"], self.ended)

    def test_once(self) -> None:
        """A second call does not put it off."""
        self.deadline.begin()
        self.deadline.begin()
        self.assertEqual([3.0], self.armed)

    def test_signals(self) -> None:
        """Each signal begins it before the handler that was there runs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                del self.armed[:]
                seen: list[object] = []
                signal.signal(number, lambda got, frame: seen.append((got, list(self.armed))))  # noqa: B023
                self.make().watch_signals()
                signal.raise_signal(number)
                self.assertEqual([(number, [3.0])], seen)

    def test_signals_that_are_ignored(self) -> None:
        """A signal without handler stays as it is."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.deadline.watch_signals()
        self.assertEqual(signal.SIG_IGN, signal.getsignal(signal.SIGTERM))
