"""Ticks that nothing ends, on a clock that does not jump."""

from __future__ import annotations

from typing import Any

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Channels
from oni.server import Oni
from oni.server._settings import AuthSettings, ServerSettings, Settings
from oni.server.running._monotonic import run_on_monotonic_time
from oni.server.running._ticks import Ticks

DAY = 86_400.0


class TickTests(SynchronousTestCase):
    """A call at an interval."""

    def test_interval(self) -> None:
        """The first call is in the next turn, the others follow; each is told how late it is."""
        clock, late = Clock(), []
        ticks = Ticks(clock, 0.5, late.append)
        ticks.start()
        self.assertEqual([], late)
        clock.advance(0)
        clock.advance(0.5)
        clock.advance(0.75)
        self.assertEqual([0.0, 0.0, 0.25], late)
        ticks.stop()
        self.assertEqual([], clock.getDelayedCalls())

    def test_whatever_is_raised(self) -> None:
        """F15: nothing that is raised ends the ticks."""
        errors: list[Any] = [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, ValueError]
        clock, raised = Clock(), []

        def fail(late: float) -> None:
            raised.append(errors[len(raised)])
            raise raised[-1]

        ticks = Ticks(clock, 1.0, fail)
        ticks.start()
        clock.pump([0.0, 1.0, 1.0, 1.0, 1.0])
        self.assertEqual(errors, raised)
        self.assertEqual(5, len(self.flushLoggedErrors(*errors)))


class TwoClocks:
    """A real reactor, not installed and not running, on clocks that the test moves.

    Attributes:
        wall: The date, in seconds; it may jump.
        true: The time that has passed; it does not.
    """

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.true = 1000.0
        self.reactor = SelectReactor()
        self.reactor.seconds = lambda: self.wall  # type: ignore[method-assign]

    def true_seconds(self) -> float:
        """Give the time that has passed."""
        return self.true

    def advance(self, seconds: float, times: int = 1) -> None:
        """Let time pass on both, and let the reactor make what is due."""
        for _ in range(times):
            self.wall += seconds
            self.true += seconds
            self.reactor.runUntilCurrent()

    def close(self) -> None:
        """Give its sockets back."""
        self.reactor.removeAll()
        for reader in self.reactor._internalReaders:
            reader.connectionLost(None)  # type: ignore[attr-defined]


class ClockJumpTests(SynchronousTestCase):
    """F20: the date jumps by a day, forward and back."""

    def setUp(self) -> None:
        """Have a reactor with two clocks."""
        self.clocks = TwoClocks()
        self.addCleanup(self.clocks.close)
        self.fired: list[str] = []

    def test_as_twisted_does(self) -> None:
        """Without us a timer of an hour ends at once, and one of a second takes a day."""
        reactor = self.clocks.reactor
        reactor.callLater(3600.0, self.fired.append, "hour")
        self.clocks.wall += DAY
        self.clocks.advance(0.1)
        self.assertEqual(["hour"], self.fired)
        reactor.callLater(1.0, self.fired.append, "second")
        self.clocks.wall -= DAY
        self.clocks.advance(100.0)
        self.assertEqual(["hour"], self.fired)

    def test_jumps(self) -> None:
        """With us they end when their time has passed, whatever the date says."""
        for jump in (DAY, -DAY):
            with self.subTest(jump=jump):
                self.fired.clear()
                reactor = self.clocks.reactor
                run_on_monotonic_time(reactor, self.clocks.true_seconds)
                reactor.callLater(3600.0, self.fired.append, "hour")
                reactor.callLater(1.0, self.fired.append, "second")
                self.clocks.wall += jump
                self.clocks.advance(0.9)
                self.assertEqual([], self.fired)
                self.clocks.advance(0.2)
                self.assertEqual(["second"], self.fired)
                self.clocks.advance(3598.0)
                self.assertEqual(["second"], self.fired)
                self.clocks.advance(1.0)
                self.assertEqual(["second", "hour"], self.fired)

    def test_what_waits_already(self) -> None:
        """A timer that was set before keeps what was left of its time, and can be moved."""
        reactor = self.clocks.reactor
        moved = reactor.callLater(5.0, self.fired.append, "moved")
        reactor.callLater(10.0, self.fired.append, "kept")
        self.clocks.advance(4.0)
        run_on_monotonic_time(reactor, self.clocks.true_seconds)
        self.clocks.wall -= DAY
        moved.reset(8.0)
        self.clocks.advance(5.9)
        self.assertEqual([], self.fired)
        self.clocks.advance(0.2)
        self.assertEqual(["kept"], self.fired)
        self.clocks.advance(2.0)
        self.assertEqual(["kept", "moved"], self.fired)

    def test_sessions(self) -> None:
        """No session is thrown out by a jump, and one that is silent is, in time."""
        clocks = self.clocks
        run_on_monotonic_time(clocks.reactor, clocks.true_seconds)
        settings = Settings(
            server=ServerSettings(connect_timeout=10.0), auth=AuthSettings(anonymous=True)
        )
        channels = Channels(reactor=clocks.reactor)
        oni = Oni(settings, clocks.reactor, channels=channels)
        self.successResultOf(oni.start())
        for jump in (DAY, -DAY):
            with self.subTest(jump=jump):
                carrier = SomeCarrier()
                oni.open_session(carrier)  # type: ignore[arg-type]
                clocks.wall += jump
                clocks.advance(1.0, times=9)
                self.assertEqual([], carrier.closed)
                clocks.advance(1.0, times=2)
                self.assertEqual([3005], [min(code, 3005) for code in carrier.closed])


class SomeCarrier:
    """A connection that notes how it was closed."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    def close(self, code: Any) -> None:
        """Note it."""
        self.closed.append(code.code)
