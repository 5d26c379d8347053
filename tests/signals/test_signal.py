"""Signals: who is called, when, with what."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from functools import partial
from threading import Thread, get_ident
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from oni.dispatcher import ThreadLimit, in_thread
from oni.errors import (
    EventAbortedError,
    InvalidHandlerError,
    InvalidTimesError,
    UnknownPhaseError,
    WrongThreadError,
)
from oni.signals import Signal, receiver
from oni.signals._senders import Senders
from oni.values import Phase


class Sender:
    """Something that sends."""

    def __init__(self, name: str = "") -> None:
        """Have a name, by which it is equal to others."""
        self.name = name

    def __eq__(self, other: object) -> bool:
        """Be equal to every sender of this name."""
        return isinstance(other, Sender) and other.name == self.name

    def __hash__(self) -> int:
        """Go by the name."""
        return hash(self.name)


class SignalCase(SynchronousTestCase):
    """A signal on a clock."""

    def setUp(self) -> None:
        """Make one, and what its receivers have heard."""
        self.clock = Clock()
        self.signal = Signal("tested", reactor=self.clock)
        self.heard: list[Any] = []

    def hear(self, sender: Any, **what: Any) -> None:
        """Be a receiver."""
        self.heard.append((sender, what))


class ReceiverTests(SignalCase):
    """Who is called."""

    def test_arguments(self) -> None:
        """A receiver gets the sender, and what was sent, by name."""
        self.signal.connect(self.hear)
        self.signal.send_now("me", instance=1, created=True)
        self.assertEqual([("me", {"instance": 1, "created": True})], self.heard)

    def test_every_kind(self) -> None:
        """Functions, coroutine functions, Deferreds, methods, partials, objects."""
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()

        async def coroutine(sender: Any, number: int) -> int:
            return number + await first

        def deferred(sender: Any, number: int) -> Deferred[int]:
            return second

        class Callable:
            def __call__(self, sender: Any, number: int) -> int:
                return -number

        callable_object = Callable()
        bound = partial(lambda more, sender, number: more + number, 100)
        self.signal.connect(coroutine)
        self.signal.connect(deferred)
        self.signal.connect(self.hear)
        self.signal.connect(callable_object)
        self.signal.connect(bound)
        sent = self.signal.send_now("me", number=1)
        self.assertNoResult(sent)
        first.callback(10)
        second.callback(10)
        self.assertEqual((11, 10, None, -1, 101), self.successResultOf(sent).values)

    def test_failure(self) -> None:
        """One that fails stops no other, is logged, and stands in the result."""

        def fail(sender: Any) -> None:
            raise ZeroDivisionError

        async def fail_later(sender: Any) -> None:
            raise KeyError

        self.signal.connect(fail)
        self.signal.connect(fail_later)
        self.signal.connect(self.hear)
        result = self.successResultOf(self.signal.send_now("me"))
        self.assertEqual([("me", {})], self.heard)
        self.assertEqual(2, len(result.failures))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))

    def test_order_and_phases(self) -> None:
        """Phase by phase, and within one in the order of connecting."""
        called: list[str] = []
        late = self.signal.connect(lambda sender: called.append("late"), weak=False, phase="after")
        for name in ("a", "b"):
            self.signal.connect(
                partial(lambda name, sender: called.append(name), name), weak=False
            )
        self.signal.send_now("me")
        self.assertEqual(["a", "b", "late"], called)
        self.assertFalse(self.signal.disconnect(late))  # it is in another phase
        self.assertTrue(self.signal.disconnect(late, phase="after"))

    def test_a_phase_that_aborts(self) -> None:
        """Phases are the dispatcher's: one may end it all."""
        signal = Signal(phases=[Phase("check", on_error="abort"), "do"])

        def refuse(sender: Any) -> None:
            raise ValueError("no")

        signal.connect(refuse)
        signal.connect(self.hear, phase="do")
        failure = self.failureResultOf(signal.send_now("me"), EventAbortedError)
        self.assertIsInstance(failure.value.failures[0].value, ValueError)
        self.assertEqual([], self.heard)

    def test_times(self) -> None:
        """N-shot receivers are called N times, and can be connected anew."""
        self.signal.connect(self.hear, times=2)
        for _ in range(3):
            self.signal.send_now("me")
        self.assertEqual(2, len(self.heard))
        self.signal.connect(self.hear)
        self.signal.send_now("me")
        self.assertEqual(3, len(self.heard))

    def test_connected_twice(self) -> None:
        """The same receiver is called once, for each sender and phase that it is connected to."""
        self.signal.connect(self.hear)
        self.signal.connect(self.hear)
        self.signal.send_now("me")
        self.assertEqual(1, len(self.heard))
        self.signal.connect(self.hear, phase="after")
        self.signal.send_now("me")
        self.assertEqual(3, len(self.heard))

    def test_disconnect(self) -> None:
        """It says whether there was something to disconnect."""
        self.signal.connect(self.hear)
        self.assertTrue(self.signal.disconnect(self.hear))
        self.assertFalse(self.signal.disconnect(self.hear))
        self.signal.send_now("me")
        self.assertEqual([], self.heard)
        self.assertEqual([], list(self.signal.receivers()))

    def test_refused(self) -> None:
        """What can never be called is refused where it is connected."""
        self.assertRaises(InvalidHandlerError, self.signal.connect, 3)
        self.assertRaises(InvalidTimesError, self.signal.connect, self.hear, times=0)
        self.assertRaises(UnknownPhaseError, self.signal.connect, self.hear, phase="never")
        self.assertEqual([], list(self.signal.receivers()))

    def test_where_it_was_connected(self) -> None:
        """The receivers are told of with their place."""
        self.signal.connect(self.hear)
        [info] = self.signal.receivers()
        self.assertIn("test_signal.py:", info.registered_at)
        self.assertIn("SignalCase.hear", info.handler)


