"""Weak and strong registration, N-shot handlers, results, and changes while an event is fired."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from oni.dispatcher import one_of, regex
from oni.dispatcher._registration import WEAK, Registration
from oni.errors import DispatcherStoppedError, EventAbortedError, UnknownPhaseError
from oni.twisted_event_dispatcher import Phase
from tests.dispatcher.cases import DispatcherCase


class Listener:
    """Something with handlers that notes what it heard."""

    def __init__(self, heard: list[Any]) -> None:
        self.heard = heard

    def method(self, event: Any) -> None:
        """Note the event."""
        self.heard.append(event)

    async def coroutine(self, event: Any) -> None:
        """Note the event."""
        self.heard.append(event)

    __call__ = method


class WeakTests(DispatcherCase):
    """Handlers are held weakly unless said otherwise; a dead one goes, and leaves nothing."""

    def test_default(self) -> None:
        """Weak is the default, by name and by place."""
        listener = Listener(self.heard)
        self.dispatcher.add_event_handler(listener.method, "during")
        self.dispatcher.add_event_handler(listener.method, "during", True)
        self.dispatcher.add_event_handler(listener.method, "during", False)
        weak = [info.weak for info in self.dispatcher.handlers()]
        self.assertEqual(weak, [True, True, False])

    def test_method_lives_with_its_instance(self) -> None:
        """A method is called as long as its instance lives."""
        listener = Listener(self.heard)
        self.add(listener.method, use_weakref=True)
        gc.collect()
        self.assertEqual(self.fired(), ["event"])

    def test_every_kind_dies(self) -> None:
        """Each kind of handler goes with what it belongs to, whatever its spec and limits."""

        def function() -> tuple[Any, Any]:
            def handler(event: Any) -> None:
                self.heard.append(event)

            return handler, handler

        def coroutine() -> tuple[Any, Any]:
            async def handler(event: Any) -> None:
                self.heard.append(event)

            return handler, handler

        def partial() -> tuple[Any, Any]:
            handler = functools.partial(self.heard.append)
            return handler, handler

        def instance() -> tuple[Any, Any]:
            listener = Listener(self.heard)
            return listener, listener

        def method() -> tuple[Any, Any]:
            listener = Listener(self.heard)
            return listener.method, listener

        def coroutine_method() -> tuple[Any, Any]:
            listener = Listener(self.heard)
            return listener.coroutine, listener

        for make in (function, coroutine, partial, instance, method, coroutine_method):
            for arguments in (
                {},
                {"user": "bob"},
                {"user": one_of("bob", "ann"), "role": regex("a")},
                {"times": 3},
            ):
                self.dispatcher = self.make()
                handler, owner = make()
                self.add(handler, use_weakref=True, **arguments)
                del handler
                self.assertEqual(self.fired(user="bob", role="admin"), ["event"])
                dead = weakref.ref(owner)
                del owner
                self.assertIsNone(dead(), f"{make.__name__} is kept alive")
                self.assertEqual(self.fired(user="bob", role="admin"), [])
                self.assert_nothing_left()
                self.assertEqual(self.dispatcher.statistics()["handlers_died"], 1)
        self.assertEqual(self.warnings(), [])

    def test_strong_is_kept(self) -> None:
        """A strongly held handler stays, and goes with its removal."""
        listener = Listener(self.heard)
        dead = weakref.ref(listener)
        handler_id = self.add(listener.method, use_weakref=False)
        del listener
        self.assertEqual(self.fired(), ["event"])
        self.remove(handler_id)
        gc.collect()
        self.assertIsNone(dead())

    def test_removed_one_is_not_counted_dead(self) -> None:
        """A handler that dies after its removal is no news."""
        listener = Listener(self.heard)
        handler_id = self.add(listener.method, use_weakref=True)
        self.remove(handler_id)
        del listener
        self.fire()
        self.assertEqual(self.dispatcher.statistics()["handlers_died"], 0)
        self.assertEqual(self.warnings(), [])

    def test_lambda_is_warned_of(self) -> None:
        """A lambda dies at once: a warning says where it was registered and how to keep it."""
        self.dispatcher.add_event_handler(lambda event: self.heard.append(event), "during")
        self.assertEqual(self.fired(), [])
        (text,) = self.warnings()
        self.assertIn("<lambda>", text)
        self.assertRegex(text, r"test_registration\.py:\d+")
        self.assertIn("use_weakref=False", text)
        self.fire()
        self.assertEqual(self.warnings(), [])

    def test_every_call_cleans(self) -> None:
        """Any next call cleans up, not only a fire."""
        calls: list[Callable[[], object]] = [
            self.dispatcher.handlers,
            self.dispatcher.matching,
            lambda: self.hear("x", times=1),
            lambda: self.dispatcher.add_phase("late"),
        ]
        for call in calls:
            self.dispatcher.add_event_handler(lambda event: None, "during")
            call()
            self.assertEqual(len(self.warnings()), 1, call)

    def test_no_warning_once_it_fired(self) -> None:
        """One that was called before its death is not warned of."""
        listener = Listener(self.heard)
        self.add(listener.method, use_weakref=True)
        self.fire()
        del listener
        self.fire()
        self.assertEqual(self.warnings(), [])

    def test_warning_if_no_event_reached_it(self) -> None:
        """One that only other events passed by is warned of."""
        listener = Listener(self.heard)
        self.add(listener.method, use_weakref=True, user="ann")
        self.fire(user="bob")
        del listener
        self.fire(user="ann")
        self.assertEqual(len(self.warnings()), 1)

    def test_dies_while_fired(self) -> None:
        """One that dies before its turn is left out of the result."""
        for attribute in ("method", "coroutine", "__call__"):
            self.dispatcher = self.make()
            owners = [Listener(self.heard)]
            first = self.add(lambda event, owners=owners: owners.clear())
            handler = owners[0] if attribute == "__call__" else getattr(owners[0], attribute)
            self.add(handler, use_weakref=True)
            del handler
            last = self.hear("last")
            result = self.fire()
            self.assertEqual([o.handler_id for o in result], [first, last])
            self.assertEqual(result.failures, ())
        self.assertEqual(self.heard, ["last"] * 3)

    def test_dies_before_its_first_turn(self) -> None:
        """One that dies in an event that would have reached it first was never called."""
        for attribute in ("method", "coroutine", "__call__"):
            for phase in ("during", "after"):
                self.dispatcher = self.make()
                owners = [Listener(self.heard)]
                self.add(lambda event, owners=owners: owners.clear())
                handler = owners[0] if attribute == "__call__" else getattr(owners[0], attribute)
                self.add(handler, phase, use_weakref=True)
                del handler
                self.fire()
                self.fire()
                self.assertEqual(len(self.warnings()), 1, attribute)

    def test_function_dies_while_fired(self) -> None:
        """A function and a coroutine function too, among others of their kind."""

        async def other(event: Any) -> None:
            self.heard.append("other")

        def kill(event: Any) -> None:
            del functions[:]

        async def victim(event: Any) -> None:
            self.heard.append("victim")

        functions: list[Any] = [lambda event: self.heard.append("victim"), victim]
        del victim
        self.add(kill, use_weakref=True)
        for function in functions:
            self.add(function, use_weakref=True)
        del function
        self.add(other, use_weakref=True)
        result = self.fire()
        self.assertEqual(self.heard, ["other"])
        self.assertEqual([o.handler_id for o in result], [1, 4])

    def test_its_own_type_error_is_its_failure(self) -> None:
        """A handler's TypeError is a failure, not taken for a death."""

        def wrong(event: Any) -> None:
            raise TypeError("'NoneType' object is not callable")

        async def wrong_later(event: Any) -> None:
            raise TypeError("mine")

        def no_arguments() -> None:
            raise AssertionError("never called")

        for handler in (wrong, wrong_later, no_arguments, iter):
            self.add(handler, use_weakref=True)
        self.assertEqual(len(self.fire(5).failures), 4)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 4)

    def test_dies_in_another_thread(self) -> None:
        """A death in another thread changes nothing there: only a mark is left for this one."""
        owners = [Listener(self.heard)]
        self.add(owners[0].method, use_weakref=True, user="bob")
        tables = self.dispatcher._index._tables
        before = dict(tables)
        thread = threading.Thread(target=owners.clear)
        thread.start()
        thread.join()
        self.assertEqual(tables, before)
        self.assertEqual(len(self.dispatcher._index.dead), 1)
        self.assertEqual(self.fired(user="bob"), [])
        self.assert_nothing_left()

    def test_dies_in_another_thread_while_an_event_waits(self) -> None:
        """Such a death does not disturb an event that is active here."""
        gate: Deferred[None] = Deferred()
        owners = [Listener(self.heard)]
        self.add(lambda event: gate, "before")
        self.add(owners[0].method, use_weakref=True)
        fired = self.dispatcher.fire_event("event")
        thread = threading.Thread(target=owners.clear)
        thread.start()
        thread.join()
        gate.callback(None)
        self.assertEqual(len(self.successResultOf(fired)), 1)
        self.assertEqual(self.heard, [])

    def test_cycle_is_collected(self) -> None:
        """An owner in a reference cycle with its dispatcher goes with the collector."""

        class Owner:
            def __init__(self, case: WeakTests) -> None:
                self.dispatcher = case.make()
                self.dispatcher.add_event_handler(self.method, "during", user="bob")

            def method(self, event: Any) -> None:
                pass

        dead = weakref.ref(Owner(self))
        gc.collect()
        self.assertIsNone(dead())

    def test_nothing_is_kept_of_many(self) -> None:
        """A thousand short lives leave no registration in memory."""

        def count() -> int:
            gc.collect()
            return sum(type(each) is Registration for each in gc.get_objects())

        before = count()
        for number in range(1_000):
            listener = Listener(self.heard)
            self.add(listener.method, use_weakref=True, user=number)
            self.fire(user=number)
            del listener
        self.fire()
        self.assertEqual(count(), before)
        self.assert_nothing_left()


