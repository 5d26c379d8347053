"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server._running_settings import RunningSettings
from oni.server.metrics import Tally
from oni.server.running import Condition
from oni.server.running._notify import Notify
from oni.server.running._pulse import Pulse
from oni.server.sources._health import LedgerHealth


class SocketTestCase(SynchronousTestCase):
    """A supervisor's socket."""

    def setUp(self) -> None:
        """Listen on an abstract address."""
        self.address = self.listen(f"@oni-{uuid4()}")

    def listen(self, address: str) -> str:
        """Listen there, and give the address back."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.setblocking(False)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        return address

    def heard(self) -> list[str]:
        """Give the messages that have come, a line each for each state."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


class NotifyTests(SocketTestCase):
    """Messages, and what the environment asks for."""

    def test_path(self) -> None:
        """A path is reached; a value is one line, so that it brings no other state."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        notify = Notify(self.listen(str(Path(folder.name, "notify"))))
        self.addCleanup(notify.close)
        notify.tell(READY=1, STATUS="Serving\nnonsense=1")
        self.assertEqual(["READY=1\nSTATUS=Serving"], self.heard())

    def test_abstract(self) -> None:
        """An abstract name begins with an at sign."""
        notify = Notify(self.address)
        self.addCleanup(notify.close)
        notify.tell(WATCHDOG=1)
        self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_environment(self) -> None:
        """The watchdog is fed only if it is ours, and only where there is a socket."""
        usual = {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "3000000"}
        for environ, expected in (
            ({}, None),
            ({"NOTIFY_SOCKET": self.address}, None),
            ({"WATCHDOG_USEC": "3000000"}, None),
            (usual, 3.0),
            ({**usual, "WATCHDOG_PID": "7"}, 3.0),
            ({**usual, "WATCHDOG_PID": "8"}, None),
            ({**usual, "WATCHDOG_USEC": "0"}, None),
            ({**usual, "WATCHDOG_USEC": "soon"}, None),
            ({**usual, "NOTIFY_SOCKET": "vsock:2:1"}, None),
        ):
            with self.subTest(environ=environ):
                self.assertEqual(expected, Notify.from_environment(environ, 7).watchdog)

    def test_nobody_listens(self) -> None:
        """A socket that is gone, and one that is full, cost nothing but one line in the log."""
        Notify(None).tell(READY=1)
        gone = Notify("/there/is/no/such/socket")
        gone.tell(READY=1)
        gone.tell(READY=1)
        full = Notify(self.address)
        self.addCleanup(full.close)
        for _ in range(10_000):
            full.tell(WATCHDOG=1)
        self.assertLess(len(self.heard()), 10_000)


class PulseTests(SocketTestCase):
    """When it is told."""

    def setUp(self) -> None:
        """Have a pulse on a clock."""
        super().setUp()
        self.clock = Clock()
        self.backend = {"backend_up": 1}
        self.condition = Condition(SimpleNamespace(statistics=lambda: self.backend))  # type: ignore[arg-type]
        self.checked = 0
        self.oni = SimpleNamespace(
            condition=self.condition,
            tally=Tally(),
            dispatcher=SimpleNamespace(statistics=self.check),
        )
        self.lost = 0
        self.hopeless: list[str] = []
        self.watchdog = SomeWatchdog()

    def check(self) -> None:
        """Count the looks at the dispatcher."""
        self.checked += 1

    def pulse(self, watchdog: float | None = None, **settings: Any) -> Pulse:
        """Start one."""
        pulse = Pulse(
            self.oni,
            RunningSettings(**settings),
            Notify(self.address, watchdog),
            self.clock,
            self.watchdog,  # type: ignore[arg-type]
            lambda: self.lost,
            self.hopeless.append,
        )
        pulse.startService()
        self.addCleanup(pulse.stopService)
        return pulse

    def test_ready(self) -> None:
        """It is told once, when the backend has started and the reactor turns."""
        self.pulse()
        self.clock.pump([0.25] * 4)
        self.assertEqual([], self.heard())
        self.condition.started()
        self.assertEqual([], self.heard())
        self.clock.pump([0.25] * 8)
        self.assertEqual(["READY=1\nSTATUS=Serving"], self.heard())

    def test_ready_with_a_ledger(self) -> None:
        """Where there is a ledger it is told when that is open, too, and not again later."""
        health = self.condition.ledger = LedgerHealth()
        health.opens()
        self.pulse()
        self.condition.started()
        self.clock.pump([0.25] * 4)
        self.assertEqual([], self.heard())
        health.answers()
        self.clock.pump([0.25] * 4)
        health.fails("gone")
        health.answers()
        self.clock.pump([0.25] * 4)
        self.assertEqual(["READY=1\nSTATUS=Serving"], self.heard())

    def test_watchdog(self) -> None:
        """It is fed twice in the time that is allowed, and only as long as the reactor turns."""
        self.pulse(watchdog=6.0)
        self.clock.pump([0.0] + [0.25] * 120)
        self.assertEqual(["WATCHDOG=1"] * 11, self.heard())
        self.assertEqual(11, self.checked)
        self.assertEqual([], self.heard())

    def test_a_dispatcher_in_disorder(self) -> None:
        """A dispatcher that cannot even count lets the watchdog starve."""
        self.oni.dispatcher.statistics = lambda: 1 / 0
        self.pulse(watchdog=1.0)
        self.clock.pump([0.0, 0.5, 0.5])
        self.assertEqual([], self.heard())
        self.assertEqual(3, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_nobody_asked(self) -> None:
        """Without a watchdog nothing is fed."""
        self.pulse()
        self.clock.pump([1.0] * 10)
        self.assertEqual([], self.heard())

    def test_stopping(self) -> None:
        """The end is told, and more time asked for while it lasts, but not beyond its bound."""
        pulse = self.pulse(watchdog=1.0)
        self.clock.advance(0)
        self.heard()
        pulse.stopping(8.0)
        first, second = self.heard()
        self.assertEqual("STOPPING=1\nSTATUS=Draining", first)
        self.assertEqual("EXTEND_TIMEOUT_USEC=5000000", second)
        asked, fed = [], 0
        for _ in range(60):
            self.clock.advance(0.25)
            for told in self.heard():
                name, _, value = told.partition("=")
                if name == "WATCHDOG":
                    fed += 1
                else:
                    self.assertEqual("EXTEND_TIMEOUT_USEC", name)
                    asked.append(self.clock.seconds() + int(value) / 1e6)
        self.assertEqual(31, len(asked))
        self.assertLessEqual(max(asked), 8.0 + 1.0)
        self.assertGreaterEqual(fed, 29)

    def test_end(self) -> None:
        """When it has stopped nothing is told, and no timer is left."""
        pulse = self.pulse(watchdog=1.0)
        self.clock.advance(0)
        pulse.stopService()
        self.heard()
        self.clock.advance(10)
        self.assertEqual([], self.heard())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(["start", "turn", "stop"], self.watchdog.told)

    def test_lag(self) -> None:
        """How late each tick is, is kept."""
        self.pulse()
        self.clock.pump([0.0, 0.25, 1.25])
        lag = self.oni.tally.lag
        self.assertEqual((3, 1.0), (sum(lag.counts), lag.total))

    def test_lost_threads(self) -> None:
        """F11: with too many threads lost the daemon gives up, once."""
        self.pulse(max_lost_threads=10)
        self.lost = 10
        self.clock.pump([0.25] * 4)
        self.assertEqual([], self.hopeless)
        self.lost = 11
        self.clock.pump([0.25] * 4)
        (why,) = self.hopeless
        self.assertIn("11 threads", why)


class SomeWatchdog:
    """A watchdog that notes what it hears."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None:
        """Note it."""
        self.told.append("start")

    def turn(self) -> None:
        """Note it."""
        self.told.append("turn")

    def stop(self) -> None:
        """Note it."""
        self.told.append("stop")
