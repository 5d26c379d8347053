"""What sessions count as they go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from oni.protocol import CloseCode
from oni.server._settings import ServerSettings
from oni.server.metrics import Histogram, Tally
from tests.server.house import HouseTestCase


class HistogramTests(SynchronousTestCase):
    """Values by size."""

    def test_classes(self) -> None:
        """A bound belongs to its class, what is above all of them to the last one."""
        histogram = Histogram((1, 2))
        for value in (0.5, 1, 1.5, 7):
            histogram.observe(value)
        histogram.observe(2, 3)
        self.assertEqual(([2, 4, 1], 16.0), (histogram.counts, histogram.total))


class EndedTests(SynchronousTestCase):
    """Under which code an end is counted."""

    def count(self, code: int = 0, local: int | None = None, remote: int | None = None) -> Any:
        """Count one end, and give the label."""
        tally = Tally()
        tally.ended(code, SimpleNamespace(localCloseCode=local, remoteCloseCode=remote))
        (label,) = tally.disconnects.elements()
        return label

    def test_codes(self) -> None:
        """The session's word comes first, then the carrier's, then the client's."""
        self.assertEqual("3001", self.count(3001, 3001))
        self.assertEqual("3008", self.count(0, 3008))
        self.assertEqual("1000", self.count(0, 1000, 1000))
        self.assertEqual("1006", self.count())

    def test_a_clients_fancy(self) -> None:
        """A client cannot make as many labels as there are codes."""
        labels = {self.count(0, code, code) for code in range(3000, 5000)}
        self.assertEqual({"other"}, labels)

    def test_an_event_stream(self) -> None:
        """A carrier that knows no codes has vanished."""
        tally = Tally()
        tally.ended(0, object())
        self.assertEqual({"1006": 1}, dict(tally.disconnects))


class CountingTests(HouseTestCase):
    """Real sessions, and what they leave in the tally."""

    server = ServerSettings(max_connections=50)

    def test_connections(self) -> None:
        """Each is counted with its carrier when it begins, and with its code when it ends."""
        tally = self.oni.tally
        first, second = self.connected(), self.connected()
        self.http(method="GET", path="/connection/sse/news")
        self.assertEqual({"websocket": 2, "sse": 1}, dict(tally.connections))
        self.assertEqual({}, dict(tally.disconnects))
        first.vanish()
        second.command("nonsense")
        next(s for s in self.oni.sessions.values() if s.is_duplex).close(CloseCode.SLOW)
        second.vanish()
        self.assertEqual({"1006": 1, "3008": 1}, dict(tally.disconnects))

    def test_commands(self) -> None:
        """Each is counted when it begins, timed when it is answered, and its error with a code."""
        tally = self.oni.tally
        client = self.connected()
        client.ask("subscribe", channel="news:today")
        client.ask("publish", channel="news:today", data=1)
        self.assertEqual({"connect": 1, "subscribe": 1, "publish": 1}, dict(tally.commands))
        self.assertEqual({("publish", "103"): 1}, dict(tally.errors))
        self.assertEqual(3, sum(tally.seconds.counts))
        self.assertGreater(tally.bytes_in, 60)

    def test_time(self) -> None:
        """What is timed is the reactor's time."""
        waiting: Deferred[None] = Deferred()
        self.on("before", lambda act: waiting, action="publish")
        client = self.connected()
        total = self.oni.tally.seconds.total
        client.command("publish", channel="lobby", data=1)
        self.reactor.advance(3)
        waiting.callback(None)
        self.assertAlmostEqual(3.0, self.oni.tally.seconds.total - total, 3)

    def test_recoveries(self) -> None:
        """Who comes back is counted with what became of it."""
        tally = self.oni.tally
        client = self.connected()
        client.ask("publish", channel="kept:a", data=1)
        top = self.top("kept:a")
        for offset, epoch in ((top.offset, top.epoch), (0, top.epoch), (0, "another")):
            told = client.ask(
                "subscribe", channel="kept:a", recover=True, epoch=epoch, offset=offset
            )
            self.assertTrue(told["was_recovering"])
            client.ask("unsubscribe", channel="kept:a")
        self.assertEqual(
            {("yes", "yes"): 1, ("yes", "no"): 1, ("no", "yes"): 1}, dict(tally.recoveries)
        )
        self.assertEqual((2, 1.0), (sum(tally.recovered.counts), tally.recovered.total))
