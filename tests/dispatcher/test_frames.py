"""The frames that the context variable holds."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher._frames import Frame, ancestors, current_frame, new_frame


class FrameTests(SynchronousTestCase):
    """What is nested in what, as far as it still runs."""

    def make(self, parent: Frame | None = None, event: Any = "event") -> Frame:
        """Give a frame of an event that runs."""
        return new_frame("engine", event, {}, parent, [])

    def test_ancestors(self) -> None:
        """A frame comes first, then those it is nested in."""
        outer = self.make()
        middle = self.make(outer)
        inner = self.make(middle)
        self.assertEqual(list(ancestors(inner)), [inner, middle, outer])
        self.assertEqual(list(ancestors(None)), [])

    def test_ended_ones_are_left_out(self) -> None:
        """Frames of events that have ended are passed over, wherever they stand."""
        outer = self.make()
        middle = self.make(outer)
        inner = self.make(middle)
        middle.empty()
        self.assertEqual(list(ancestors(inner)), [inner, outer])
        inner.empty()
        self.assertEqual(list(ancestors(inner)), [outer])
        outer.empty()
        self.assertEqual(list(ancestors(inner)), [])

    def test_empty_keeps_nothing(self) -> None:
        """An emptied frame keeps neither its event nor ended frames."""

        class Event:
            pass

        event = Event()
        dies = weakref.ref(event)
        outer = self.make()
        frame = self.make(outer, event)
        frame.run = frame.outer = event
        frame.parts = [event]
        outer.empty()
        frame.empty()
        del event
        gc.collect()
        self.assertIsNone(dies())
        self.assertIsNone(frame.parent)

    def test_chain_of_ended_frames_is_cut(self) -> None:
        """A background task that fires again and again grows no chain of ended frames."""
        frame: Frame | None = None
        for _ in range(1_000):
            frame = self.make(frame)
            frame.empty()
        length = 0
        while frame is not None:
            length += 1
            frame = frame.parent
        self.assertEqual(length, 1)

    def test_outside(self) -> None:
        """Outside every handler there is none."""
        self.assertIsNone(current_frame.get())