class DecoratorTests(SignalCase):
    """Receivers that are connected where they are written."""

    def test_receiver(self) -> None:
        """It really connects, for a sender, and gives the function back."""
        sender = Sender()

        @receiver(self.signal, sender=sender)
        def hear(sender: Any, **what: Any) -> str:
            return "heard"

        self.assertEqual("heard", hear(None))
        self.assertEqual(("heard",), self.successResultOf(self.signal.send_now(sender)).values)
        self.assertEqual((), self.successResultOf(self.signal.send_now(Sender())).values)

    def test_where_it_was_connected(self) -> None:
        """That is where it is written, not in here."""

        @receiver(self.signal)
        def hear(sender: Any) -> None:
            pass

        [info] = self.signal.receivers()
        self.assertIn("test_signal.py:", info.registered_at)

    def test_several_signals(self) -> None:
        """One function for all of them."""
        other = Signal(reactor=self.clock)

        @receiver([self.signal, other], times=1)
        def hear(sender: Any) -> None:
            self.heard.append(sender)

        for signal in (self.signal, other, other):
            signal.send_now("me")
        self.assertEqual(["me", "me"], self.heard)

    def test_connect_decorates(self) -> None:
        """``connect`` itself may be the decorator."""

        @self.signal.connect
        def hear(sender: Any) -> None:
            self.heard.append(sender)

        self.signal.send_now("me")
        self.assertEqual(["me"], self.heard)
        self.assertTrue(self.signal.disconnect(hear))


