"""The relay: everything that was committed arrives, in the end, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import InvalidTimeoutError, LedgerUnavailableError, UnsafeLedgerError
from oni.ledger import Ledger, MemoryStore, Relay
from oni.ledger._outbox import SqlBatch
from oni.ledger.sqlalchemy import SqlAlchemyOutbox
from oni.values import Admission, Handling, LedgerEvent
from tests.ledger.stores import SqlFolder
from tests.ledger.threads import AtOnce, WhenTold

INTERVAL = 1.0


class ReactorClock(Clock):
    """A clock that other threads may call, of which there are none."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        """Call it in the next turn."""
        self.callLater(0, function, *args)


class Late:
    """Runs each function within the call, and tells later what came of it."""

    def __init__(self) -> None:
        self._answers: list[tuple[Deferred[Any], Deferred[Any]]] = []

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run it."""
        told: Deferred[Any] = Deferred()
        self._answers.append((execute(function), told))
        return told

    @property
    def untold(self) -> int:
        """How many answers nobody knows yet."""
        return len(self._answers)

    def tell(self) -> None:
        """Tell what is known so far."""
        answers, self._answers = self._answers, []
        for answer, told in answers:
            answer.chainDeferred(told)

    def stop(self) -> Deferred[None]:
        """There is nothing to wait for."""
        return succeed(None)


class SometimesLedger(Ledger):
    """A ledger that can be away, that can refuse a key, and that remembers what it was asked."""

    error: Exception | None = None
    refused: frozenset[str] = frozenset()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[list[str]] = []

    def admit(self, events: Sequence[LedgerEvent]) -> Deferred[Sequence[Admission]]:
        """Admit, or not."""
        self.asked.append([event.key for event in events])
        if self.error is not None:
            return fail(self.error)
        if self.refused & {event.key for event in events}:
            return fail(ZeroDivisionError("it is too blue"))
        return super().admit(events)


class RelayCase(SynchronousTestCase):
    """Has an outbox, a ledger elsewhere, and a relay between them."""

    def setUp(self) -> None:
        """Make them."""
        self.clock = ReactorClock()
        self.folder = SqlFolder()
        self.addCleanup(self.folder.remove)
        self.outbox = SqlAlchemyOutbox(self.folder.engine, clock=self.clock.seconds)
        self.outbox.open()
        self.ledger = SometimesLedger(
            MemoryStore(clock=self.clock.seconds),
            interval=None,
            reactor=self.clock,
            make_threads=lambda name, size: AtOnce(),
        )
        self.get(self.ledger.start())
        self.woken = 0
        self.relay = self.make()

    def make(self, **options: Any) -> Relay:
        """Make a relay."""
        options.setdefault("make_threads", lambda name, size: AtOnce())
        return Relay(
            self.outbox,
            self.ledger,
            admitted=self.wake,
            interval=INTERVAL,
            reactor=self.clock,
            **options,
        )

    def wake(self) -> None:
        """Count."""
        self.woken += 1

    def get(self, deferred: Deferred[Any]) -> Any:
        """Give what a Deferred fires with."""
        self.turn()
        return self.successResultOf(deferred)

    def turn(self) -> None:
        """Let the reactor turn until nothing is left to do now."""
        for _ in range(50):
            self.clock.advance(0)

    def start(self) -> None:
        """Start the relay."""
        self.get(self.relay.start())
        self.addCleanup(lambda: self.get(self.relay.stop()))

    def put(self, *keys: str) -> None:
        """Put events, in a transaction."""
        with self.folder.engine.begin() as connection:
            self.outbox.put(connection, [event(key) for key in keys])

    def waiting(self) -> int:
        """Count what waits in the outbox."""
        return self.outbox.backlog(10_000).waiting

    def kept(self) -> int:
        """Count what the ledger has."""
        counted: dict[str, int] = self.get(self.ledger.count())
        return counted["pending"]


def event(key: str) -> LedgerEvent:
    """Give an event for one handler."""
    return LedgerEvent(key, "g", b"", (Handling("mail"),))


