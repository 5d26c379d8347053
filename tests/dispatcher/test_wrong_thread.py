"""One thread at a time: refused while an event is active in another thread, fine when idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from oni.errors import WrongThreadError
from tests.dispatcher.running import RunningCase


class ThreadTests(RunningCase):
    """Calls from several threads."""

    def in_thread(self, call: Callable[[], Any]) -> Any:
        """Call something in another thread; give its result, or the error that it raised."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(call())
            except WrongThreadError as error:
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(5)
        return results[0]

    def refused(self, call: Callable[[], Any]) -> bool:
        """Say whether a call from another thread is refused."""
        return isinstance(self.in_thread(call), WrongThreadError)

    def test_every_method_while_an_event_waits(self) -> None:
        """While an event runs, no other thread may use the dispatcher."""
        gates = self.wait()
        done = self.start()
        for call in (
            lambda: self.dispatcher.fire_event("event"),
            lambda: self.dispatcher.add_event_handler(print, "during"),
            lambda: self.dispatcher.remove_event_handler(1),
            lambda: self.dispatcher.next_event(),
            lambda: self.dispatcher.start(),
            lambda: self.dispatcher.stop(),
            lambda: self.dispatcher.add_phase("last"),
            lambda: self.dispatcher.remove_phase("after"),
            lambda: self.dispatcher.add_match_spec_keyword("colour"),
            lambda: self.dispatcher.remove_match_spec_keyword("role"),
            lambda: self.dispatcher.handlers(),
            lambda: self.dispatcher.matching(),
        ):
            self.assertTrue(self.refused(call), call.__code__.co_names)
        self.assertEqual((self.heard, len(self.dispatcher.handlers())), (["event"], 1))
        gates[0].callback(None)
        self.successResultOf(done)

    def test_while_a_handler_is_called(self) -> None:
        """So it is while a handler is being called, and the event never has to wait."""
        self.add(lambda event: self.refused(lambda: self.dispatcher.fire_event("event")))
        self.assertEqual(self.fire().values, (True,))

    def test_error_names_the_way_out(self) -> None:
        """The error says what several threads go through."""
        self.assertIn("oni.blocking", str(WrongThreadError()))

    def test_idle(self) -> None:
        """An idle dispatcher may be used from any thread, one after the other."""
        self.note()
        self.fire("one")
        result = self.in_thread(lambda: self.successResultOf(self.dispatcher.fire_event("two")))
        self.assertEqual(result.event, "two")
        self.fire("three")
        self.assertEqual(self.heard, ["one", "two", "three"])

    def test_event_goes_on_in_another_thread(self) -> None:
        """One thread may fire, and another one call back the handlers' Deferreds."""
        gates = self.wait("gate")
        threads: list[int] = []
        self.add(lambda event: threads.append(threading.get_ident()), "after")
        done = self.start()
        there = self.in_thread(lambda: (gates[0].callback(None), threading.get_ident())[1])
        self.successResultOf(done)
        self.assertEqual(threads, [there])

    def test_thread_that_it_goes_on_in_counts(self) -> None:
        """The thread in which an event was last active is the one that may call."""
        first, second = self.wait("first", "before"), self.wait("second")
        done = self.start()
        self.in_thread(lambda: first[0].callback(None))
        self.assertRaises(WrongThreadError, self.dispatcher.fire_event, "event")
        second[0].callback(None)
        self.successResultOf(done)
        self.fire_after(done)

    def fire_after(self, done: Deferred[Any]) -> None:
        """Fire when the event before has ended: fine in any thread."""
        result = self.in_thread(lambda: self.dispatcher.matching())
        self.assertEqual(len(result), 2)

    def test_queued_event_starts_in_the_thread_that_ends_the_one_before(self) -> None:
        """So the queue goes on where the event before it ends."""
        gates = self.wait()
        self.start("first")
        self.start("second")
        self.in_thread(lambda: gates[0].callback(None))
        self.assertEqual(self.heard, ["first", "second"])
        self.assertRaises(WrongThreadError, self.dispatcher.fire_event, "event")
        self.in_thread(lambda: gates[1].callback(None))

    def test_looking_is_allowed(self) -> None:
        """What is pending, and the counters, may be asked for from any thread."""
        gates = self.wait()
        self.start()
        self.assertEqual(len(self.in_thread(lambda: self.dispatcher.pending())), 1)
        counters = self.in_thread(lambda: self.dispatcher.statistics())
        self.assertEqual(counters["events_running"], 1)
        self.assertEqual(self.in_thread(lambda: self.dispatcher.state), "started")
        gates[0].callback(None)

    def test_dead_handler_is_cleaned_up_by_its_own_thread(self) -> None:
        """A weak handler that dies in another thread only notes it; the next call cleans up."""

        def handler(event: Any) -> None:
            self.heard.append("called")

        holder = [handler]
        self.add(handler, use_weakref=True)
        self.fire()
        del handler
        self.in_thread(lambda: holder.clear())
        self.fire()
        self.assertEqual(self.heard, ["called"])
        self.assertEqual(self.dispatcher.handlers(), [])