class WeakTests(SignalCase):
    """What is not kept alive."""

    def test_function(self) -> None:
        """A receiver that nobody else refers to is gone; the log says if it never heard."""

        def hear(sender: Any) -> None:
            self.heard.append(sender)

        self.signal.connect(hear)
        self.signal.send_now("me")
        del hear
        gc.collect()
        self.signal.send_now("me")
        self.assertEqual(["me"], self.heard)
        self.assertEqual([], list(self.signal.receivers()))

    def test_method(self) -> None:
        """So is the method of an instance that is."""

        class Listener:
            def hear(self, sender: Any) -> str:
                return "heard"

        listener = Listener()
        gone = weakref.ref(listener)
        self.signal.connect(listener.hear)
        self.assertTrue(self.signal.disconnect(listener.hear))
        self.signal.connect(listener.hear)
        self.assertEqual(("heard",), self.successResultOf(self.signal.send_now("me")).values)
        del listener
        gc.collect()
        self.assertIsNone(gone())
        self.assertEqual((), self.successResultOf(self.signal.send_now("me")).values)

    def test_strong(self) -> None:
        """Unless it is held."""
        self.signal.connect(lambda sender: "heard", weak=False)
        gc.collect()
        self.assertEqual(("heard",), self.successResultOf(self.signal.send_now("me")).values)

    def test_no_leak(self) -> None:
        """Receivers that come and go leave nothing behind."""
        kept = [partial(self.hear) for _ in range(1000)]
        for each in kept:
            self.signal.connect(each, times=1)
            self.signal.send_now("me")
        self.assertLess(len(self.signal._connected), 200)

    def test_many(self) -> None:
        """Many that stay are not looked through again with each that comes."""
        swept: list[int] = []
        sweep = self.signal._sweep
        self.patch(self.signal, "_sweep", lambda: (swept.append(1), sweep()))
        for _ in range(1000):
            self.signal.connect(partial(self.hear), weak=False)
        self.assertEqual(1000, len(self.signal.receivers()))
        self.assertLess(len(swept), 10)

    def test_used_up(self) -> None:
        """Nobody keeps a receiver that is called no more, though it was held."""

        class Listener:
            def hear(self, sender: Any) -> None:
                pass

        listener = Listener()
        gone = weakref.ref(listener)
        self.signal.connect(listener.hear, weak=False, times=1)
        del listener
        gc.collect()
        self.assertIsNotNone(gone())
        self.signal.send_now("me")
        gc.collect()
        self.assertIsNone(gone())

    def test_methods_of_builtin_classes(self) -> None:
        """They are known again, too, as every other method is."""
        strong: list[Any] = []
        weak: deque[Any] = deque()
        for _ in range(2):
            self.signal.connect(strong.append, weak=False)
            self.signal.connect(weak.append)
        self.signal.connect(strong.extend, weak=False, phase="after")
        self.signal.send_now("x")
        self.assertEqual((["x", "x"], ["x"]), (strong, list(weak)))
        self.assertTrue(self.signal.disconnect(strong.append))
        self.assertFalse(self.signal.disconnect([].append))
        self.assertTrue(self.signal.disconnect(weak.append))
        self.signal.connect(weak.append)
        gone = weakref.ref(weak)
        del weak
        gc.collect()
        self.assertIsNone(gone())

    def test_what_cannot_be_held_weakly(self) -> None:
        """It is held, where that is said, and known again; else it is refused."""

        class Listener:
            __slots__ = ()

            def __call__(self, sender: Any) -> str:
                return "called"

            def hear(self, sender: Any) -> str:
                return "heard"

        listener = Listener()
        for hear in (listener, listener.hear):
            self.assertRaises(InvalidHandlerError, self.signal.connect, hear)
            for _ in range(2):
                self.signal.connect(hear, weak=False)
        values = self.successResultOf(self.signal.send_now("me")).values
        self.assertEqual(("called", "heard"), values)
        self.assertTrue(self.signal.disconnect(listener))
        self.assertTrue(self.signal.disconnect(listener.hear))
        self.assertEqual([], list(self.signal.receivers()))


