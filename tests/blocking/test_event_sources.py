"""The blocking face of event sources: one crossing for each call, whatever it is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.exceptions import Invalid

from oni.blocking import BlockingEventSources
from oni.errors import CallTimeoutError, InvalidTimeoutError, ReactorThreadError
from oni.sources import EventSources
from oni.values import Event
from tests.blocking.pump import PumpTestCase


class Sources(EventSources):
    """Event sources that say what they were asked for, and by which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.answer: Any = None

    def _note(self, *what: Any) -> Deferred[Any]:
        self.asked.append(what)
        self.thread = threading.current_thread()
        answer = self.answer
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def start(self) -> Deferred[None]:
        """Note it."""
        return self._note("start")

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Note it."""
        return self._note("stop", timeout)

    def only_new_events(self, events: Any) -> Any:
        """Note it."""
        return self._note("only_new_events", events)

    def process_events(self, events: Any) -> Any:
        """Note it."""
        return self._note("process_events", events)


class FaceTests(PumpTestCase):
    """Each method does its work in the reactor's thread."""

    def setUp(self) -> None:
        """Put a face on event sources."""
        super().setUp()
        self.sources = Sources()
        self.face = BlockingEventSources(self.sources, thread=self.thread)

    def test_events_are_made_in_the_callers_thread(self) -> None:
        """A generator runs where it is given; its events cross together, and once."""
        threads: list[threading.Thread] = []

        def events() -> Iterator[Event]:
            for key in ("a", "b"):
                threads.append(threading.current_thread())
                yield Event(group="g", key=key)

        for method in ("only_new_events", "process_events"):
            self.sources.answer = [method]
            before = self.pump.crossings
            self.assertEqual(getattr(self.face, method)(events()), [method])
            self.assertEqual(self.pump.crossings, before + 1)
            (name, given) = self.sources.asked.pop()
            self.assertEqual((name, [event.key for event in given]), (method, ["a", "b"]))
        self.assertEqual(set(threads), {threading.current_thread()})
        self.assertIsNot(self.sources.thread, threading.current_thread())

    def test_start_and_stop(self) -> None:
        """They are the sources' own."""
        self.face.start()
        self.face.stop()
        self.face.stop(3.0)
        self.assertEqual(self.sources.asked, [("start",), ("stop", None), ("stop", 3.0)])
        self.assertIs(self.face.sources, self.sources)
        self.assertIn("BlockingEventSources(", repr(self.face))

    def test_failure(self) -> None:
        """What a Deferred fails with is raised."""
        self.sources.answer = RuntimeError("away")
        with self.assertRaisesRegex(RuntimeError, "away"):
            self.face.process_events([])

    def test_no_answer(self) -> None:
        """A call without an answer is given up in time, and cancelled; a stop has its own time."""
        face = BlockingEventSources(self.sources, timeout=0.05, thread=self.thread)
        cancelled = threading.Event()
        for call in (lambda: face.process_events([]), lambda: face.stop(0.05)):
            cancelled.clear()
            self.sources.answer = Deferred(lambda _: cancelled.set())
            with self.assertRaises(CallTimeoutError):
                call()
            self.assertTrue(cancelled.wait(5))

    def test_reactors_thread(self) -> None:
        """It is refused where it would wait for itself."""

        def call() -> Exception:
            try:
                self.face.process_events([])
            except ReactorThreadError as error:
                return error
            raise AssertionError

        self.assertIsInstance(self.pump.run(call), ReactorThreadError)

    def test_what_is_refused(self) -> None:
        """Something else than event sources, or a time that is none, is refused at once."""
        with self.assertRaises(Invalid):
            BlockingEventSources(object(), thread=self.thread)  # type: ignore[call-overload]
        with self.assertRaises(InvalidTimeoutError):
            BlockingEventSources(self.sources, timeout=0)
