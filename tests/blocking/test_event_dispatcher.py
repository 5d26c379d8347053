"""The blocking face: the dispatcher's methods as plain calls from another thread."""

from __future__ import annotations

import gc
import inspect
import threading
import weakref
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python import threadable
from zope.interface.exceptions import Invalid
from zope.interface.interface import Method

from oni.blocking import BlockingEventDispatcher
from oni.blocking._reactor_thread import reactor_thread
from oni.dispatcher import EventDispatcher, ThreadLimit, in_thread
from oni.errors import (
    CallTimeoutError,
    DispatcherStoppedError,
    EventAbortedError,
    InvalidTimeoutError,
    ReactorThreadError,
    StopTimeoutError,
    UnknownHandlerError,
    UnknownKeywordError,
    UnknownPhaseError,
)
from oni.interfaces import IEventDispatcher
from oni.values import EventResult, Phase
from tests.blocking.pump import PumpTestCase

METHODS = {name for name in IEventDispatcher if isinstance(IEventDispatcher[name], Method)}


class FaceTestCase(PumpTestCase):
    """Has a started dispatcher and a face on it."""

    def setUp(self) -> None:
        """Start the dispatcher through its face."""
        super().setUp()
        self.clock = Clock()
        self.dispatcher = EventDispatcher(("user", "role"), reactor=self.clock)
        self.face = self.make_face()
        self.face.start()
        self.calls: list[Any] = []

    def make_face(self, timeout: float | None = 5.0) -> BlockingEventDispatcher:
        """Make a face on the dispatcher, on the pump's thread."""
        return BlockingEventDispatcher(self.dispatcher, timeout, thread=self.thread)


