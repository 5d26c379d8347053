"""What a handler may return: a value, or something to wait for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from weakref import ref

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher._kinds import settled
from oni.dispatcher._plan import PLAIN_TYPES
from tests.dispatcher.cases import DispatcherCase


class Plain:
    """A value."""

    value = 5

    class Inner:
        """Another one."""

    class Other:
        """A third one."""


class Later(Deferred[Any]):
    """A Deferred of somebody's own."""


class Awaitable:
    """Something to await."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred

    def __await__(self) -> Iterator[Any]:
        """Wait for the Deferred."""
        value = yield from self.deferred.__await__()  # type: ignore[misc]
        return value


class SettledTests(SynchronousTestCase):
    """The sorting of what was returned."""

    def test_values(self) -> None:
        """Values are given back as they are."""
        for value in (0, "text", [1], Plain(), Plain, Failure(ValueError()), (), 1.5):
            self.assertIs(settled(value), value)

    def test_types_are_remembered(self) -> None:
        """The type of a plain value is remembered, that of a Deferred or Failure never."""
        for value in (Plain(), Plain.Inner(), range(3), Decimal(5)):
            settled(value)
            self.addCleanup(PLAIN_TYPES.discard, type(value))
            self.assertIn(type(value), PLAIN_TYPES)
        for value in (succeed(1), Failure(ValueError()), Awaitable(succeed(1))):
            settled(value)
            self.assertNotIn(type(value), PLAIN_TYPES)

    def test_types_made_at_run_time(self) -> None:
        """A class that nothing else keeps is not kept alive."""

        class Local:
            pass

        claiming = type("Plain", (), {"__module__": __name__})
        nowhere = type("Plain", (), {"__module__": "no module"})
        odd = type("Plain", (), {"__module__": 5})
        deep = type("Plain", (), {"__module__": __name__, "__qualname__": "Plain.Inner.value.x"})
        refs = []
        for kind in (Local, claiming, nowhere, odd, deep):
            value = kind()
            self.assertIs(settled(value), value)
            self.assertNotIn(kind, PLAIN_TYPES)
            refs.append(ref(kind))
        del Local, claiming, nowhere, odd, deep, kind, value
        gc.collect()
        self.assertEqual([each() for each in refs], [None] * 5)

    def test_memory_is_bounded(self) -> None:
        """Types made without end do not fill the memory."""
        import oni.dispatcher._kinds as kinds

        self.patch(kinds, "_MAX_TYPES", len(PLAIN_TYPES))
        before = set(PLAIN_TYPES)
        value = Plain.Other()
        self.assertIs(settled(value), value)
        self.assertEqual(PLAIN_TYPES, before)

    def test_deferreds(self) -> None:
        """A Deferred is given back to wait for, one of a class of its own, too."""
        for deferred in (succeed(1), Deferred(), Later()):
            self.assertIs(settled(deferred), deferred)

    def test_coroutine(self) -> None:
        """A coroutine is run as far as it goes."""

        async def coroutine(gate: Deferred[int]) -> int:
            return await gate

        self.assertEqual(settled(coroutine(succeed(5))), 5)
        gate: Deferred[int] = Deferred()
        waiting = settled(coroutine(gate))
        self.assertNoResult(waiting)
        gate.callback(6)
        self.assertEqual(self.successResultOf(waiting), 6)

    def test_awaitable(self) -> None:
        """Another awaitable, too."""
        self.assertEqual(settled(Awaitable(succeed(5))), 5)

    def test_raising_coroutine(self) -> None:
        """One that raises at once gives a Failure."""

        async def coroutine() -> None:
            raise ZeroDivisionError

        self.assertTrue(settled(coroutine()).check(ZeroDivisionError))

    def test_asyncio_future(self) -> None:
        """A future of an asyncio loop is adapted."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        future = loop.create_future()
        waiting = settled(future)
        self.assertNoResult(waiting)
        future.set_result(7)
        loop.run_until_complete(asyncio.sleep(0))
        self.assertEqual(self.successResultOf(waiting), 7)


class ReturnedTests(DispatcherCase):
    """The same through a dispatcher."""

    def test_deferred_of_its_own_class(self) -> None:
        """A handler's Deferred is waited for whatever its class."""
        later = Later()
        self.add(lambda event: later)
        fired = self.dispatcher.fire_event("event")
        self.assertNoResult(fired)
        later.callback("x")
        self.assertEqual(self.successResultOf(fired).values, ("x",))

    def test_callback_added_later(self) -> None:
        """Whoever holds the Deferred too, sees its value after the dispatcher."""
        shared: Deferred[str] = Deferred()
        self.add(lambda event: shared)
        fired = self.dispatcher.fire_event("event")
        shared.callback("x")
        self.assertEqual(self.successResultOf(fired).values, ("x",))
        self.assertEqual(self.successResultOf(shared), "x")

    def test_objects(self) -> None:
        """Objects of any class are values, the first time and later."""
        value = Plain()
        self.add(lambda event: value)
        for _ in range(2):
            self.assertEqual(self.fire().values, (value,))
