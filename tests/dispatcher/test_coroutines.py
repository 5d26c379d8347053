"""Coroutine handlers that have to wait."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tests.dispatcher.cases import DispatcherCase

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class SuspendedTests(DispatcherCase):
    """Coroutines that suspend are driven to their end, and the event waits for them."""

    def test_waits(self) -> None:
        """The next phase starts when the coroutine has ended, however often it suspends."""
        gates: list[Deferred[int]] = [Deferred(), Deferred()]

        async def handler(event: Any) -> int:
            return await gates[0] + await succeed(10) + await gates[1]

        self.add(handler)
        self.hear("after", "after")
        fired = self.dispatcher.fire_event("event")
        gates[0].callback(1)
        self.assertNoResult(fired)
        self.assertEqual(self.heard, [])
        gates[1].callback(100)
        self.assertEqual(self.successResultOf(fired).values, (111, None))
        self.assertEqual(self.heard, ["after"])

    def test_awaited_failure(self) -> None:
        """What an awaited Deferred fails with is raised where it is awaited."""
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> str:
            try:
                await gate
            except ZeroDivisionError:
                try:
                    await fail(KeyError("second"))
                except KeyError:
                    return "caught"
            return "nothing"

        self.add(handler)
        fired = self.dispatcher.fire_event("event")
        gate.errback(ZeroDivisionError())
        self.assertEqual(self.successResultOf(fired).values, ("caught",))

    def test_failure_after_a_wait(self) -> None:
        """What a coroutine raises after it waited is its failure."""
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await gate
            raise ZeroDivisionError("late")

        self.add(handler)
        fired = self.dispatcher.fire_event("event")
        gate.callback(None)
        (failure,) = self.successResultOf(fired).failures
        self.assertEqual(str(failure.value), "late")
        self.assertIn("handler", failure.getTraceback())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop_iteration(self) -> None:
        """A StopIteration inside is an error, not a return."""
        gate: Deferred[None] = Deferred()

        async def handler(event: Any) -> None:
            await gate

        self.add(handler)
        fired = self.dispatcher.fire_event("event")
        gate.errback(StopIteration("not a value"))
        (failure,) = self.successResultOf(fired).failures
        self.assertTrue(failure.check(RuntimeError))
        self.flushLoggedErrors(RuntimeError)

    def test_cancel(self) -> None:
        """Cancelling the event cancels what the coroutine awaits; it may clean up."""
        cancelled: list[str] = []
        gate: Deferred[None] = Deferred(lambda _: cancelled.append("gate"))

        async def handler(event: Any) -> None:
            try:
                await gate
            finally:
                cancelled.append("handler")

        self.add(handler)
        fired = self.dispatcher.fire_event("event")
        fired.cancel()
        self.failing(fired, CancelledError)
        self.assertEqual(cancelled, ["gate", "handler"])

    def test_deep_chain(self) -> None:
        """A coroutine may await thousands of Deferreds that have fired already."""

        async def handler(event: Any) -> int:
            total = await gate
            for _ in range(5_000):
                total += await succeed(1)
            return total

        gate: Deferred[int] = Deferred()
        self.add(handler)
        fired = self.dispatcher.fire_event("event")
        gate.callback(0)
        self.assertEqual(self.successResultOf(fired).values, (5_000,))

    def test_awaiting_what_is_no_deferred(self) -> None:
        """Awaiting what only an asyncio loop that does not run could serve fails, never hangs."""

        async def handler(event: Any) -> None:
            await asyncio.sleep(0)
            loop = asyncio.new_event_loop()
            try:
                await loop.create_future()
            finally:
                loop.close()

        self.add(handler)
        fired = self.dispatcher.fire_event("event")
        self.assertEqual(len(self.successResultOf(fired).failures), 1)
        self.flushLoggedErrors()

    def in_loop(self, fire: Callable[[], Deferred[Any]]) -> Any:
        """Fire where a loop of asyncio runs; give the result."""

        async def run() -> Any:
            return await fire().asFuture(asyncio.get_running_loop())

        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        unhandled: list[Any] = []
        loop.set_exception_handler(lambda _, said: unhandled.append(said))
        self.addCleanup(self.assertEqual, [], unhandled)
        result: Any = loop.run_until_complete(asyncio.wait_for(run(), 10))
        return result

    def test_awaiting_what_asyncio_waits_for(self) -> None:
        """Where a loop runs, its futures may be awaited, too, and Deferreds between them."""

        async def fails() -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        async def handler(event: Any) -> Any:
            await asyncio.sleep(0.001)
            first = await asyncio.ensure_future(asyncio.sleep(0, 1))
            second = await succeed(10)
            try:
                await asyncio.ensure_future(fails())
            except ZeroDivisionError:
                return first + second + await event
            return 0

        self.add(handler)

        def fire() -> Deferred[Any]:
            gate: Deferred[int] = Deferred()
            asyncio.get_running_loop().call_later(0.001, gate.callback, 100)
            return self.dispatcher.fire_event(gate)

        self.assertEqual(self.in_loop(fire).values, (111,))

    def test_turns_of_asyncio(self) -> None:
        """``await asyncio.sleep(0)`` lets others have their turn."""
        turns: list[str] = []

        async def handler(event: Any) -> None:
            for _ in range(3):
                turns.append("mine")
                await asyncio.sleep(0)

        def other() -> None:
            turns.append("other")
            asyncio.get_running_loop().call_soon(other)

        self.add(handler)

        def fire() -> Deferred[Any]:
            other()
            return self.dispatcher.fire_event("event")

        self.in_loop(fire)
        self.assertEqual(turns[:6], ["other", "mine"] * 3)

    def test_cancelled_while_asyncio_is_waited_for(self) -> None:
        """Then the future is cancelled, and the coroutine."""
        kept: list[asyncio.Future[None]] = []

        async def handler(event: Any) -> None:
            kept.append(asyncio.get_running_loop().create_future())
            try:
                await kept[0]
            except CancelledError:
                self.heard.append("cancelled")
                await asyncio.sleep(0)
                self.heard.append("ended")
                raise

        self.add(handler)

        async def run() -> Any:
            fired = self.dispatcher.fire_event("event")
            fired.cancel()
            self.failureResultOf(fired, CancelledError)
            await asyncio.sleep(0.001)

        self.in_loop(lambda: Deferred.fromFuture(asyncio.ensure_future(run())))
        self.assertEqual(self.heard, ["cancelled", "ended"])
        self.assertTrue(kept[0].cancelled())
        self.assertFalse(kept[0]._asyncio_future_blocking)

    def test_cancelled_in_its_turn(self) -> None:
        """So is a coroutine that has let others have their turn."""

        async def handler(event: Any) -> None:
            try:
                await asyncio.sleep(0)
            except CancelledError:
                self.heard.append("cancelled")

        self.add(handler)

        async def run() -> None:
            self.dispatcher.fire_event("event").addErrback(lambda _: None).cancel()
            await asyncio.sleep(0.001)

        self.in_loop(lambda: Deferred.fromFuture(asyncio.ensure_future(run())))
        self.assertEqual(self.heard, ["cancelled"])

    def test_awaiting_a_future_of_another_loop(self) -> None:
        """What only that loop could wait for fails, too."""
        other = asyncio.new_event_loop()
        self.addCleanup(other.close)

        async def handler(event: Any) -> None:
            await other.create_future()

        self.add(handler)
        result = self.in_loop(lambda: self.dispatcher.fire_event("event"))
        self.assertEqual(len(result.failures), 1)
        self.flushLoggedErrors(RuntimeError)

    def test_never_fires_and_is_collected(self) -> None:
        """A coroutine whose Deferred is lost is closed with it, quietly."""

        async def handler(event: Any) -> None:
            try:
                await Deferred()
            finally:
                self.heard.append("closed")

        unraisable: list[Any] = []
        self.patch(sys, "unraisablehook", unraisable.append)
        dispatcher = self.make()
        dispatcher.add_event_handler(handler, "during", False)
        dispatcher.fire_event("event")
        del dispatcher
        gc.collect()
        self.assertEqual(self.heard, ["closed"])
        self.assertEqual(unraisable, [])
        self.assertEqual(self.flushLoggedErrors(), [])


class ContextTests(DispatcherCase):
    """Each coroutine handler runs in a context of its own."""

    def test_context_is_kept_over_waits(self) -> None:
        """After a wait the coroutine sees its own context, whoever fired the Deferred."""
        gates: list[Deferred[None]] = [Deferred(), Deferred()]
        seen: list[tuple[int, str]] = []

        async def first(event: Any) -> None:
            colour.set("first")
            await gates[0]
            seen.append((1, colour.get()))

        async def second(event: Any) -> None:
            await gates[1]
            seen.append((2, colour.get()))

        self.add(first)
        self.add(second)
        contextvars.copy_context().run(self._fire_in, "red")
        token = colour.set("blue")
        self.addCleanup(colour.reset, token)
        for gate in gates:
            gate.callback(None)
        self.assertEqual(seen, [(1, "first"), (2, "red")])
        self.assertEqual(colour.get(), "blue")

    def _fire_in(self, name: str) -> None:
        colour.set(name)
        self.dispatcher.fire_event("event")

    def test_returned_coroutine(self) -> None:
        """A coroutine that a plain function returned has a context of its own, too."""

        async def coroutine() -> None:
            colour.set("inside")

        self.add(lambda event: coroutine())
        self.add(lambda event: self.heard.append(colour.get()), "after")
        self.fire()
        self.assertEqual(self.heard, ["none"])
        self.assertEqual(colour.get(), "none")

    def test_frame_is_not_kept(self) -> None:
        """A coroutine in the background keeps its event from being collected no longer."""

        class Event:
            pass

        background: Deferred[None] = Deferred()

        async def linger() -> None:
            await background

        def handler(event: Any) -> None:
            Deferred.fromCoroutine(linger())

        self.add(handler)
        event = Event()
        gone = weakref.ref(event)
        self.fire(event)
        del event
        gc.collect()
        self.assertIsNone(gone())
        background.callback(None)
