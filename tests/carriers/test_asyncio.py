"""Carriers of asyncio's frameworks refuse to live under another reactor."""

from __future__ import annotations

import sys

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import require_asyncio_reactor
from oni.carriers.aiohttp_websocket import AioHttpWebSocketCarrier
from oni.carriers.sanic_websocket import SanicWebSocketCarrier
from oni.errors import WrongReactorError


class WrongReactorTests(SynchronousTestCase):
    """Processes whose reactor is none of asyncio's."""

    def install(self, reactor: object) -> None:
        """Let this be the reactor, or none, for the test's time."""
        modules = dict(sys.modules)
        modules.pop("twisted.internet.reactor", None)
        if reactor is not None:
            modules["twisted.internet.reactor"] = reactor  # type: ignore[assignment]
        self.patch(sys, "modules", modules)

    def test_another_reactor(self) -> None:
        """The refusal names the part, the reactor and the way out."""
        self.install(MemoryReactorClock())
        for kind in (AioHttpWebSocketCarrier, SanicWebSocketCarrier):
            error = self.assertRaises(WrongReactorError, kind, object())
            self.assertEqual((error.part, error.reactor), (kind.__name__, "MemoryReactorClock"))
            self.assertIn("the reactor is MemoryReactorClock", str(error))
            self.assertIn("--reactor=asyncio", str(error))

    def test_no_reactor_yet(self) -> None:
        """Where there is none, the default one is not installed by asking."""
        self.install(None)
        error = self.assertRaises(WrongReactorError, require_asyncio_reactor, "the example")
        self.assertEqual((error.part, error.reactor), ("the example", None))
        self.assertIn("no reactor is installed yet", str(error))
        self.assertNotIn("twisted.internet.reactor", sys.modules)