class LookTests(RelayCase):
    """When it looks, and what it takes."""

    def test_what_is_there_at_the_start(self) -> None:
        """What was committed before the relay was there is admitted at once, and removed."""
        self.put("a", "b")
        self.start()
        self.assertEqual((self.kept(), self.waiting()), (2, 0))
        self.assertEqual(self.ledger.asked, [["a", "b"]])
        self.assertEqual(self.woken, 1)

    def test_woken(self) -> None:
        """A wake is enough; no time has to pass."""
        self.start()
        self.put("k")
        self.turn()
        self.assertEqual(self.kept(), 0)
        self.outbox.wake()
        self.turn()
        self.assertEqual(self.kept(), 1)

    def test_not_woken(self) -> None:
        """Where nobody wakes it, it looks after a while, again and again."""
        self.start()
        for number in range(3):
            self.put(f"k{number}")
            self.clock.advance(INTERVAL)
            self.turn()
            self.assertEqual(self.kept(), number + 1)

    def test_woken_while_it_looks(self) -> None:
        """What is put while it looks, and woken for, is not left to the next time."""
        threads = Late()
        self.relay = self.make(make_threads=lambda name, size: threads)
        self.relay.start()
        threads.tell()  # it is open, and nothing was there to be seen
        self.put("k")
        self.outbox.wake()
        for _ in range(10):
            self.turn()
            threads.tell()
        self.assertEqual(self.kept(), 1)
        self.relay.stop()
        threads.tell()

    def test_what_cannot_be(self) -> None:
        """A pause that is none, or batches of nothing, are refused at once."""
        for options in ({"limit": 0}, {"alarm": 0}):
            self.assertRaises(ValueError, self.make, **options)
        for interval in (0, -1.0, None):
            with self.assertRaises(InvalidTimeoutError):
                Relay(self.outbox, self.ledger, interval=interval)  # type: ignore[arg-type]

    def test_in_batches(self) -> None:
        """Many are taken in batches, in order, without a pause in between."""
        keys = [f"k{number:03}" for number in range(150)]
        self.put(*keys)
        self.start()
        self.assertEqual([len(asked) for asked in self.ledger.asked], [64, 64, 22])
        self.assertEqual([key for asked in self.ledger.asked for key in asked], keys)
        self.assertEqual(self.waiting(), 0)

    def test_idle(self) -> None:
        """Where nothing waits, the ledger is not asked, and nobody is told of anything."""
        self.start()
        self.clock.pump([INTERVAL] * 10)
        self.assertEqual((self.ledger.asked, self.woken), ([], 0))

    def test_started_twice(self) -> None:
        """The second start does nothing."""
        self.start()
        self.get(self.relay.start())
        self.put("k")
        self.clock.advance(INTERVAL)
        self.turn()
        self.assertEqual(self.ledger.asked, [["k"]])

    def test_stopped(self) -> None:
        """After the stop nothing is taken, nobody waits for a timer, and a wake does nothing."""
        self.start()
        with mock.patch.object(self.outbox, "relayed_by") as relayed_by:
            self.get(self.relay.stop())
        relayed_by.assert_called_once_with(None)
        self.put("k")
        self.relay.wake()
        self.outbox.wake()
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.waiting(), 1)
        self.get(self.relay.stop())

    def test_stopped_and_started(self) -> None:
        """It may be started again."""
        self.start()
        self.get(self.relay.stop())
        self.put("k")
        self.get(self.relay.start())
        self.assertEqual(self.kept(), 1)

    def test_stopped_twice(self) -> None:
        """Who stops it again is told when it has ended, too, and not before."""
        pool = WhenTold()
        relay = self.make(make_threads=lambda name, size: pool)
        self.get(relay.stop())
        started = relay.start()
        for _ in range(5):
            pool.go()
            self.turn()
        self.successResultOf(started)
        first, second = relay.stop(), relay.stop()
        self.assertNoResult(second)
        for _ in range(5):
            pool.go()
            self.turn()
        self.successResultOf(first)
        self.successResultOf(second)
        self.get(relay.stop())

    def test_called_in_vain(self) -> None:
        """What is called after an admission may fail: that is logged, none is admitted again."""
        with mock.patch.object(self, "wake", side_effect=ZeroDivisionError):
            self.relay = self.make()
        self.put("a", "b")
        self.start()
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.ledger.asked, [["a", "b"]])
        self.assertEqual(self.waiting(), 0)

    def test_stopped_while_it_takes(self) -> None:
        """What is under way is ended; the rest waits for the next one."""
        self.put(*(f"k{number}" for number in range(100)))
        threads = WhenTold()
        self.relay = self.make(make_threads=lambda name, size: threads)
        self.relay.start()
        for _ in range(3):  # it is open, has measured, and has taken the first batch
            threads.go()
        at_the_close: list[int] = []
        with mock.patch.object(self.outbox, "close", lambda: at_the_close.append(self.waiting())):
            stopped = self.relay.stop()
            self.assertNoResult(stopped)
            for _ in range(10):
                self.turn()
                threads.go()
        self.successResultOf(stopped)
        self.assertEqual((self.kept(), self.waiting()), (64, 36))
        self.assertEqual(at_the_close, [36])


