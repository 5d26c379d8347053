"""Counting costs a delivery nothing, and reading costs by what lags, not by what there is."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import oni.server.metrics
from oni.server._settings import ServerSettings
from tests.server.house import HouseTestCase

METRICS = str(Path(oni.server.metrics.__file__).parent)
LIMITS = ServerSettings(
    max_handshakes_per_second=10_000.0, max_connections_per_address=1000, max_connections=1000
)


class CostTests(HouseTestCase):
    """Calls are counted, not seconds."""

    server = LIMITS

    def calls(self, call: Any) -> Counter[str]:
        """Count the functions that are called, by file and name."""
        found: Counter[str] = Counter()

        def note(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                found[f"{frame.f_code.co_filename}:{frame.f_code.co_name}"] += 1

        sys.setprofile(note)
        try:
            call()
        finally:
            sys.setprofile(None)
        return found

    def deliver(self) -> None:
        """Publish, and let everybody get it."""
        self.successResultOf(self.channels.get("lobby").publish("message", 1))
        for _ in range(4):
            self.reactor.advance(0)

    def test_a_delivery(self) -> None:
        """A publication to a hundred subscribers calls nothing that counts."""
        clients = [self.connected() for _ in range(100)]
        for client in clients:
            client.ask("subscribe", channel="lobby")
        calls = self.calls(self.deliver)
        self.assertTrue(all(client.messages() for client in clients))
        self.assertGreater(calls.total(), 100)
        self.assertEqual([], [name for name in calls if name.startswith(METRICS)])

    def test_reading(self) -> None:
        """Who has taken everything is not looked at one by one."""
        clients = [self.connected() for _ in range(50)]
        for client in clients:
            client.ask("subscribe", channel="lobby")
        self.deliver()
        few = self.calls(self.channels.lags)
        for _ in range(50):
            self.connected().ask("subscribe", channel="lobby")
        self.deliver()
        self.assertEqual(few, self.calls(self.channels.lags))
        self.assertEqual({0: 100}, dict(self.channels.lags()))