class MethodTests(FaceTestCase):
    """Each method of the interface does its work, and needs one crossing for it."""

    def test_all_methods_are_there(self) -> None:
        """Every method of IEventDispatcher exists, with the same arguments."""
        for name in METHODS:
            method = IEventDispatcher[name]
            signature = inspect.signature(getattr(BlockingEventDispatcher, name))
            ours = [p for p in signature.parameters.values() if p.name != "self"]
            named = [p.name for p in ours if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
            info = method.getSignatureInfo()
            theirs = [*info["positional"], *info.get("kwonly", ())]
            keyword_only = {"times", "timeout"} if name == "add_event_handler" else set()
            self.assertEqual([n for n in named if n not in keyword_only], theirs, name)
            has_keywords = any(p.kind is p.VAR_KEYWORD for p in ours)
            self.assertEqual(has_keywords, bool(info["kwargs"]), name)

    def test_handlers_come_and_go(self) -> None:
        """add_event_handler gives an id, and remove_event_handler takes it."""
        handler_id = self.face.add_event_handler(self.calls.append, "during", role="admin")
        self.face.fire_event(1, role="admin")
        self.face.fire_event(2, role="user")
        self.assertEqual(
            [(h.handler_id, h.match_spec) for h in self.face.handlers()],
            [(handler_id, {"role": "admin"})],
        )
        self.assertEqual(len(self.face.matching(role="admin")), 1)
        self.assertEqual(len(self.face.matching(role="user")), 0)
        self.assertIsNone(self.face.remove_event_handler(handler_id))
        self.face.fire_event(3, role="admin")
        self.assertEqual(self.calls, [1])

    def test_any_keyword_may_be_a_detail(self) -> None:
        """Keywords that are called like our own arguments are details like all others."""
        names = ("self", "name", "method", "event", "phase", "listen_fn", "func")
        for name in names:
            self.face.add_match_spec_keyword(name)
        details = dict.fromkeys(names, 1)
        self.face.add_event_handler(self.calls.append, "during", **details)
        self.assertEqual(len(self.face.matching(**details)), 1)
        self.face.fire_event("event", **details)
        self.assertEqual(self.calls, ["event"])
        waiting = threading.Timer(0.05, lambda: self.face.fire_event("next", **details))
        waiting.start()
        self.assertEqual(self.face.next_event(**details), "next")
        waiting.join(5)

    def test_result(self) -> None:
        """fire_event gives the result, when every Deferred has fired."""
        self.face.add_event_handler(lambda event: succeed(event + 1), "during")
        self.face.add_event_handler(lambda event: event + 2, "after")
        result = self.face.fire_event(10)
        self.assertIsInstance(result, EventResult)
        self.assertEqual(result.values, (11, 12))

    def test_handlers_run_in_the_reactors_thread(self) -> None:
        """A handler never runs in the caller's thread."""
        self.face.add_event_handler(lambda _: self.calls.append(threading.get_ident()), "during")
        self.face.fire_event(1)
        self.assertEqual(self.calls, [threadable.ioThread])

    def test_registers_strongly(self) -> None:
        """A handler that nobody else holds stays; use_weakref=True asks for the opposite."""

        def strong(event: Any) -> None:
            self.calls.append(event)

        def weak(event: Any) -> None:
            self.calls.append(-event)

        self.face.add_event_handler(strong, "during")
        self.face.add_event_handler(weak, "during", True)
        self.assertEqual([h.weak for h in self.face.handlers()], [False, True])
        gone = weakref.ref(weak)
        del strong, weak
        gc.collect()
        self.assertIsNone(gone())
        self.face.fire_event(1)
        self.assertEqual(self.calls, [1])

    def test_times_and_timeout_belong_to_the_handler(self) -> None:
        """They reach the dispatcher as they are."""
        self.face.add_event_handler(self.calls.append, "during", times=2, timeout=1.5)
        (info,) = self.face.handlers()
        self.assertEqual((info.remaining, info.timeout), (2, 1.5))

    def test_next_event(self) -> None:
        """next_event gives the next event that fits, in the phase that was named."""
        timer = threading.Timer(
            0.05, lambda: [self.face.fire_event(u, user=u) for u in ("eve", "bob")]
        )
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(self.face.next_event("after", user="bob"), "bob")

    def test_keywords_and_phases_change(self) -> None:
        """Keywords and phases are added and removed."""
        self.face.add_match_spec_keyword("city")
        self.face.fire_event(1, city="Oslo")
        self.face.remove_match_spec_keyword("city")
        self.assertRaises(UnknownKeywordError, self.face.fire_event, 1, city="Oslo")
        self.face.add_phase(Phase("check"), before="during")
        self.face.add_phase("log", after="check")
        names = [phase.name for phase in self.dispatcher.phases]
        self.assertEqual(names, ["before", "check", "log", "during", "after"])
        self.face.remove_phase("check")
        self.assertRaises(UnknownPhaseError, self.face.remove_phase, "check")

    def test_introspection(self) -> None:
        """What runs is shown by pending and statistics."""
        gate: Deferred[None] = Deferred()
        self.face.add_event_handler(lambda _: gate, "during")
        self.pump.run(lambda: self.dispatcher.fire_event("slow") and None)
        self.assertEqual([p.event for p in self.face.pending()], ["slow"])
        self.assertEqual(self.face.statistics()["events_running"], 1)
        self.pump.run(lambda: gate.callback(None))
        self.assertEqual(list(self.face.pending()), [])

    def test_stop(self) -> None:
        """The dispatcher is quiescent when stop returns, and start begins again."""
        self.face.stop()
        self.assertEqual(self.dispatcher.state, "stopped")
        self.face.start()
        self.assertEqual(self.dispatcher.state, "started")

    def test_one_crossing_per_call(self) -> None:
        """Each method crosses into the reactor's thread exactly once."""
        face = self.face
        waiting = threading.Timer(0.05, lambda: self.dispatcher and face.fire_event(0))
        handler_id = face.add_event_handler(self.calls.append, "during")
        steps = {
            "start": face.start,
            "add_event_handler": lambda: face.add_event_handler(print, "during", user="nobody"),
            "fire_event": lambda: face.fire_event(1, user="bob"),
            "remove_event_handler": lambda: face.remove_event_handler(handler_id),
            "add_match_spec_keyword": lambda: face.add_match_spec_keyword("city"),
            "remove_match_spec_keyword": lambda: face.remove_match_spec_keyword("city"),
            "add_phase": lambda: face.add_phase("last"),
            "remove_phase": lambda: face.remove_phase("last"),
            "handlers": face.handlers,
            "matching": lambda: face.matching(user="bob"),
            "pending": face.pending,
            "statistics": face.statistics,
            "next_event": lambda: (waiting.start(), face.next_event()),
            "stop": face.stop,
        }
        self.assertEqual(set(steps), METHODS)
        for name, step in steps.items():
            before = self.pump.crossings
            step()
            fires_beside = 1 if name == "next_event" else 0
            self.assertEqual(self.pump.crossings - before - fires_beside, 1, name)
        waiting.join()

    def test_ten_handlers_one_crossing(self) -> None:
        """An event with ten handlers that return Deferreds crosses once, as one without does."""
        for _ in range(10):
            self.face.add_event_handler(lambda event: succeed(event), "during")
        before = self.pump.crossings
        self.assertEqual(len(self.face.fire_event(1)), 10)
        self.assertEqual(self.pump.crossings - before, 1)

    def test_details_with_any_name(self) -> None:
        """Details may be called as this module's own arguments are."""
        names = ("name", "method", "event", "self_", "function", "phase", "seconds")
        for name in names:
            self.face.add_match_spec_keyword(name)
        details = dict.fromkeys(names, 1)
        self.face.add_event_handler(self.calls.append, "during", **details)
        self.assertEqual(len(self.face.fire_event(1, **details)), 1)
        self.assertEqual(len(self.face.matching(**details)), 1)


class ErrorTests(FaceTestCase):
    """The dispatcher's errors reach the caller with their own types."""

    def test_raised_at_once(self) -> None:
        """What the dispatcher raises, and what it hands over in a Deferred, are both raised."""
        self.assertRaises(UnknownKeywordError, self.face.add_event_handler, print, "during", x=1)
        self.assertRaises(UnknownPhaseError, self.face.add_event_handler, print, "never")
        self.assertRaises(UnknownHandlerError, self.face.remove_event_handler, 99)
        self.assertRaises(UnknownKeywordError, self.face.fire_event, 1, x=1)

    def test_aborted(self) -> None:
        """An aborted event raises the error that carries every failure."""

        def refuse(event: Any) -> None:
            raise PermissionError(event)

        self.face.add_phase(Phase("check", on_error="abort"), before="before")
        self.face.add_event_handler(refuse, "check")
        with self.assertRaises(EventAbortedError) as caught:
            self.face.fire_event("bob")
        self.assertEqual([f.type for f in caught.exception.failures], [PermissionError])
        self.flushLoggedErrors(PermissionError)

    def test_waiting_for_a_dispatcher_that_stops(self) -> None:
        """next_event ends with the dispatcher's own error when it stops."""
        timer = threading.Timer(0.05, self.face.stop)
        timer.start()
        self.addCleanup(timer.join)
        self.assertRaises(DispatcherStoppedError, self.face.next_event)

    def test_in_the_reactors_thread(self) -> None:
        """In a handler, in the reactor's thread, the face is refused; it does not deadlock."""
        self.face.add_event_handler(lambda event: self.face.fire_event(event), "during", times=1)
        (failure,) = self.face.fire_event(1).failures
        self.assertIs(failure.type, ReactorThreadError)
        self.flushLoggedErrors(ReactorThreadError)

    def test_refuses_what_is_no_dispatcher(self) -> None:
        """The mistake is found where it is made."""
        self.assertRaises(Invalid, BlockingEventDispatcher, object())

    def test_refuses_bad_time_limits(self) -> None:
        """Zero, negative, infinite, NaN and non-numbers are refused; None is for ever."""
        for bad in (0, -1, float("nan"), float("inf"), "5", True):
            with self.assertRaises(InvalidTimeoutError):
                BlockingEventDispatcher(self.dispatcher, bad)  # type: ignore[arg-type]
        self.assertIsNone(BlockingEventDispatcher(self.dispatcher, None).timeout)

    def test_defaults(self) -> None:
        """A face waits five seconds, and reaches the process's own reactor."""
        face = BlockingEventDispatcher(self.dispatcher)
        self.assertEqual((face.timeout, face.dispatcher), (5.0, self.dispatcher))
        self.assertIs(face._thread, reactor_thread)
        self.assertIn("timeout=5.0", repr(face))


class TimeoutTests(FaceTestCase):
    """A call that takes too long leaves nothing behind."""

    def test_queued_event_is_removed(self) -> None:
        """An event that waits for its turn at the timeout is never handled."""
        gate: Deferred[None] = Deferred()
        self.face.add_event_handler(lambda e: gate if e == "slow" else None, "during")
        self.face.add_event_handler(self.calls.append, "after")
        self.pump.run(lambda: self.dispatcher.fire_event("slow") and None)
        with self.assertRaises(CallTimeoutError):
            self.make_face(0.05).fire_event("queued")
        self.assertEqual([p.event for p in self.face.pending()], ["slow"])
        self.pump.run(lambda: gate.callback(None))
        self.assertEqual(self.face.fire_event("later").state, "started")
        self.assertEqual(self.calls, ["slow", "later"])

    def test_running_event_is_cancelled(self) -> None:
        """A running event's handlers are cancelled, and the next event has its turn."""
        hung: Deferred[None] = Deferred(lambda _: self.calls.append("cancelled"))
        self.face.add_event_handler(lambda _: hung, "during", times=1)
        with self.assertRaises(CallTimeoutError) as caught:
            self.make_face(0.05).fire_event("slow")
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertEqual(len(self.face.fire_event("next")), 0)
        self.assertEqual(self.calls, ["cancelled"])

    def test_wait_for_an_event_ends(self) -> None:
        """A next_event that timed out is not registered any more."""
        with self.assertRaises(CallTimeoutError):
            self.make_face(0.05).next_event(user="bob")
        self.assertEqual(list(self.face.handlers()), [])

    def test_patience_of_stop(self) -> None:
        """With a timeout, stop waits for that of the dispatcher beside its own."""
        hung: Deferred[None] = Deferred(lambda _: self.calls.append("cancelled"))
        self.face.add_event_handler(lambda _: hung, "during")
        self.pump.run(lambda: self.dispatcher.fire_event("hangs").addErrback(lambda _: None))
        timer = threading.Timer(0.2, self.pump.callFromThread, (self.clock.advance, 31))
        timer.start()
        self.addCleanup(timer.join)
        with self.assertRaises(StopTimeoutError):
            self.make_face(0.05).stop(30)
        self.assertEqual((self.calls, self.dispatcher.state), (["cancelled"], "stopped"))


class NestedTests(FaceTestCase):
    """A handler in a pool thread may fire through the face."""

    def test_fire_from_in_thread_is_nested(self) -> None:
        """It runs inside its parent's turn: no deadlock behind its own event."""
        limit = ThreadLimit(2, reactor=self.pump)
        order: list[tuple[Any, str]] = []

        def fire_another(event: Any) -> Any:
            result = self.face.fire_event("inner", user="bob")
            order.append(("inner has ended", ""))
            return result.values

        def see(event: Any) -> str:
            order.append((event, [p.state for p in self.dispatcher.pending()][-1]))
            return "seen"

        self.face.add_event_handler(in_thread(fire_another, limit), "before", role="admin")
        self.face.add_event_handler(see, "during")
        result = self.face.fire_event("outer", role="admin")
        self.assertEqual(
            order, [("inner", "nested"), ("inner has ended", ""), ("outer", "running")]
        )
        self.assertEqual(result.values, (("seen",), "seen"))