class SenderTests(SignalCase):
    """Whose sends are heard."""

    def test_identity(self) -> None:
        """A sender that is equal is another one."""
        mine, equal = Sender("x"), Sender("x")
        self.signal.connect(self.hear, sender=mine)
        self.signal.send_now(equal)
        self.assertEqual([], self.heard)
        self.signal.send_now(mine)
        self.assertEqual(1, len(self.heard))
        self.assertTrue(self.signal.disconnect(self.hear, mine))

    def test_its_id_is_used_again(self) -> None:
        """A sender that has died takes its receivers with it, before another has its id."""
        sender = Sender()
        number = id(sender)
        self.signal.connect(self.hear, sender=sender)
        del sender
        gc.collect()
        others = [Sender() for _ in range(1000)]
        for other in others:
            self.signal.send_now(other)
        self.assertEqual([], self.heard)
        self.assertEqual([], list(self.signal.receivers()))
        # The test shows nothing unless an object can come to the same place.
        self.assertTrue(number in map(id, others) or self._comes_to_the_same_place())

    def _comes_to_the_same_place(self) -> bool:
        first = id(Sender())
        return any(id(Sender()) == first for _ in range(1000))

    def test_in_the_wrong_thread(self) -> None:
        """What cannot be forgotten just now is forgotten later, and nobody else heard instead."""
        sender = Sender()
        self.signal.connect(self.hear, sender=sender)
        del sender
        gc.collect()
        dispatcher = self.signal._dispatcher

        def refuse(handler_id: int) -> None:
            raise WrongThreadError

        patched = self.patch(dispatcher, "remove_event_handler", refuse)
        for _ in range(2):
            self.assertRaises(WrongThreadError, self.signal.send_now, "me")
        patched.restore()
        self.signal.send_now("me")
        self.assertEqual([], list(self.signal.receivers()))

    def test_senders_without_weak_references(self) -> None:
        """They are kept, so that their id stays theirs."""
        sender = (1, 2)
        self.signal.connect(self.hear, sender=sender)
        self.signal.send_now(sender)
        self.signal.send_now((1, 2, 3)[:2])
        self.assertEqual([(sender, {})], self.heard)

    def test_senders_are_let_go(self) -> None:
        """They are kept only as long as a receiver is connected to them."""
        living: set[int] = set()

        class Slotted:
            __slots__ = ()

            def __init__(self) -> None:
                living.add(id(self))

            def __del__(self) -> None:
                living.discard(id(self))

        def connect(disconnected: tuple[str, ...]) -> int:
            sender = Slotted()
            for phase in ("during", "after"):
                self.signal.connect(self.hear, sender, phase=phase)
            for phase in disconnected:
                self.assertTrue(self.signal.disconnect(self.hear, sender, phase=phase))
            return id(sender)

        stays = connect(("during",))
        for _ in range(3):
            connect(("during", "after"))
        gc.collect()
        self.assertEqual({stays}, living)

    def test_several_receivers_of_a_sender(self) -> None:
        """They all go with it."""
        sender = Sender()
        self.signal.connect(self.hear, sender)
        self.signal.connect(self.hear, sender, phase="after")
        del sender
        gc.collect()
        self.assertEqual([], list(self.signal.receivers()))

    def test_a_sender_in_the_place_of_another(self) -> None:
        """Who connects to it is heard, though the one before was not forgotten yet."""
        sender = Sender()
        self.signal.connect(self.hear, sender)
        self.signal._senders.gone.append(id(sender))  # as if there had been another one
        self.signal.connect(self.hear, sender)
        self.signal.send_now(sender)
        self.assertEqual(1, len(self.heard))

    def test_many_senders_die(self) -> None:
        """Each takes its own receivers with it, and nobody looks through all of them."""
        senders = [Sender() for _ in range(200)]
        for sender in senders:
            self.signal.connect(self.hear, sender)
        self.signal.connect(self.hear)
        looked: list[object] = []
        keys_of = self.signal._senders.keys_of

        def look(number: int) -> list[Any]:
            looked.extend(keys := keys_of(number))
            return keys

        self.patch(Senders, "keys_of", lambda _, number: look(number))
        del sender
        while senders:
            senders.pop()
            self.signal.send_now("me")
        self.assertEqual((200, 200), (len(looked), len(self.heard)))
        self.assertEqual(1, len(self.signal.receivers()))

    def test_any_sender(self) -> None:
        """Without a sender, every one's."""
        self.signal.connect(self.hear)
        for sender in (None, 1, Sender):
            self.signal.send_now(sender)
        self.assertEqual(3, len(self.heard))

    def test_receivers_of_a_sender(self) -> None:
        """In the order in which they are called."""
        mine = Sender()
        self.signal.connect(self.hear, sender=mine, phase="after")
        self.signal.connect(self.hear)
        self.assertEqual([2, 1], [info.handler_id for info in self.signal.receivers(mine)])
        self.assertEqual([2], [info.handler_id for info in self.signal.receivers(Sender())])


