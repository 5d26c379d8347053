"""When deliveries are looked for, how many are taken, and a ledger that is away."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from oni.errors import LedgerCorruptError, NotRunningError
from oni.ledger import Ledger
from oni.sources import EventSources, event
from oni.values import Event
from tests.ledger.threads import AtOnce, WhenTold
from tests.sources.house import SourcesTestCase


class LoopTests(SourcesTestCase):
    """A process that delivers, and another that only admits."""

    def setUp(self) -> None:
        """Start both."""
        super().setUp()
        self.other = self.start(self.make(deliver="worker"))
        self.waiting: list[Deferred[None]] = []

    def register(self, sources: EventSources, group: str, handler: Any, name: str) -> None:
        """Register a handler in both."""
        for each in (sources, self.other):
            each.register_group_handler(group, handler, name=name)

    def admit(self, group: str, *ids: int) -> None:
        """Let the other one admit events."""
        self.get(self.other.only_new_events([event(group, id) for id in ids]))

    def hang(self, event: Event) -> Deferred[None]:
        """Wait until a test says so."""
        self.called.append(event.key)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def test_found_after_a_restart(self) -> None:
        """What was admitted and never processed is found at the start."""
        self.register(self.sources, "", self.note(), "n")
        self.admit("g", 1, 2)
        self.start()
        self.clock.settle()
        self.assertEqual(sorted(self.called), ["1:g1", "1:g2"])

    def test_woken(self) -> None:
        """After a wake it is looked at once; many wakes are as one."""
        self.start()
        self.register(self.sources, "", self.note(), "n")
        self.clock.settle()
        self.admit("g", 1)
        before = self.sources.statistics()["looks"]
        timers = len(self.clock.getDelayedCalls())
        for _ in range(10):
            self.sources.wake()
        self.assertEqual(len(self.clock.getDelayedCalls()), timers + 1)
        self.clock.settle()
        self.assertEqual(self.called, ["1:g1"])
        # One that finds it, and one that sees that there is no more.
        self.assertLessEqual(self.sources.statistics()["looks"] - before, 3)

    def test_polls(self) -> None:
        """Without a wake it is looked now and then."""
        self.start()
        self.register(self.sources, "", self.note(), "n")
        self.clock.pass_time(1.5)
        self.admit("g", 1)
        self.assertEqual(self.called, [])
        self.clock.pass_time(1.0)
        self.assertEqual(self.called, ["1:g1"])

    def test_polls_at_odd_times(self) -> None:
        """The times between two looks differ, so that processes do not march in step."""
        moments = []
        for chance in (0.0, 1.0):
            sources = self.make(poll=2.0)
            sources.configure(random=lambda chance=chance: chance)
            sources.register_group_handler("", self.note(), name="n")
            self.start(sources)
            self.clock.settle()
            began = self.clock.seconds()
            looks = sources.statistics()["looks"]
            while sources.statistics()["looks"] == looks:
                self.clock.pass_time(0.25)
            moments.append(self.clock.seconds() - began)
            self.get(sources.stop())
        self.assertEqual(moments, [1.0, 3.0])

    def test_wake_does_no_harm(self) -> None:
        """Waking never fails: not before the start, not after the stop, not without a reactor."""
        self.sources.wake()
        self.start()
        self.clock.callFromThread = self.fail_to_call  # type: ignore[method-assign]
        self.sources.wake()
        del self.clock.callFromThread
        self.register(self.sources, "", self.note(), "n")
        self.admit("g", 1)
        self.sources.wake()
        self.clock.settle()
        self.assertEqual(self.called, ["1:g1"])
        self.get(self.sources.stop())
        self.sources.wake()

    def fail_to_call(self, *call: Any) -> None:
        """Be a reactor that is gone."""
        raise RuntimeError("no reactor")

    # --- How many

    def test_bounded(self) -> None:
        """No more are under way than said: however many wait, they wait in the ledger."""
        sources = self.start(self.make(concurrency=3))
        self.register(sources, "", self.hang, "n")
        self.admit("g", *range(200))
        sources.wake()
        self.clock.pass_time(3)
        self.assertEqual((len(self.called), sources.statistics()["under_way"]), (3, 3))
        self.assertEqual(Counter(row.state for row in self.store.rows.values())["running"], 3)
        for _ in range(10):
            self.waiting.pop().callback(None)
            self.clock.settle()
            self.assertEqual(sources.statistics()["under_way"], 3)
        while self.waiting:
            self.waiting.pop().callback(None)
            self.clock.settle()
        self.assertEqual(len(self.called), 200)

    def test_a_slow_handler_holds_up_no_other(self) -> None:
        """While all places are taken by one that hangs, every other handler still has one."""
        sources = self.start(self.make(concurrency=2))
        self.register(sources, "^slow", self.hang, "slow")
        self.register(sources, "^quick", self.note("quick"), "quick")
        self.admit("slow", *range(20))
        sources.wake()
        self.clock.settle()
        self.admit("quick", *range(20))
        sources.wake()
        self.clock.settle()
        self.assertEqual(Counter(name for name, _ in filter(_is_pair, self.called))["quick"], 20)
        self.assertEqual(sources.statistics()["under_way"], 2)

    def test_many_processes(self) -> None:
        """Several processes share what is due, and none is called twice."""
        several = [self.start(self.make(concurrency=2)) for _ in range(3)]
        called: list[Counter[str]] = []
        for sources in several:
            counter: Counter[str] = Counter()
            called.append(counter)

            def handle(event: Event, counter: Counter[str] = counter) -> Deferred[None]:
                counter[event.key] += 1
                self.waiting.append(Deferred())
                return self.waiting[-1]

            sources.register_group_handler("", handle, name="n")
        self.other.register_group_handler("", self.note(), name="n")
        self.admit("g", *range(30))
        for sources in several:
            sources.wake()
        self.clock.settle()
        while self.waiting:
            self.waiting.pop(0).callback(None)
            self.clock.settle()
        self.assertEqual(set(sum(called, Counter()).values()), {1})
        self.assertEqual(len(sum(called, Counter())), 30)
        self.assertGreater(min(map(len, called)), 5)

    # --- A ledger that is away

    def test_ledger_is_away(self) -> None:
        """It is tried again, later each time, said once, and found again when it is back."""
        self.start()
        self.register(self.sources, "", self.note(), "n")
        self.clock.settle()
        self.admit("g", 1)
        self.store.is_away = True
        with capturedLogs() as logs:
            before = self.sources.statistics()["looks"]
            self.clock.pass_time(100)
            tries = self.sources.statistics()["looks"] - before
            self.assertEqual(self.sources.statistics()["ledger_is_away"], 1)
            self.store.is_away = False
            self.clock.pass_time(31)
        self.assertTrue(8 <= tries <= 15, tries)
        self.assertEqual((self.called, self.sources.statistics()["ledger_is_away"]), (["1:g1"], 0))
        texts = [log["log_format"] for log in logs]
        self.assertEqual(len([t for t in texts if "is tried again" in t]), 1)
        self.assertEqual(texts.count("The ledger can be used again"), 1)
        self.admit("g", 2)
        self.sources.wake()
        self.clock.settle()
        self.assertEqual(self.called, ["1:g1", "1:g2"])

    def test_waking_does_not_hurry_it(self) -> None:
        """Who wakes it while the ledger is away does not make it try more often."""
        self.start()
        self.register(self.sources, "", self.note(), "n")
        self.store.is_away = True
        self.clock.pass_time(20)
        before = self.sources.statistics()["looks"]
        for _ in range(20):
            self.sources.wake()
            self.clock.pass_time(0.05)
        self.assertLessEqual(self.sources.statistics()["looks"] - before, 1)

    def test_whatever_goes_wrong(self) -> None:
        """No failure ends the looking for good."""

        def broken(*args: Any) -> Any:
            raise ZeroDivisionError

        self.start()
        self.register(self.sources, "", self.note(), "n")
        self.clock.settle()
        self.admit("g", 1)
        claim, self.sources.ledger.claim = self.sources.ledger.claim, broken
        self.clock.pass_time(3)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.sources.ledger.claim = claim
        self.clock.pass_time(10)
        self.assertEqual(self.called, ["1:g1"])

    def test_damaged(self) -> None:
        """A damaged ledger is not looked at in a hurry either."""
        self.start()
        self.register(self.sources, "", self.note(), "n")

        def damaged(*args: Any) -> Any:
            raise LedgerCorruptError("it is damaged")

        self.store.transaction = damaged  # type: ignore[method-assign]
        self.clock.pass_time(60)
        self.assertLess(self.sources.statistics()["looks"], 15)

    def slow_ledger(self) -> tuple[EventSources, dict[str, Any]]:
        """Give event sources whose ledger writes when a test says so; an event waits."""
        threads: dict[str, Any] = {}

        def make_threads(name: str, size: int) -> Any:
            threads[name] = WhenTold() if name == "writer" else AtOnce()
            return threads[name]

        ledger = Ledger(self.store, interval=None, reactor=self.clock, make_threads=make_threads)
        sources = EventSources(ledger, reactor=self.clock, make_pool=lambda size: self.pool)
        self.register(sources, "", self.note(), "n")
        self.admit("g", 1)
        started = sources.start()
        threads["writer"].go()
        self.get(started)
        return sources, threads

    def test_claims_that_come_too_late(self) -> None:
        """What is claimed while a stop begins is given back."""
        sources, threads = self.slow_ledger()
        self.assertEqual(threads["writer"].waiting, 1)
        stopped = sources.stop()
        self.let_go(threads)
        self.get(stopped)
        (row,) = self.store.rows.values()
        self.assertEqual((row.state, row.attempts, row.token), ("pending", 0, 1))
        self.assertEqual(self.called, [])

    def test_processing_that_comes_too_late(self) -> None:
        """So is what was claimed for somebody who waits, and who is told."""
        sources, threads = self.slow_ledger()
        looks: Deferred[Any] = Deferred()  # the loop waits for its own claim, and takes no part
        sources.ledger.claim, claim = (lambda *args: looks), sources.ledger.claim
        self.let_go(threads)
        sources.ledger.claim = claim
        self.get(self.other.only_new_events([event("g", 2)]))
        processed = sources.process_events([event("g", 2)])
        self.clock.settle()
        threads["writer"].go()  # the admission
        self.clock.settle()
        self.assertEqual(threads["writer"].waiting, 1)
        stopped = sources.stop()
        self.let_go(threads)
        self.refuse(processed, NotRunningError)
        looks.callback(())
        self.let_go(threads)
        self.get(stopped)
        row = self.store.rows["1:g2", "n"]
        self.assertEqual((row.state, row.attempts), ("pending", 0))
        self.assertNotIn("1:g2", self.called)

    def test_woken_while_it_looks(self) -> None:
        """Who wakes it while a claim is on its way may have come too late for that one."""
        sources, threads = self.slow_ledger()
        sources.unregister_group_handler("n")
        sources.register_group_handler("^other", self.note(), name="other")
        self.let_go(threads)
        self.clock.pass_time(1.5)
        self.assertEqual(threads["writer"].waiting, 1)
        sources.wake()
        self.clock.settle()
        threads["writer"].go()
        self.clock.settle()
        self.assertEqual(threads["writer"].waiting, 1)
        stopped = sources.stop()
        self.let_go(threads)
        self.get(stopped)

    def test_threads_are_exhausted(self) -> None:
        """What needs a thread is left to others when all of them are lost."""
        sources = self.start()
        sources.register_group_handler("", self.note("n"), name="n")
        sources.register_group_handler("", self.note("t"), name="t", threaded=True)
        self.pool.is_exhausted = True
        self.get(sources.only_new_events([event("g", 1)]))
        self.clock.pass_time(3)
        self.get(sources.process_events([event("g", 2)]))
        self.assertEqual(self.called, [("n", "1:g1"), ("n", "1:g2")])
        self.assertEqual(self.states("1:g1"), {"n": "done", "t": "pending"})
        self.pool.is_exhausted = False
        self.clock.pass_time(3)
        self.assertEqual(self.states("1:g1"), {"n": "done", "t": "done"})

    def test_unregistered_by_a_handler(self) -> None:
        """What was claimed and is not called any more has not failed, and waits for it."""
        sources = self.start()
        name = sources.register_group_handler(
            "", lambda event: sources.unregister_group_handler(name), name="n", on_crash="park"
        )
        self.get(sources.process_events([event("g", 1), event("g", 2)]))
        rows = [(row.key, row.state, row.attempts) for row in self.store.rows.values()]
        self.assertEqual(rows, [("1:g1", "done", 1), ("1:g2", "pending", 0)])

    def test_unregistered_meanwhile(self) -> None:
        """What is claimed for a handler that is unregistered by then is given back."""
        sources, threads = self.slow_ledger()
        sources.unregister_group_handler("n")
        self.let_go(threads)
        (row,) = self.store.rows.values()
        self.assertEqual((row.state, row.attempts), ("pending", 0))
        self.assertEqual(sources.statistics()["released"], 1)

    def let_go(self, threads: dict[str, Any]) -> None:
        """Let the writer write until nothing is asked of it."""
        self.clock.settle()
        while threads["writer"].waiting:
            threads["writer"].go()
            self.clock.settle()


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple)
