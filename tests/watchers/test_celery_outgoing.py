"""Messages on their way to a broker: nobody waits for it, and nothing waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher
from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase

from oni._clock import Clock
from oni.errors import NotNowError, NotRunningError
from oni.watchers.celery._outgoing import Outgoing
from tests.watchers.test_watchers import Reactor


class Post:
    """Stands for a connection to a broker.

    Attributes:
        sent: What the broker has.
        answer: Is called with each message, in the thread.
        threads: Those that sent.
    """

    address = "redis://broker"

    def __init__(self) -> None:
        """Begin with a good broker."""
        self.sent: list[str] = []
        self.answer: Callable[[str], object] = lambda message: None
        self.threads: set[str] = set()
        self.closed = threading.Event()

    def send(self, message: str, key: str) -> None:
        """Give it to the broker."""
        answer = self.answer
        self.threads.add(threading.current_thread().name)
        answer(message)
        self.sent.append(message)

    def close(self) -> None:
        """Say so."""
        self.closed.set()


class OutgoingTests(SynchronousTestCase):
    """A thread of their own, and time limits."""

    def setUp(self) -> None:
        """Make one, on a clock."""
        self.reactor = Reactor()
        self.post = Post()
        self.outgoing = Outgoing(lambda: self.post, 5.0, 3, Clock(self.reactor))
        self.go_on = threading.Event()
        self.addCleanup(self.outgoing.stop)
        self.addCleanup(self.go_on.set)
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """Keep what is logged."""
        if event.get("log_namespace", "").startswith("oni.watchers"):
            self.said.append(event["log_format"].format(**event))

    def hang(self, message: str) -> None:
        """Be a broker that accepts, and never answers."""
        self.go_on.wait(30)

    def refuse(self, message: str) -> None:
        """Be a broker that is not there."""
        raise ConnectionRefusedError("no route")

    def ended(self, *sent: Deferred[None]) -> None:
        """Wait until these have fired."""
        self.reactor.until(lambda: all(each.called for each in sent))

    def refused(self, sent: Deferred[None]) -> NotNowError:
        """Wait for a failure; give it."""
        self.ended(sent)
        error = self.failureResultOf(sent, NotNowError).value
        assert isinstance(error, NotNowError)
        return error

    def test_confirmed(self) -> None:
        """In order, in one thread, which is none of the caller's."""
        self.post.answer = self.hang
        sent = [self.outgoing.send(text, "k") for text in "abc"]
        for each in sent:
            self.assertNoResult(each)
        self.assertEqual([], self.post.sent)  # nobody has waited for the broker
        self.go_on.set()
        self.ended(*sent)
        self.assertEqual(["a", "b", "c"], self.post.sent)
        self.assertEqual({"oni-broker-1"}, self.post.threads)
        self.assertEqual(
            {"sent": 3, "refused": 0, "waiting": 0, "threads_lost": 0}, self.outgoing.statistics()
        )
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual([], self.said)

    def test_from_another_thread(self) -> None:
        """It is the reactor's thread that takes it, so that two never do at once."""
        self.patch(threadable, "ioThread", -1)
        sent = [self.outgoing.send(text, "k") for text in "abcd"]
        cancelled = self.outgoing.send("e", "k")
        self.assertEqual(0, self.outgoing.statistics()["waiting"])
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.patch(threadable, "ioThread", threading.get_ident())
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.ended(*sent)
        self.assertEqual(["a", "b", "c", "d"], self.post.sent)

    def test_away_and_back(self) -> None:
        """It is logged once that the broker is away, and once that it is back."""
        self.post.answer = self.refuse
        for _ in range(3):
            error = self.refused(self.outgoing.send("a", "k"))
        self.assertIn("ConnectionRefusedError: no route", str(error))
        self.post.answer = lambda message: None
        for text in "ab":
            self.ended(self.outgoing.send(text, "k"))
        self.assertEqual(
            [
                "The broker redis://broker takes no messages, and is tried again: "
                "ConnectionRefusedError: no route",
                "The broker takes messages again",
            ],
            self.said,
        )

    def test_those_behind(self) -> None:
        """They fail with the first one, and do not wait as long again, each in its turn."""
        self.post.answer = self.hang
        sent = [self.outgoing.send(text, "k") for text in "abc"]
        self.reactor.advance(4.9)
        for each in sent:
            self.assertNoResult(each)
        self.reactor.advance(0.2)
        errors = [self.refused(each) for each in sent]
        self.assertIn("has not confirmed a message in 5 s", str(errors[0]))

    def test_another_thread(self) -> None:
        """When one hangs another takes its place; what it does in the end is not counted."""
        self.post.answer = self.hang
        hanging = self.outgoing.send("a", "k")
        self.reactor.until(lambda: self.post.threads)
        self.reactor.advance(5)
        self.refused(hanging)
        self.post.answer = lambda message: None
        self.ended(self.outgoing.send("b", "k"))
        self.assertEqual(1, self.outgoing.statistics()["threads_lost"])
        self.go_on.set()
        self.reactor.until(lambda: self.outgoing.statistics()["threads_lost"] == 0)
        self.assertTrue(self.post.closed.wait(30))  # and it ends
        self.assertEqual({"oni-broker-1", "oni-broker-2"}, self.post.threads)
        self.assertEqual(1, self.outgoing.statistics()["sent"])

    def test_not_too_many_threads(self) -> None:
        """When too many hang, no more are made until one of them comes back."""
        self.post.answer = self.hang
        for number in range(1, 5):
            sent = self.outgoing.send("a", "k")
            self.reactor.until(lambda number=number: len(self.post.threads) == number)
            self.reactor.advance(5)
            self.refused(sent)
        error = self.refused(self.outgoing.send("b", "k"))
        self.assertIn("all threads that send hang", str(error))
        self.assertEqual(4, len(self.post.threads))
        self.post.answer = lambda message: None
        self.go_on.set()
        self.reactor.until(lambda: self.outgoing.statistics()["threads_lost"] == 0)
        self.ended(self.outgoing.send("c", "k"))
        self.assertEqual(1, self.outgoing.statistics()["sent"])

    def test_full(self) -> None:
        """Only so many wait; it is said once."""
        self.post.answer = self.hang
        sent = [self.outgoing.send(text, "k") for text in "abcd"]  # one is under way
        for _ in range(2):
            self.refused(self.outgoing.send("e", "k"))
        self.assertEqual(1, len(self.said))
        self.assertIn("3 messages wait to be sent", self.said[0])
        self.go_on.set()
        self.ended(*sent)
        self.assertEqual(["a", "b", "c", "d"], self.post.sent)

    def test_full_again(self) -> None:
        """It is said again when some were sent meanwhile."""
        for number in (1, 2):
            self.go_on.clear()
            self.post.answer = self.hang
            sent = [self.outgoing.send(text, "k") for text in "abcd"]
            self.refused(self.outgoing.send("e", "k"))
            self.assertEqual(number, len(self.said))
            self.go_on.set()
            self.ended(*sent)

    def test_each_at_its_time(self) -> None:
        """What was refused comes again soon, but not all of it at once, and not never."""
        self.post.answer = self.refuse
        afters = [self.refused(self.outgoing.send("a", "k")).after for _ in range(3)]
        afters += [self.outgoing._turn() for _ in range(20_000)]
        self.assertTrue(all(5 <= after <= 300.1 for after in afters))
        self.assertLess(afters[0], 6)
        in_a_second = sum(1 for after in afters if 100 <= after < 101)
        self.assertTrue(49 <= in_a_second <= 51, in_a_second)

    def test_soon_after_it_was_back(self) -> None:
        """Those of the next time do not wait for the turns of the last one."""
        self.post.answer = self.refuse
        for _ in range(100):
            after = self.refused(self.outgoing.send("a", "k")).after
        self.assertGreater(after, 6)
        self.post.answer = lambda message: None
        self.ended(self.outgoing.send("b", "k"))
        self.post.answer = self.refuse
        self.assertLess(self.refused(self.outgoing.send("c", "k")).after, 6)

    def test_cancelled_and_not_sent(self) -> None:
        """Nobody is told twice: not when the broker is away, and not at the end."""
        self.post.answer = self.hang
        first, second = (self.outgoing.send(text, "k") for text in "ab")
        for each in (first, second):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.reactor.advance(5)  # they are refused
        third, fourth = (self.outgoing.send(text, "k") for text in "cd")
        fourth.cancel()
        self.failureResultOf(fourth, CancelledError)
        self.outgoing.stop()
        self.go_on.set()
        self.ended(third)

    def test_cancelled(self) -> None:
        """What waits is not sent; what is under way is not waited for."""
        self.post.answer = self.hang
        first, second, third = (self.outgoing.send(text, "k") for text in "abc")
        for each in (first, second):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.go_on.set()
        self.ended(third)
        self.assertEqual(["a", "c"], self.post.sent)

    def test_stopped(self) -> None:
        """The connection goes; what waits fails."""
        self.post.answer = self.hang
        first, second = (self.outgoing.send(text, "k") for text in "ab")
        self.outgoing.stop()
        self.failureResultOf(second, NotRunningError)
        self.go_on.set()
        self.ended(first)
        self.successResultOf(first)
        self.assertTrue(self.post.closed.wait(30))
        self.ended(self.outgoing.send("c", "k"))  # and it begins again
        self.assertEqual(["a", "c"], self.post.sent)

    def test_no_thread(self) -> None:
        """A system that gives no thread is one that is tried again."""

        def no_more(*args: object) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", no_more)
        self.failureResultOf(self.outgoing.send("a", "k"), NotNowError)

    def test_what_exits(self) -> None:
        """Does not end the thread."""

        def leave(message: str) -> None:
            raise SystemExit(1)

        self.post.answer = leave
        self.refused(self.outgoing.send("a", "k"))
        self.post.answer = lambda message: None
        self.ended(self.outgoing.send("b", "k"))
        self.assertEqual({"oni-broker-1"}, self.post.threads)