class SendTests(SignalCase):
    """When they are called."""

    def test_next_turn(self) -> None:
        """``send`` calls them when its caller has returned."""
        self.signal.connect(self.hear)
        sent = self.signal.send("me", n=1)
        self.assertEqual([], self.heard)
        self.clock.advance(0)
        self.assertEqual([("me", {"n": 1})], self.heard)
        self.assertEqual((None,), self.successResultOf(sent).values)

    def test_order_of_sends(self) -> None:
        """One after the other, as they were sent."""
        self.signal.connect(self.hear)
        for number in range(5):
            self.signal.send(number)
        self.clock.advance(0)
        self.assertEqual([0, 1, 2, 3, 4], [sender for sender, _ in self.heard])

    def test_who_is_connected_in_between(self) -> None:
        """Those who are connected when it is their turn are called."""
        sent = self.signal.send("me")
        self.signal.connect(self.hear)
        self.clock.advance(0)
        self.assertEqual(1, len(self.successResultOf(sent)))

    def test_cancelled_before(self) -> None:
        """Then nobody is called."""
        self.signal.connect(self.hear)
        sent = self.signal.send("me")
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.clock.advance(0)
        self.assertEqual([], self.heard)

    def test_cancelled_while_under_way(self) -> None:
        """Then the receivers are cancelled."""
        for send in (self.signal.send, self.signal.send_now):
            cancelled: list[object] = []
            waits: Deferred[None] = Deferred(cancelled.append)

            def wait(sender: Any, waits: Deferred[None] = waits) -> Deferred[None]:
                return waits

            self.signal.connect(wait)
            sent = send("me")
            self.clock.advance(0)
            sent.cancel()
            self.failureResultOf(sent, CancelledError)
            self.assertEqual([waits], cancelled)
            self.signal.disconnect(wait)

    def test_that_cannot_be(self) -> None:
        """What keeps the receivers from being called is told by the Deferred, like all else."""

        def refuse(*anything: Any) -> None:
            raise WrongThreadError

        sent = self.signal.send("me")
        self.patch(self.signal, "_fire", refuse)
        self.clock.advance(0)
        self.failureResultOf(sent, WrongThreadError)

    def test_every_name(self) -> None:
        """What is sent may have any name but ``sender``."""

        def hear(sender: Any, **what: Any) -> dict[str, Any]:
            return what

        self.signal.connect(hear)
        what = {"self": 1, "event": 2, "signal": 3}
        later = self.signal.send("me", **what)
        self.clock.advance(0)
        here = self.signal.send_here("me", **what)
        now = self.signal.send_now("me", **what)
        for sent in (self.successResultOf(later), self.successResultOf(now), here):
            self.assertEqual((what,), sent.values)

    def test_from_a_thread(self) -> None:
        """A send of another thread is carried to the reactor's."""
        calls: list[Any] = []

        @implementer(IReactorFromThreads)
        class Reactor(Clock):
            def callFromThread(self, call: Any, *args: Any, **named: Any) -> None:
                calls.append(partial(call, *args, **named))

        signal = Signal(reactor=Reactor())
        signal.connect(self.hear)
        self.patch(threadable, "ioThread", get_ident())
        thread = Thread(target=signal.send, args=("thread",))
        thread.start()
        thread.join()
        self.assertEqual([], self.heard)
        [call] = calls
        call()
        self.assertEqual([("thread", {})], self.heard)
        self.patch(threadable, "ioThread", None)  # nor does it run yet
        sent = signal.send("early")
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        calls.pop()()
        self.assertEqual(1, len(self.heard))

    def test_awaited_by_twisted(self) -> None:
        """A coroutine that Twisted drives awaits both."""
        self.signal.connect(self.hear)

        async def send() -> int:
            return len(await self.signal.send("me")) + len(await self.signal.send_now("me"))

        sent = Deferred.fromCoroutine(send())
        self.clock.advance(0)
        self.assertEqual(2, self.successResultOf(sent))

    def test_nested(self) -> None:
        """A receiver may send, and wait for it."""

        async def again(sender: int) -> list[int]:
            if not sender:
                return [0]
            [inner] = (await self.signal.send_now(sender - 1)).values
            return [sender, *inner]

        self.signal.connect(again)
        self.assertEqual(([2, 1, 0],), self.successResultOf(self.signal.send_now(2)).values)