class HungTests(RelayCase):
    """A database that does not answer any more."""

    def setUp(self) -> None:
        """Let the relay be in the middle of a look, and stop it."""
        super().setUp()
        self.threads = Late()
        self.relay = self.make(make_threads=lambda name, size: self.threads)
        self.relay.start()
        self.threads.tell()  # it is open, and waits for what is there to be seen
        self.stopped = self.relay.stop()

    def test_left_behind(self) -> None:
        """The stop does not wait for it for ever, and says so."""
        self.clock.advance(9.9)
        self.assertNoResult(self.stopped)
        self.clock.advance(0.1)
        self.successResultOf(self.stopped)

    def test_just_in_time(self) -> None:
        """Where it answers in time, everything ends well, and no timer is left."""
        self.clock.advance(9.9)
        for _ in range(5):
            self.threads.tell()
        self.successResultOf(self.stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """What it answers after that, a failure, too, is nobody's business."""
        self.clock.advance(10.0)
        with mock.patch.object(self.outbox, "close", side_effect=LedgerUnavailableError("cut")):
            for _ in range(5):
                self.threads.tell()
        self.successResultOf(self.stopped)

    def test_a_failure_while_closing(self) -> None:
        """A failure in time is told."""
        with mock.patch.object(self.outbox, "close", side_effect=LedgerUnavailableError("cut")):
            for _ in range(5):
                self.threads.tell()
        self.failureResultOf(self.stopped, LedgerUnavailableError)

    def test_started_meanwhile(self) -> None:
        """One that is started again does not live twice when the old database answers at last."""
        self.clock.advance(10.0)
        self.successResultOf(self.stopped)
        self.ledger.asked.clear()
        old, self.threads = self.threads, Late()
        self.relay.start()
        for _ in range(3):
            self.threads.tell()
            self.turn()
        for _ in range(3):
            old.tell()
            self.turn()
        self.assertEqual(old.untold, 0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1, "one of them sleeps")
        self.relay.stop()

    def test_stopped_while_it_opens(self) -> None:
        """One that is stopped before it was open never begins, and nobody wakes it."""
        threads = Late()
        relay = self.make(make_threads=lambda name, size: threads)
        relay.start()
        stopped = relay.stop()
        self.put("k")
        for _ in range(5):
            threads.tell()
        self.successResultOf(stopped)
        self.assertEqual(self.waiting(), 1)
        with mock.patch.object(relay, "wake") as wake:
            self.outbox.wake()
        wake.assert_not_called()
        self.assertIsNone(self.outbox._wake)


class FailureTests(RelayCase):
    """What goes wrong, and what becomes of it."""

    def test_no_table(self) -> None:
        """Where the outbox cannot be opened, the start fails, and can be tried again."""
        with mock.patch.object(self.outbox, "open", side_effect=UnsafeLedgerError(["no table"])):
            self.failureResultOf(self.relay.start(), UnsafeLedgerError)
        self.put("k")
        self.start()
        self.assertEqual(self.kept(), 1)

    def test_the_ledger_is_away(self) -> None:
        """It waits longer each time, up to half a minute; nothing is lost, and it is said once."""
        self.ledger.error = LedgerUnavailableError("away")
        self.put("k")
        self.start()
        times = []
        for _ in range(400):
            asked = len(self.ledger.asked)
            self.clock.advance(0.25)
            self.turn()
            times += [self.clock.seconds()] * (len(self.ledger.asked) - asked)
        pauses = [later - sooner for sooner, later in zip([0.0, *times], times, strict=False)]
        self.assertEqual(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0])
        self.assertEqual((self.kept(), self.waiting()), (0, 1))
        self.assertEqual(self.relay.statistics()["failures"], 8)
        self.ledger.error = None
        self.clock.advance(30.0)
        self.turn()
        self.assertEqual((self.kept(), self.waiting()), (1, 0))

    def test_given_up(self) -> None:
        """What could not be admitted is given up: no row stays locked."""
        self.ledger.error = LedgerUnavailableError("away")
        self.put("k")
        with mock.patch.object(SqlBatch, "give_up", autospec=True) as give_up:
            self.start()
        self.assertEqual(give_up.call_count, 1)

    def test_woken_while_the_ledger_is_away(self) -> None:
        """A wake does not make it ask a ledger that is away sooner."""
        self.ledger.error = LedgerUnavailableError("away")
        self.put("k")
        self.start()
        for _ in range(5):
            self.outbox.wake()
            self.turn()
        self.assertEqual(len(self.ledger.asked), 1)

    def test_killed_between_admission_and_removal(self) -> None:
        """What was admitted, and not removed, is admitted again: a duplicate, which is removed."""
        self.put("k")
        with mock.patch.object(SqlBatch, "end", side_effect=LedgerUnavailableError("cut off")):
            self.start()
        self.assertEqual((self.kept(), self.waiting()), (1, 1))
        self.clock.advance(INTERVAL)
        self.turn()
        self.assertEqual((self.kept(), self.waiting()), (1, 0))
        counted = self.relay.statistics()
        self.assertEqual((counted["admitted"], counted["duplicate"]), (1, 1))

    def test_a_poisonous_event(self) -> None:
        """One that the ledger chokes on lies aside; those around it arrive."""
        self.ledger.refused = frozenset({"b"})
        self.put("a", "b", "c")
        self.start()
        self.assertEqual((self.kept(), self.waiting()), (2, 0))
        self.assertEqual(self.relay.statistics()["refused"], 1)
        self.assertEqual(self.relay.statistics()["aside"], 1)
        with self.folder.engine.connect() as connection:
            (row,) = connection.exec_driver_sql("SELECT key, error FROM oni_outbox").all()
        self.assertEqual(tuple(row), ("b", "ZeroDivisionError: it is too blue"))

    def test_an_unreadable_row(self) -> None:
        """One that cannot be read needs no ledger to lie aside."""
        self.put("a")
        with self.folder.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE oni_outbox SET handlings = 'no JSON'")
        self.start()
        self.assertEqual(self.ledger.asked, [])
        self.assertEqual(self.relay.statistics()["aside"], 1)

    def test_nothing_can_be_admitted(self) -> None:
        """Where none of them can, it is the ledger: they all stay, and the failure is logged."""
        self.ledger.refused = frozenset({"a", "b"})
        self.put("a", "b")
        self.start()
        self.assertEqual(self.waiting(), 2)
        self.assertEqual(self.relay.statistics()["refused"], 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_one_that_cannot_be_admitted(self) -> None:
        """Of one alone nobody can say whose fault it is: it stays, until others are with it."""
        self.ledger.refused = frozenset({"a"})
        self.put("a")
        self.start()
        self.assertEqual(self.waiting(), 1)
        self.put("b")
        self.clock.advance(INTERVAL)
        self.turn()
        self.assertEqual((self.kept(), self.waiting()), (1, 0))
        self.assertEqual(self.relay.statistics()["aside"], 1)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_the_ledger_goes_away_in_between(self) -> None:
        """While each one is tried the ledger may go away: then nothing lies aside."""
        self.put("a", "b", "c")
        answers: list[Deferred[Any]] = [
            fail(ZeroDivisionError()),
            succeed(["admitted"]),
            fail(LedgerUnavailableError("away")),
        ]
        with mock.patch.object(self.ledger, "admit", lambda events: answers.pop(0)):
            self.start()
        self.assertEqual((answers, self.waiting()), ([], 3))
        self.assertEqual(self.relay.statistics()["aside"], 0)


class BacklogTests(RelayCase):
    """What it says of the backlog."""

    def test_gauges(self) -> None:
        """It says how many wait and since when, and that none does any more."""
        self.ledger.error = LedgerUnavailableError("away")
        self.put("a", "b")
        self.clock.advance(5.0)
        self.start()
        seen = self.relay.statistics()
        self.assertEqual((seen["backlog"], seen["age"]), (2, 5))
        self.ledger.error = None
        self.clock.advance(INTERVAL)
        self.turn()
        seen = self.relay.statistics()
        self.assertEqual((seen["backlog"], seen["age"], seen["admitted"]), (0, 0, 2))

    def test_alarm(self) -> None:
        """Too large a backlog is logged once, and its end, too; it is not counted any further."""
        self.relay = self.make(alarm=3)
        self.ledger.error = LedgerUnavailableError("away")
        self.put("a", "b", "c", "d")
        heard = self.listen()
        self.start()
        for _ in range(5):
            self.clock.advance(30.0)
            self.turn()
        self.assertEqual(self.relay.statistics()["backlog"], 3)
        self.ledger.error = None
        self.clock.advance(30.0)
        self.turn()
        self.assertEqual(
            [text for text in heard if "wait in the outbox" in text],
            [
                "3 events or more wait in the outbox",
                "Fewer than 3 events wait in the outbox again",
            ],
        )

    def listen(self) -> list[str]:
        """Hear what is logged from now on."""
        from twisted.logger import formatEvent, globalLogPublisher

        heard: list[str] = []

        def observer(log_event: Any) -> None:
            heard.append(formatEvent(log_event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return heard
