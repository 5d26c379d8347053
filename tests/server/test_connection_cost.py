"""What one connection costs, in calls of functions: time would depend on the machine."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType

from oni.server._settings import ServerSettings
from tests.carriers import wire
from tests.server.house import Client, HouseTestCase

#: Calls from the first byte to the answered subscribe, at most. With Autobahn's own handshake and
#: reading there were 637.
MOST_CALLS = 375


class ConnectionCostTests(HouseTestCase):
    """A websocket that connects and subscribes."""

    server = ServerSettings(max_connections_per_address=1000, max_handshakes_per_second=1e6)

    def calls(self) -> Counter[str]:
        """Count the calls of Python functions, by their file, but those of clock and transport."""
        counted: Counter[str] = Counter()

        def count(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                counted[frame.f_code.co_filename] += 1

        client = Client(self)
        sent = (
            wire.upgrade(),
            wire.frame('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"lobby"}}'),
        )
        before = sys.getprofile()
        for data in sent:
            sys.setprofile(count)
            try:
                client.protocol.dataReceived(data)
            finally:
                sys.setprofile(before)
            self.reactor.advance(0)
        _, rest = wire.split_response(client.take())
        self.assertEqual([message["id"] for message in wire.messages(rest)], [1, 2])
        harness = ("task.py", "testing.py", "base.py")
        return Counter({name: n for name, n in counted.items() if not name.endswith(harness)})

    def test_calls(self) -> None:
        """It stays within its bound, and the hundredth of a channel costs no more."""
        self.calls()  # the channel comes into being
        second = self.calls().total()
        self.assertLess(second, MOST_CALLS)
        for _ in range(100):
            last = self.calls().total()
        self.assertLessEqual(last, second + 5)

    def test_without_autobahn(self) -> None:
        """Nothing of Autobahn's is called while all arrives whole."""
        self.assertEqual([name for name in self.calls() if "autobahn" in name], [])
