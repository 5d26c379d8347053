"""What sending gives, in tasks of asyncio and in what Twisted drives within them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from oni.signals import Sending


class SendingTests(SynchronousTestCase):
    """A Deferred that is awaited everywhere."""

    def setUp(self) -> None:
        """Have one, and nobody who wrongly complains of it."""
        self.sending: Sending[str] = Sending()
        self.unhandled: list[Any] = []

    def run_task(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a task of asyncio to its end, and see that nothing is left of it."""
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, said: self.unhandled.append(said))
        try:
            result: Any = loop.run_until_complete(asyncio.wait_for(coroutine, 10))
        finally:
            loop.close()
        gc.collect()
        self.assertEqual([], self.unhandled)
        return result

    def soon(self, call: Any, *said: Any) -> None:
        """Call something in the loop's next turn."""
        asyncio.get_running_loop().call_soon(call, *said)

    async def wait(self) -> str:
        """Wait for it."""
        return await self.sending

    def test_task(self) -> None:
        """A task waits until it has fired, and has its result; others after it, too."""

        async def run() -> list[str]:
            self.soon(self.sending.callback, "fired")
            both = await asyncio.gather(self.wait(), asyncio.ensure_future(self.sending))
            return [*both, await self.sending]

        self.assertEqual(["fired"] * 3, self.run_task(run()))

    def test_result_that_waits(self) -> None:
        """One that has fired with what must be waited for is waited for."""
        inner: Deferred[str] = Deferred()
        self.sending.addCallback(lambda _: inner)
        self.sending.callback("too early")

        async def run() -> str:
            self.soon(inner.callback, "fired")
            return await self.sending

        self.assertEqual("fired", self.run_task(run()))

    def test_failure(self) -> None:
        """Whoever awaits it has its failure, and the log has it not."""

        async def run() -> str:
            self.soon(self.sending.errback, ZeroDivisionError("no"))
            try:
                return await self.sending
            except ZeroDivisionError as error:
                return str(error)

        self.assertEqual("no", self.run_task(run()))
        del self.sending
        gc.collect()
        self.assertEqual([], self.flushLoggedErrors())

    def test_task_is_cancelled(self) -> None:
        """So is what it awaits; how that failed nobody asks any more."""
        cancelled: list[object] = []
        self.sending = Sending(cancelled.append)

        async def run() -> bool:
            task = asyncio.ensure_future(self.wait())
            await asyncio.sleep(0)
            task.cancel("enough")
            await asyncio.wait([task])
            return task.cancelled()

        self.assertTrue(self.run_task(run()))
        self.assertEqual([self.sending], cancelled)
        cancelled.clear()
        del self.sending
        gc.collect()
        self.assertEqual([], self.flushLoggedErrors())

    def test_driven_by_twisted_in_a_task(self) -> None:
        """A coroutine that a task lets Twisted drive waits for it as everywhere else."""

        async def run() -> str:
            driven = Deferred.fromCoroutine(self.wait())
            self.soon(self.sending.callback, "fired")
            await asyncio.sleep(0.001)
            return self.successResultOf(driven)

        self.assertEqual("fired", self.run_task(run()))

    def test_cancelled_by_twisted_in_a_task(self) -> None:
        """There it is cancelled as everywhere else, too."""
        cancelled: list[object] = []
        self.sending = Sending(cancelled.append)

        async def run() -> None:
            driven = Deferred.fromCoroutine(self.wait())
            driven.cancel()
            self.failureResultOf(driven, CancelledError)

        self.run_task(run())
        self.assertEqual([self.sending], cancelled)

    def test_without_asyncio(self) -> None:
        """Where no loop runs it is any Deferred."""
        driven = Deferred.fromCoroutine(self.wait())
        self.sending.callback("fired")
        self.assertEqual("fired", self.successResultOf(driven))
