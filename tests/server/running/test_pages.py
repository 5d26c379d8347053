"""``/healthz`` and ``/readyz``: alive, and ready, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from oni.channels import Channels
from oni.channels.backends.memory import MemoryBackend
from oni.server import Oni, make_factory
from oni.server._settings import Settings
from oni.server.running import Condition
from oni.server.sources._health import LedgerHealth
from tests.server.house import HouseTestCase


class Figures:
    """Channels that say of their backend what a test wants."""

    def __init__(self, **figures: int) -> None:
        self.figures = figures

    def statistics(self) -> Mapping[str, int]:
        """Say it."""
        return self.figures


class PageTests(HouseTestCase):
    """The pages over HTTP."""

    def get(self, path: str) -> tuple[int, Any]:
        """Read a page."""
        return self.http(method="GET", path=path)

    def test_alive(self) -> None:
        """It says so, with how long it has been."""
        self.reactor.advance(7)
        status, told = self.get("/healthz")
        self.assertEqual((200, "ok", 7), (status, told["status"], told["uptime"]))

    def test_ready(self) -> None:
        """While everything works, new clients are welcome."""
        self.assertEqual((200, {"status": "ready"}), self.get("/readyz"))

    def test_draining(self) -> None:
        """From the first moment of the end on they are not; it is still alive."""
        waiting: Deferred[None] = Deferred()
        self.on("before", lambda act: waiting, action="publish")
        self.connected().command("publish", channel="lobby", data=1)
        self.oni.stop()
        self.assertEqual(
            (503, {"status": "not ready", "reasons": ["draining"]}), self.get("/readyz")
        )
        self.assertEqual(200, self.get("/healthz")[0])
        waiting.callback(None)
        self.reactor.advance(10)
        self.assertEqual(["stopped"], self.get("/readyz")[1]["reasons"])

    def test_starting(self) -> None:
        """Before the backend has started they are not, and then they are."""
        reactor = MemoryReactorClock()
        backend = MemoryBackend(reactor)
        started: Deferred[None] = Deferred()
        start = backend.start

        def start_later(sink: Any) -> Deferred[None]:
            return started.addCallback(lambda _: start(sink))

        self.patch(backend, "start", start_later)
        oni = Oni(Settings(), reactor, channels=Channels(backend, reactor=reactor))
        self.factory = make_factory(oni, self.reactor)
        self.assertEqual(["starting"], self.get("/readyz")[1]["reasons"])
        oni.start()
        self.assertEqual(["starting"], self.get("/readyz")[1]["reasons"])
        started.callback(None)
        reactor.advance(1)
        self.assertEqual(200, self.get("/readyz")[0])

    def test_backend_down(self) -> None:
        """While the backend is down they are not, and then they are again."""
        self.channels.down()
        self.assertEqual(["the backend is down"], self.get("/readyz")[1]["reasons"])
        self.channels.up()
        self.assertEqual(200, self.get("/readyz")[0])

    def test_ledger(self) -> None:
        """Until the ledger is open new clients are not welcome; later it is only told of."""
        health = self.oni.condition.ledger = LedgerHealth()
        health.opens()
        self.assertEqual(["the ledger is not open yet"], self.get("/readyz")[1]["reasons"])
        status, told = self.get("/healthz")
        self.assertEqual((200, "degraded"), (status, told["status"]))
        self.assertEqual(["the ledger is not open yet"], told["reasons"])
        health.answers()
        self.assertEqual(200, self.get("/readyz")[0])
        self.assertEqual("ok", self.get("/healthz")[1]["status"])
        health.fails("gone")
        self.assertEqual(200, self.get("/readyz")[0])
        self.assertEqual(["the ledger does not answer"], self.get("/healthz")[1]["reasons"])

    def test_never_from_a_cache(self) -> None:
        """What was true a moment ago may be wrong."""
        client = self.request(method="GET", path="/readyz")
        self.assertIn(b"no-store", client.take())


class ConditionTests(HouseTestCase):
    """From start to end."""

    def test_deaf(self) -> None:
        """A backend that hears nothing of others is no backend."""
        condition = Condition(Figures(backend_up=0, deaf=1))  # type: ignore[arg-type]
        condition.started()
        self.assertIn("deaf", condition.problems()[0])

    def test_a_backend_that_says_nothing(self) -> None:
        """It is taken at its word: it has started."""
        condition = Condition(Figures())  # type: ignore[arg-type]
        condition.started()
        self.assertTrue(condition.is_ready)

    def test_a_start_that_ends_late(self) -> None:
        """Who was told to stop before the start ended does not become ready."""
        condition = Condition(Figures(backend_up=1))  # type: ignore[arg-type]
        condition.drains()
        condition.started()
        self.assertEqual("draining", condition.state)
        condition.stopped()
        condition.drains()
        self.assertEqual("stopped", condition.state)
        condition.began()
        condition.started()
        self.assertTrue(condition.is_ready)