class ThreadTests(SignalCase):
    """Receivers that block."""

    def setUp(self) -> None:
        """Have a pool that says what it was given."""
        super().setUp()
        self.given: list[Any] = []

        class Pool(ThreadLimit):
            def call(pool, function: Any, *said: Any) -> Deferred[Any]:  # noqa: N805
                self.given.append(said)
                return succeed(function(*said))

        self.pool = Pool(1)

    def receive(self, sender: Any, number: int) -> int:
        """Be a receiver."""
        return number

    def test_in_thread(self) -> None:
        """They are called in a thread, with all that was sent."""

        def receive(sender: Any, number: int) -> int:
            return -number

        for weak in (True, False):
            self.signal = Signal()
            self.signal.connect(kept := in_thread(receive, self.pool), weak=weak)
            self.signal.connect(method := in_thread(self.receive, self.pool), weak=weak)
            result = self.successResultOf(self.signal.send_now("me", number=7))
            self.assertEqual((-7, 7), result.values)
            here = self.signal.send_here("me", number=7)  # in a thread that may block itself
            self.assertEqual((-7, 7), here.values)
            self.assertEqual([("me",)] * 2, self.given)
            self.given.clear()
            self.assertTrue(self.signal.disconnect(kept))
            self.assertTrue(self.signal.disconnect(method))

    def test_made_anew(self) -> None:
        """What calls a function in a thread may be made anew each time, as methods are."""

        def first(sender: Any) -> str:
            return "first"

        def second(sender: Any) -> str:
            return "second"

        for _ in range(2):
            self.signal.connect(in_thread(first, self.pool))
            self.signal.connect(in_thread(second, self.pool))
        values = self.successResultOf(self.signal.send_now("me")).values
        self.assertEqual(("first", "second"), values)
        self.assertFalse(self.signal.disconnect(first))
        self.assertTrue(self.signal.disconnect(in_thread(first, self.pool)))
        self.assertEqual(1, len(self.signal.receivers()))

    def test_dies_on_the_way(self) -> None:
        """One that dies while an earlier one is called is not called any more."""
        functions = [lambda sender, number: "called"]
        self.signal.connect(lambda sender, number: functions.clear(), weak=False)
        self.signal.connect(kept := in_thread(functions[0], self.pool))
        del kept
        result = self.successResultOf(self.signal.send_now("me", number=7))
        self.assertEqual(((None,), ()), (result.values, result.failures))
        self.assertEqual(1, len(self.signal.receivers()))


class ChangeTests(SignalCase):
    """Receivers that come and go while several threads send."""

    def test_one_at_a_time(self) -> None:
        """Nothing is changed in two threads at once."""
        held: list[str] = []

        class Held:
            def __enter__(self) -> None:
                held.append("held")

            def __exit__(self, *how: object) -> None:
                held.pop()

        sender = Sender()
        self.patch(self.signal, "_changing", Held())
        seen: list[bool] = []
        for name in ("add", "remove", "keys_of"):
            doing = getattr(Senders, name)
            self.patch(
                Senders,
                name,
                lambda senders, *said, doing=doing: (
                    seen.append(bool(held)),
                    doing(senders, *said),
                )[1],
            )
        self.signal.connect(self.hear, sender)
        self.signal.disconnect(self.hear, sender)
        self.signal.connect(self.hear, sender)
        del sender
        gc.collect()
        self.signal.send_here("me")
        self.assertEqual([True] * 5, seen)


class NameTests(SynchronousTestCase):
    """What a signal is called."""

    def test_names(self) -> None:
        """By its name, or by what it is."""
        self.assertEqual("<Signal paid>", repr(Signal("paid")))
        self.assertIn("0x", repr(Signal()))
