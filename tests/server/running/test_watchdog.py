"""A reactor that does not turn is noticed, once, and what blocks it is named."""

from __future__ import annotations

import threading
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.server.running._stacks import culprit, stack_lines
from oni.server.running._watchdog import Watchdog


class WatchdogTests(SynchronousTestCase):
    """Looks, on a clock that the test moves."""

    def setUp(self) -> None:
        """Have a watchdog that allows five seconds, and listen to the log."""
        self.now = 100.0
        self.stalls = 0
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.watchdog = Watchdog(5.0, self.stalled, lambda: self.now)

    def stalled(self) -> None:
        """Count."""
        self.stalls += 1

    def pass_time(self, seconds: int) -> None:
        """Let time pass, with a look each second."""
        for _ in range(seconds):
            self.now += 1.0
            self.watchdog.look()

    def told(self) -> list[str]:
        """Give what was logged."""
        return [formatEvent(event) for event in self.logged]

    def test_healthy(self) -> None:
        """While the reactor turns nothing is said."""
        for _ in range(20):
            self.watchdog.turn()
            self.pass_time(4)
        self.assertEqual((0, []), (self.stalls, self.told()))

    def test_stalled(self) -> None:
        """It is told once, however long it lasts, with every thread's stack."""
        self.pass_time(4)
        self.assertEqual(0, self.stalls)
        self.pass_time(60)
        self.assertEqual(1, self.stalls)
        (event,) = self.logged
        self.assertIn("the reactor has not turned for 5.0 s", formatEvent(event))
        self.assertIn("test_stalled", "\n".join(event["log_lines"]))

    def test_recovered(self) -> None:
        """Its end is told, and the next one again."""
        self.pass_time(8)
        self.watchdog.turn()
        self.pass_time(1)
        self.assertIn("the reactor turns again, after 8.0 s", self.told()[-1])
        self.pass_time(5)
        self.assertEqual(2, self.stalls)

    def test_a_process_that_was_stopped(self) -> None:
        """Who did not run itself accuses nobody; the time counts from then on."""
        self.pass_time(1)
        self.now += 3600.0
        self.watchdog.look()
        self.assertEqual(0, self.stalls)
        self.pass_time(4)
        self.assertEqual(0, self.stalls)
        self.pass_time(1)
        self.assertEqual(1, self.stalls)

    def test_thread(self) -> None:
        """Its thread looks by itself at the thread that started it, and ends when told."""
        seen = threading.Event()
        watchdog = Watchdog(0.05, seen.set)
        watchdog.start()
        self.addCleanup(watchdog.stop)
        self.assertTrue(self.blocking_part(seen))
        (event,) = (e for e in self.logged if "function" in e)
        self.assertIn("blocking_part", event["function"])
        watchdog.stop()
        for thread in threading.enumerate():
            if thread.name == "oni-watchdog":
                thread.join(10)
                self.assertFalse(thread.is_alive())

    def blocking_part(self, seen: threading.Event) -> bool:
        """Block, as a handler should not."""
        return seen.wait(10)


class StackTests(SynchronousTestCase):
    """Which function a thread is in."""

    def test_culprit(self) -> None:
        """The innermost function is named, and the application's that called it."""
        began, end = threading.Event(), threading.Event()

        def handler_that_blocks() -> None:
            began.set()
            end.wait(10)

        thread = threading.Thread(target=handler_that_blocks, name="a-handler")
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(end.set)
        self.assertTrue(began.wait(10))
        said = culprit(thread.ident or 0)
        self.assertIn("handler_that_blocks", said)
        self.assertIn("test_watchdog.py:", said)
        lines = stack_lines()
        self.assertIn("thread a-handler:", lines)

    def test_a_thread_that_has_ended(self) -> None:
        """There is nothing to name."""
        self.assertEqual("a thread that has ended", culprit(-1))
