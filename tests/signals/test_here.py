"""Signals that are sent in the caller's thread, whichever it is."""

from __future__ import annotations

import gc
import threading
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import EventAbortedError
from oni.signals import Signal, models
from oni.values import Phase


class Sender:
    """Something that sends."""


class HereTests(SynchronousTestCase):
    """``send_here``."""

    def setUp(self) -> None:
        """Make a signal, and somebody who sends it."""
        self.signal = Signal("tested")
        self.sender = Sender()
        self.heard: list[Any] = []

    def hear(self, sender: Any, **what: Any) -> str:
        """Be a receiver."""
        self.heard.append((sender, what, threading.get_ident()))
        return "heard"

    def test_called(self) -> None:
        """Receivers are called in this thread before it returns, with what was sent."""
        self.signal.connect(self.hear, sender=self.sender)
        result = self.signal.send_here(self.sender, number=7)
        self.assertEqual(("heard",), result.values)
        self.assertEqual([(self.sender, {"number": 7}, threading.get_ident())], self.heard)
        self.assertEqual((), self.signal.send_here(Sender()).values)

    def test_failures(self) -> None:
        """One that fails is logged and in the result, and stops no other."""

        def fails(sender: Any) -> None:
            raise ValueError("not this")

        self.signal.connect(fails)
        self.signal.connect(self.hear)
        result = self.signal.send_here(self.sender)
        self.assertEqual((1, ("heard",)), (len(result.failures), result.values))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_phase_that_aborts(self) -> None:
        """In such a phase it is raised."""
        signal = Signal(phases=[Phase("before", on_error="abort")])

        def fails(sender: Any) -> None:
            raise ValueError("not this")

        signal.connect(fails)
        self.assertRaises(EventAbortedError, signal.send_here, self.sender)

    def test_nothing_is_waited_for(self) -> None:
        """A Deferred that has fired counts; what has to be waited for has failed."""

        async def later(sender: Any) -> None:
            raise AssertionError("is never begun")

        def give(value: Any) -> Any:
            def receiver(sender: Any) -> Any:
                return value

            self.signal.connect(receiver, weak=False)

        give(succeed("done"))
        give(fail(ValueError("failed")))
        give(Deferred())
        self.signal.connect(later)
        result = self.signal.send_here(self.sender)
        self.assertEqual(("done",), result.values)
        kinds = [failure.type for failure in result.failures]
        self.assertEqual([ValueError, TypeError, TypeError], kinds)
        self.assertEqual(3, len(self.flushLoggedErrors(ValueError, TypeError)))

    def test_threads_at_once(self) -> None:
        """Several threads send at once, and none waits for another's receivers."""
        together = threading.Barrier(3, timeout=30)
        self.signal.connect(lambda sender: together.wait(), weak=False)
        threads = [
            threading.Thread(target=self.signal.send_here, args=(self.sender,)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        together.wait()
        for thread in threads:
            thread.join(30)
        self.assertFalse(together.broken)

    def test_senders_that_have_died(self) -> None:
        """Their receivers are not called for another that has their place in memory."""
        sender: Sender | None = Sender()
        self.signal.connect(self.hear, sender=sender)
        self.assertTrue(self.signal.has_receivers)
        del sender
        gc.collect()
        self.signal.send_here(self.sender)
        self.assertEqual((False, []), (self.signal.has_receivers, self.heard))

    def test_has_receivers(self) -> None:
        """It is known whether somebody is there."""
        self.assertFalse(self.signal.has_receivers)
        self.signal.connect(self.hear)
        self.assertTrue(self.signal.has_receivers)
        self.signal.disconnect(self.hear)
        self.assertFalse(self.signal.has_receivers)

    def test_those_of_models(self) -> None:
        """They are two, and have nobody."""
        for signal in (models.post_save, models.post_delete):
            self.assertIsInstance(signal, Signal)
            self.assertFalse(signal.has_receivers)