class TimesTests(DispatcherCase):
    """times=N: exactly N calls, then the handler removes itself."""

    def test_n_calls(self) -> None:
        """It is called N times and is gone after its last call."""
        self.hear("x", times=2)
        self.fire()
        (info,) = self.dispatcher.handlers()
        self.assertEqual((info.remaining, info.calls), (1, 1))
        self.fire()
        self.assert_nothing_left()
        self.fire()
        self.assertEqual(self.heard, ["x", "x"])

    def test_gone_before_it_is_called(self) -> None:
        """The claim is made before the call: in its last call it is registered no more."""
        seen: list[int] = []
        self.add(lambda event: seen.append(len(self.dispatcher.handlers())), times=1)
        self.fire()
        self.assertEqual(seen, [0])

    def test_others_events_do_not_count(self) -> None:
        """Only events that reach it count."""
        self.hear("x", times=1, user="bob")
        self.fire(user="ann")
        self.assertEqual(self.fired(user="bob"), ["x"])

    def test_nested(self) -> None:
        """Events fired from inside it never call it more often."""
        for times in (1, 2, 3):
            self.heard.clear()

            def handler(event: int) -> Any:
                self.heard.append(event)
                return self.dispatcher.fire_event(event + 1)

            self.add(handler, times=times)
            self.fire(1)
            self.assertEqual(self.heard, list(range(1, times + 1)))
            self.assert_nothing_left()

    def test_nested_before_its_turn(self) -> None:
        """One used up by a nested event is left out of the outer one."""

        def first(event: str) -> Any:
            return self.dispatcher.fire_event("inner") if event == "outer" else None

        self.add(first)
        once = self.add(self.heard.append, times=1)
        result = self.fire("outer")
        self.assertEqual(self.heard, ["inner"])
        self.assertNotIn(once, [o.handler_id for o in result])

    def test_concurrent(self) -> None:
        """Events that run at the same time share the count."""
        self.dispatcher = self.make(order_by=None)
        gates: list[Deferred[None]] = []

        def handler(event: Any) -> Deferred[None]:
            gates.append(Deferred())
            return gates[-1]

        self.add(handler, times=2)
        fired = [self.dispatcher.fire_event(n) for n in range(4)]
        self.assertEqual(len(gates), 2)
        for gate in gates:
            gate.callback(None)
        results = self.successResultOf(gatherResults(fired))
        self.assertEqual([len(result) for result in results], [1, 1, 0, 0])

    def test_concurrent_in_a_later_phase(self) -> None:
        """Events that were compiled before it was used up do not call it either."""
        self.dispatcher = self.make(order_by=None)
        gates: list[Deferred[None]] = []

        def wait(event: Any) -> Deferred[None]:
            gates.append(Deferred())
            return gates[-1]

        self.add(wait, "before")
        self.hear("once", times=1)
        fired = [self.dispatcher.fire_event(n) for n in range(3)]
        for gate in gates:
            gate.callback(None)
        self.successResultOf(gatherResults(fired))
        self.assertEqual(self.heard, ["once"])
        self.assertEqual([info.calls for info in self.dispatcher.handlers()], [3])

    def test_coroutine(self) -> None:
        """A coroutine claims its call when it starts."""
        self.dispatcher = self.make(order_by=None)
        gates: list[Deferred[None]] = [Deferred() for _ in range(3)]
        started: list[int] = []

        async def handler(event: int) -> None:
            started.append(event)
            await gates[event]

        self.add(handler, times=2)
        fired = [self.dispatcher.fire_event(n) for n in range(3)]
        self.assertEqual(started, [0, 1])
        for gate in gates:
            gate.callback(None)
        self.successResultOf(gatherResults(fired))
        self.assert_nothing_left()

    def test_failing_calls_count(self) -> None:
        """A call that fails is a call."""

        def handler(event: Any) -> None:
            raise ZeroDivisionError

        self.add(handler, times=1)
        self.assertEqual(len(self.fire().failures), 1)
        self.assert_nothing_left()
        self.flushLoggedErrors(ZeroDivisionError)

    def test_sequential_phase(self) -> None:
        """It holds in a sequential phase."""
        self.dispatcher = self.make(phases=(Phase("during", concurrent=False),))
        self.hear("a", times=1)
        self.hear("b")
        self.assertEqual(self.fired(), ["a", "b"])
        self.assertEqual(self.fired(), ["b"])
        self.assertEqual([info.calls for info in self.dispatcher.handlers()], [2])

    def test_skipped_by_an_abort(self) -> None:
        """An event that is aborted before its phase takes none of its calls."""
        self.dispatcher = self.make(phases=(Phase("before", on_error="abort"), "during"))
        refuse = self.add(lambda event: fail(ZeroDivisionError()), "before")
        self.hear("x", times=1)
        self.failing(self.dispatcher.fire_event("event"), EventAbortedError)
        self.remove(refuse)
        self.assertEqual(self.fired(), ["x"])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_claimed_while_it_is_fetched(self) -> None:
        """A garbage collection that fires an event just then takes no call twice."""
        given: list[Any] = []

        def handler(event: Any) -> None:
            """Be called."""

        def give() -> Any:
            if not given:
                given.append(handler)
                given.append(registration.slot())
            return handler

        place = (__file__, 1)
        registration = Registration(1, handler, "during", {}, False, 1, None, place, deque())
        registration.kind, registration.slot = WEAK, give
        registration.claim_before_call(lambda used_up: None)
        claimed = [registration.slot(), given[1]]
        self.assertEqual(claimed.count(handler), 1)
        self.assertEqual(registration.remaining, 0)

    def test_weak_and_n_shot(self) -> None:
        """A weak one that dies early takes no call and is warned of."""
        self.dispatcher.add_event_handler(lambda event: None, "during", times=2)
        self.assertEqual(len(self.fire()), 0)
        self.assertEqual(len(self.warnings()), 1)


