"""What code that registers for others says of the registrations."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher import EventDispatcher, registering


def _heard(dispatcher: EventDispatcher) -> list[Any]:
    """Register a local function and give what it hears."""
    heard: list[Any] = []

    def hear(event: Any) -> None:
        heard.append(event)

    dispatcher.add_event_handler(hear, "during")
    return heard


class RegisteringTests(SynchronousTestCase):
    """``registering`` says how handlers are held, and where they are written."""

    def setUp(self) -> None:
        """Start a dispatcher."""
        self.dispatcher = EventDispatcher()
        self.dispatcher.start()

    def test_strongly(self) -> None:
        """A local function that nobody else holds goes on hearing events."""
        with registering(strongly=True):
            heard = _heard(self.dispatcher)
        gc.collect()
        self.dispatcher.fire_event(1)
        self.assertEqual(heard, [1])
        self.assertFalse(self.dispatcher.handlers()[0].weak)

    def test_only_in_the_block(self) -> None:
        """After the block, handlers are held weakly again."""
        with registering(strongly=True):
            pass
        heard = _heard(self.dispatcher)
        gc.collect()
        self.dispatcher.fire_event(1)
        self.assertEqual(heard, [])

    def test_coroutine_that_goes_on(self) -> None:
        """What a coroutine that was started in a block registers later is not in the block."""
        gates = [Deferred[None](), Deferred[None](), Deferred[None]()]

        async def register() -> None:
            for gate in gates:
                await gate
                self.dispatcher.add_event_handler(print, "during")

        with registering(at=("outer", 1)):
            with registering(strongly=True, at=("inner", 1)):
                done = Deferred.fromCoroutine(register())
                gates[0].callback(None)
            gates[1].callback(None)
        gates[2].callback(None)
        self.successResultOf(done)
        inner, outer, nowhere = self.dispatcher.handlers()
        self.assertEqual((inner.weak, inner.registered_at), (False, "inner:1"))
        self.assertEqual((outer.weak, outer.registered_at), (True, "outer:1"))
        self.assertTrue(nowhere.weak)
        self.assertIn("test_registering.py", nowhere.registered_at)

    def test_place(self) -> None:
        """The place is the one that is said."""
        with registering(at=("site.zcml", 7)):
            self.dispatcher.add_event_handler(print, "during")
        self.assertEqual(self.dispatcher.handlers()[0].registered_at, "site.zcml:7")

    def test_place_of_the_call(self) -> None:
        """Where no place is said, it is where the call is written, in and out of the block."""
        with registering(strongly=True):
            self.dispatcher.add_event_handler(print, "during")
        self.dispatcher.add_event_handler(print, "during")
        for info in self.dispatcher.handlers():
            self.assertRegex(info.registered_at, r"test_registering\.py:\d+$")
