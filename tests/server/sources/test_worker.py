"""A process that only delivers: what it tells its supervisor, and how it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import StopTimeoutError, UnsafeLedgerError
from oni.server._deadline import GIVEN_UP, ExitDeadline
from oni.server._ledger_settings import LedgerSettings
from oni.server._settings import ServerSettings, Settings
from oni.server.sources._service import SourcesService
from oni.server.sources._worker import SourcesWorker
from tests.server.sources.fakes import SomeSources


class SomeReactor(Clock):
    """A clock that can be told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def stop(self) -> None:
        """Count it."""
        self.stops += 1


class SomeNotify:
    """Stands for a supervisor's socket."""

    def __init__(self, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self.told: list[str] = []

    def tell(self, **states: object) -> None:
        """Write down what was told."""
        self.told += states

    def close(self) -> None:
        """Write it down."""
        self.told.append("closed")


class WorkerTests(SynchronousTestCase):
    """A worker on a clock."""

    def setUp(self, watchdog: float | None = None) -> None:
        """Make it."""
        self.reactor = SomeReactor()
        self.sources = SomeSources()
        self.notify = SomeNotify(watchdog)
        self.deadlines: list[float] = []
        service = SourcesService(
            self.sources,  # type: ignore[arg-type]
            LedgerSettings(),
            self.reactor,
            10.0,
        )
        self.service = service
        self.worker = SourcesWorker(
            service,
            Settings(server=ServerSettings(stop_timeout=5.0)),
            self.reactor,
            self.notify,  # type: ignore[arg-type]
            ExitDeadline(6.0, self.deadlines.append),
        )

    def start(self) -> list[Any]:
        """Start it; give what was logged."""
        with capturedLogs() as logged:
            self.worker.startService()
            self.reactor.advance(0)
        return [formatEvent(each) for each in logged]

    def test_ready(self) -> None:
        """When the ledger is open it says to whom it delivers, and that it is ready."""
        self.worker.startService()
        self.assertEqual([], self.notify.told)
        self.reactor.advance(0)
        self.assertEqual(["READY", "STATUS"], self.notify.told)

    def test_watchdog(self) -> None:
        """It feeds the supervisor's watchdog twice in its time, until it has ended."""
        self.setUp(watchdog=4.0)
        self.start()
        self.reactor.pump([1.0] * 5)
        self.assertEqual(3, self.notify.told.count("WATCHDOG"))
        self.successResultOf(self.worker.stopService())
        self.reactor.pump([1.0] * 5)
        self.assertEqual(3, self.notify.told.count("WATCHDOG"))

    def test_log(self) -> None:
        """The log says to whom it delivers."""
        self.assertIn("delivers to: mail", " ".join(self.start()))

    def test_no_handlers(self) -> None:
        """It warns where no handler is registered any, and only there."""
        self.assertNotIn("no handler is registered", " ".join(self.start()))
        self.setUp()
        self.patch(self.sources, "handler_names", list)
        self.assertIn("no handler is registered", " ".join(self.start()))

    def test_end(self) -> None:
        """It ends within its time, and well."""
        self.start()
        self.reactor.advance(3)
        self.successResultOf(self.worker.stopService())
        self.assertEqual(("stop", 4.0), self.sources.told[-1])
        self.assertEqual(0, self.worker.exit_code)
        self.assertEqual([6.0], self.deadlines)
        self.assertEqual(["STOPPING", "STATUS", "closed"], self.notify.told[2:])

    def test_handlers_that_were_given_up(self) -> None:
        """The exit code says that something was given up."""
        self.start()
        self.sources.stopped = StopTimeoutError(4.0, [])
        self.successResultOf(self.worker.stopService())
        self.assertEqual(GIVEN_UP, self.worker.exit_code)

    def test_a_stop_that_hangs(self) -> None:
        """So it does where not even the stop comes to an end."""
        self.start()
        self.sources.stopped = Deferred()
        stopped = self.worker.stopService()
        self.reactor.advance(5)
        self.reactor.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(GIVEN_UP, self.worker.exit_code)

    def test_a_ledger_that_cannot_be_opened(self) -> None:
        """It stops, and the exit code says so; a mistake has its traceback in the log."""
        for error, number in ((UnsafeLedgerError(["no"]), 0), (ZeroDivisionError(), 1)):
            self.setUp()
            self.sources.starts = [error]
            self.start()
            self.assertEqual((1, 1), (self.reactor.stops, self.worker.exit_code))
            self.assertEqual(number, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_threads_that_hang(self) -> None:
        """When no thread is left it ends, so that another process can begin."""
        self.start()
        self.service.on_exhausted()
        self.assertEqual((1, GIVEN_UP), (self.reactor.stops, self.worker.exit_code))
        self.successResultOf(self.worker.stopService())
        self.assertEqual(GIVEN_UP, self.worker.exit_code)