class ResultTests(DispatcherCase):
    """What fire_event gives."""

    def test_call_order(self) -> None:
        """Outcomes are in call order: by phase, then by registration."""
        ids = [
            self.add(lambda event: "after", "after"),
            self.add(lambda event: "during"),
            self.add(lambda event: None),
            self.add(lambda event: "before", "before"),
        ]
        result = self.fire("hello", user="bob")
        self.assertEqual(
            [(o.handler_id, o.phase, o.value) for o in result.outcomes],
            [
                (ids[3], "before", "before"),
                (ids[1], "during", "during"),
                (ids[2], "during", None),
                (ids[0], "after", "after"),
            ],
        )
        self.assertEqual(result.values, ("before", "during", None, "after"))
        self.assertEqual((result.event, result.details), ("hello", {"user": "bob"}))
        self.assertTrue(result.dispatched)

    def test_falsy_values(self) -> None:
        """Values that are false are values."""
        for value in (0, "", False, [], ()):
            self.add(lambda event, value=value: value)
        self.assertEqual(self.fire().values, (0, "", False, [], ()))

    def test_late_results_keep_their_place(self) -> None:
        """Results that come later stand where their handlers were called."""
        gates: list[Deferred[str]] = [Deferred(), Deferred()]

        async def coroutine(event: Any) -> str:
            return await gates[1] + "!"

        self.add(lambda event: gates[0])
        self.add(lambda event: "now")
        self.add(coroutine)
        fired = self.dispatcher.fire_event("event")
        self.assertNoResult(fired)
        gates[1].callback("second")
        self.assertNoResult(fired)
        gates[0].callback("first")
        self.assertEqual(self.successResultOf(fired).values, ("first", "now", "second!"))

    def test_all_kinds_mixed(self) -> None:
        """Places hold across neighbours of different kinds, with failures between."""
        listener = Listener(self.heard)

        async def coroutine(event: Any) -> str:
            return "c"

        def function(event: Any) -> str:
            return "f"

        def wrong(event: Any) -> str:
            raise ZeroDivisionError

        handlers = [function, coroutine, listener.method, wrong, function, wrong, coroutine]
        for _ in range(3):
            for handler in handlers:
                self.add(handler, use_weakref=True)
            self.add(function, use_weakref=False)
        values = ["!" if o.failed else o.value for o in self.fire()]
        self.assertEqual(values, ["f", "c", None, "!", "f", "!", "c", "f"] * 3)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_is_not_changed_later(self) -> None:
        """Later changes of the handlers do not change a result."""
        handler_id = self.add(lambda event: "value")
        result = self.fire()
        self.remove(handler_id)
        self.hear("other")
        self.assertEqual([o.handler_id for o in result], [handler_id])
        self.assertEqual(result.values, ("value",))


