"""What a function has come to that is called where nobody can wait."""

from __future__ import annotations

import inspect

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher import settled


class SettledTests(SynchronousTestCase):
    """``settled``."""

    def test_values(self) -> None:
        """A value is what it is, a Deferred that has fired its result."""
        self.assertEqual((1, 2, None), tuple(settled(v, "it") for v in (1, succeed(2), None)))
        failure = settled(fail(ValueError("no")), "it")
        self.assertIsInstance(failure, Failure)
        self.assertTrue(failure.check(ValueError))

    def test_what_has_to_be_waited_for(self) -> None:
        """It is refused, by who returned it; a coroutine is closed, and says nothing of it."""

        async def later() -> None:
            """Is never begun."""

        coroutine = later()
        for value in (Deferred(), coroutine):
            error = self.assertRaises(TypeError, settled, value, "a receiver")
            self.assertIn("a receiver has returned what must be waited for", str(error))
        self.assertEqual(inspect.CORO_CLOSED, inspect.getcoroutinestate(coroutine))