class FailureTests(DispatcherCase):
    """Failures are logged once, are in the result, and hold up nobody."""

    def test_every_way_to_fail(self) -> None:
        """Whatever way a handler fails, the others run."""

        async def coroutine(event: Any) -> None:
            raise ZeroDivisionError("coroutine")

        def raising(event: Any) -> None:
            raise ZeroDivisionError("raised")

        def returned(event: Any) -> Any:
            return Failure(ZeroDivisionError("returned"))

        for handler in (raising, coroutine, returned):
            self.add(handler)
        self.add(lambda event: fail(ZeroDivisionError("deferred")))
        self.add(lambda event: coroutine(event))
        self.hear("after", "after")
        result = self.fire()
        texts = ["raised", "coroutine", "returned", "deferred", "coroutine"]
        self.assertEqual([str(f.value) for f in result.failures], texts)
        self.assertEqual(self.heard, ["after"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)

    def test_logged_once_without_payload(self) -> None:
        """The log has one entry with traceback, handler and phase, and nothing of the event."""

        def handler(event: Any) -> None:
            raise ZeroDivisionError

        self.add(handler)
        self.fire("secret", user="private")
        (entry,) = (e for e in self.logged if "log_failure" in e)
        text = formatEvent(entry)
        self.assertRegex(text, r"handler \(registered at .*cases\.py:\d+\) failed .*'?during")
        traceback = entry["log_failure"].getTraceback()
        self.assertIn("raise ZeroDivisionError", traceback)
        for secret in ("secret", "private"):
            self.assertNotIn(secret, text + traceback)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_deferred_is_done_with(self) -> None:
        """A failed Deferred of a handler is not reported again as unhandled."""
        self.add(lambda event: fail(ZeroDivisionError()))
        self.fire()
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_base_exceptions(self) -> None:
        """What is no Exception is caught as well: the reactor's loop is not the handler's."""

        def handler(event: Any) -> None:
            raise SystemExit(3)

        self.add(handler)
        self.hear("next")
        self.assertEqual(len(self.fire().failures), 1)
        self.assertEqual(self.heard, ["next"])
        self.flushLoggedErrors(SystemExit)

    def test_no_handler_is_reached_by_its_own_failure(self) -> None:
        """A failure fires nothing: a failing handler cannot recurse."""

        def handler(event: Any) -> None:
            self.heard.append(event)
            raise ZeroDivisionError

        self.add(handler)
        self.fire()
        self.assertEqual(len(self.heard), 1)
        self.flushLoggedErrors(ZeroDivisionError)


class ChangeTests(DispatcherCase):
    """Handlers that come and go while an event is fired."""

    def test_removes_itself(self) -> None:
        """A handler may remove itself: no neighbour is skipped, the result has it."""

        def first(event: Any) -> str:
            self.remove(first_id)
            return "first"

        first_id = self.add(first)
        self.hear("second")
        self.hear("third")
        result = self.fire()
        self.assertEqual(self.heard, ["second", "third"])
        self.assertEqual(result.values, ("first", None, None))
        self.assertEqual(self.fired(), ["second", "third"])

    def test_removed_meanwhile(self) -> None:
        """One removed before its turn is not called any more and left out of the result."""
        for later in ("during", "after"):
            for matcher in ({}, {"user": regex("b")}, {"user": "bob"}):
                self.dispatcher = self.make()
                victims: list[int] = []
                first = self.add(lambda event, victims=victims: self.remove(victims.pop()))
                victims.append(self.hear("victim", later, **matcher))
                last = self.hear("last", later)
                self.heard.clear()
                result = self.fire(user="bob")
                self.assertEqual(self.heard, ["last"])
                self.assertEqual([o.handler_id for o in result], [first, last])

    def test_removed_while_waiting(self) -> None:
        """One removed while the phase before its own is waited for is not called."""
        gate: Deferred[None] = Deferred()
        self.add(lambda event: gate)
        victim = self.hear("victim", "after")
        fired = self.dispatcher.fire_event("event")
        self.remove(victim)
        gate.callback(None)
        self.assertEqual(len(self.successResultOf(fired)), 1)
        self.assertEqual(self.heard, [])

    def test_removed_in_a_sequential_phase(self) -> None:
        """It holds in a sequential phase."""
        self.dispatcher = self.make(phases=(Phase("during", concurrent=False),))
        self.add(lambda event: self.remove(victim))
        victim = self.hear("victim")
        self.hear("last")
        result = self.fire()
        self.assertEqual(self.heard, ["last"])
        self.assertEqual(len(result), 2)

    def test_removed_coroutine(self) -> None:
        """It holds for coroutine functions and methods."""

        async def victim(event: Any) -> None:
            self.heard.append("victim")

        listener = Listener(self.heard)
        self.add(lambda event: [self.remove(victim_id) for victim_id in victims])
        victims = [
            self.add(handler, use_weakref=weak)
            for handler in (victim, listener.method, listener.coroutine, listener)
            for weak in (True, False)
        ]
        self.assertEqual(len(self.fire()), 1)
        self.assertEqual(self.heard, [])

    def test_removed_then_its_deferred_fires(self) -> None:
        """One removed after its call is still waited for."""
        gate: Deferred[str] = Deferred()
        handler_id = self.add(lambda event: gate)
        fired = self.dispatcher.fire_event("event")
        self.remove(handler_id)
        self.assertNoResult(fired)
        gate.callback("late")
        self.assertEqual(self.successResultOf(fired).values, ("late",))

    def test_added_meanwhile(self) -> None:
        """One added meanwhile hears the next event, also if its phase is still to come."""
        for phase in ("before", "during", "after"):
            self.dispatcher = self.make()
            self.add(lambda event, phase=phase: self.hear("new", phase) and None, times=1)
            self.assertEqual(self.fired(), [])
            self.assertEqual(self.fired(), ["new"])

    def test_added_then_heard_by_nested(self) -> None:
        """A nested event fired after that is such a next event."""

        def handler(event: Any) -> Any:
            self.hear("new")
            return self.dispatcher.fire_event("inner")

        self.add(handler, times=1)
        self.assertEqual(self.fired(), ["new"])

    def test_replaced_meanwhile(self) -> None:
        """Removing and adding the same function while fired calls it neither twice nor lost."""

        def replace(event: Any) -> None:
            self.remove(ids.pop())
            ids.append(self.hear("x"))

        self.add(replace)
        ids = [self.hear("x")]
        self.assertEqual([self.fired() for _ in range(3)], [[], [], []])
        self.dispatcher = self.make()
        ids = [self.hear("x")]
        self.add(replace)
        self.assertEqual([self.fired() for _ in range(3)], [["x"], [], []])


class CallCountTests(DispatcherCase):
    """HandlerInfo.calls counts what was called, nothing else."""

    def calls(self) -> list[int]:
        """Give the calls of all handlers."""
        return [info.calls for info in self.dispatcher.handlers()]

    def test_aborted(self) -> None:
        """Handlers of phases that an abort skipped were not called; always ones were."""
        self.dispatcher = self.make(
            phases=(
                Phase("before", on_error="abort"),
                "during",
                Phase("after", always=True),
            )
        )

        def refuse(event: Any) -> None:
            if event == "bad":
                raise ZeroDivisionError

        self.add(refuse, "before")
        self.hear("before", "before")
        self.hear("during")
        self.hear("after", "after")
        self.failing(self.dispatcher.fire_event("bad"), EventAbortedError)
        self.assertEqual(self.calls(), [1, 1, 0, 1])
        self.fire("good")
        self.assertEqual(self.calls(), [2, 2, 1, 2])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_sequential(self) -> None:
        """A sequential phase that stops has called those up to the failure."""
        self.dispatcher = self.make(phases=(Phase("during", concurrent=False, on_error="abort"),))

        def refuse(event: Any) -> None:
            raise ZeroDivisionError

        self.hear("first")
        self.add(refuse)
        self.hear("last")
        self.failing(self.dispatcher.fire_event("event"), EventAbortedError)
        self.assertEqual(self.calls(), [1, 1, 0])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_cancelled(self) -> None:
        """A cancelled event has not called what it did not come to."""
        self.add(lambda event: Deferred())
        self.hear("after", "after")
        fired = self.dispatcher.fire_event("event")
        fired.cancel()
        self.failing(fired, CancelledError)
        self.assertEqual(self.calls(), [1, 0])


class NextEventTests(DispatcherCase):
    """next_event() waits for one event."""

    def test_fires_with_the_event(self) -> None:
        """It fires with the next event that fits, once, and is gone."""
        waiting = self.dispatcher.next_event(user="bob")
        self.fire("other", user="ann")
        self.assertNoResult(waiting)
        self.fire("first", user="bob")
        self.fire("second", user="bob")
        self.assertEqual(self.successResultOf(waiting), "first")
        self.assert_nothing_left()

    def test_phase(self) -> None:
        """It hears the event in the phase that is named, the first one if none is."""
        first = self.dispatcher.next_event()
        last = self.dispatcher.next_event("after")
        first.addCallback(lambda event: self.heard.append("first"))
        last.addCallback(lambda event: self.heard.append("last"))
        self.hear("before", "before")
        self.hear("during")
        self.fire()
        self.assertEqual(self.heard, ["first", "before", "during", "last"])

    def test_unknown_phase(self) -> None:
        """An unknown phase is refused at once."""
        self.assertRaises(UnknownPhaseError, self.dispatcher.next_event, "never")
        self.assert_nothing_left()

    def test_cancel(self) -> None:
        """Cancelling it ends the wait and leaves nothing."""
        waiting = self.dispatcher.next_event(user="bob")
        waiting.cancel()
        self.failing(waiting, CancelledError)
        self.assert_nothing_left()
        self.fire(user="bob")

    def test_removed(self) -> None:
        """Removing its handler by the id that handlers() shows ends the wait too."""
        waiting = self.dispatcher.next_event()
        (info,) = self.dispatcher.handlers()
        self.remove(info.handler_id)
        self.failing(waiting, CancelledError)
        self.assert_nothing_left()
        self.successResultOf(self.dispatcher.stop())

    def test_stop(self) -> None:
        """A stop ends all waits with an error, and leaves nothing."""
        waiting = [self.dispatcher.next_event(user=name) for name in ("bob", "ann")]
        self.successResultOf(self.dispatcher.stop())
        for each in waiting:
            self.failing(each, DispatcherStoppedError)
        self.assert_nothing_left()

    def test_stop_whose_news_cancels_others(self) -> None:
        """Whoever hears of the stop may cancel the other waits."""
        waiting = [self.dispatcher.next_event() for _ in range(3)]
        waiting[0].addErrback(lambda _: [each.cancel() for each in waiting[1:]])
        self.successResultOf(self.dispatcher.stop())
        self.successResultOf(waiting[0])
        for each in waiting[1:]:
            self.failing(each, CancelledError, DispatcherStoppedError)
        self.assert_nothing_left()

    def test_two_events_in_one_turn(self) -> None:
        """Waiting again from the callback of the first hears the second: none is lost."""
        second: list[Deferred[Any]] = []
        first = self.dispatcher.next_event()
        first.addCallback(lambda event: second.append(self.dispatcher.next_event()))
        self.fire("1")
        self.fire("2")
        self.assertEqual(self.successResultOf(second[0]), "2")

    def test_before_start(self) -> None:
        """One may wait before the dispatcher is started."""
        dispatcher = self.make()
        self.successResultOf(dispatcher.stop())
        waiting = dispatcher.next_event()
        dispatcher.fire_event("unheard")
        self.assertNoResult(waiting)
        dispatcher.start()
        dispatcher.fire_event("heard")
        self.assertEqual(self.successResultOf(waiting), "heard")

    def test_does_not_make_others_anew(self) -> None:
        """Waiting for one user's event leaves the compiled handlers of the others alone."""
        for name in ("bob", "ann"):
            self.hear(name, user=name)
            self.fire(user=name)
        buckets: Any = self.dispatcher._index._tables[("user",)].buckets
        plan = buckets["ann"].plan
        self.dispatcher.next_event(user="bob")
        self.fire(user="bob")
        self.assertIs(buckets["ann"].plan, plan)
