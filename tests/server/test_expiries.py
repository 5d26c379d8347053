"""Many ends at times of their own, on one delayed call."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.server import Grant
from oni.server._expiries import Expiries
from oni.server._settings import ServerSettings
from tests.server.house import HouseTestCase

MANY = 1000


class ExpiriesTests(SynchronousTestCase):
    """Tests of :class:`oni.server._expiries.Expiries`."""

    def setUp(self) -> None:
        """Make some."""
        self.clock = Clock()
        self.expiries = Expiries(self.clock)
        self.ended: list[Any] = []

    def add(self, seconds: float, name: Any) -> Any:
        """Add one that says its name."""
        return self.expiries.add(seconds, lambda: self.ended.append(name))

    def test_order(self) -> None:
        """Each comes at its time, whatever the order in which they were added."""
        for seconds in (5, 1, 3, 1):
            self.add(seconds, seconds)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0.9)
        self.assertEqual(self.ended, [])
        self.clock.advance(0.1)
        self.assertEqual(self.ended, [1, 1])
        self.clock.advance(2)
        self.assertEqual(self.ended, [1, 1, 3])
        self.clock.advance(2)
        self.assertEqual(self.ended, [1, 1, 3, 5])
        self.assertEqual((len(self.expiries), self.clock.getDelayedCalls()), (0, []))

    def test_cancel(self) -> None:
        """A cancelled one does not come, and the last one stops the clock."""
        first, second = self.add(1, 1), self.add(2, 2)
        first.cancel()
        first.cancel()
        self.assertTrue(first.is_over)
        self.assertEqual(len(self.expiries), 1)
        self.clock.advance(2)
        self.assertEqual(self.ended, [2])
        self.assertTrue(second.is_over)
        second.cancel()
        third = self.add(1, 3)
        third.cancel()
        self.assertEqual((len(self.expiries), self.clock.getDelayedCalls()), (0, []))

    def test_swept(self) -> None:
        """Those that were refreshed again and again do not stay in memory."""
        self.add(500, 0)
        for _ in range(MANY):
            self.add(1000, 1).cancel()
        self.assertEqual(len(self.expiries), 1)
        self.assertLess(len(self.expiries._heap), 200)

    def test_many_at_once(self) -> None:
        """No reactor turn ends more than 500."""
        for number in range(MANY + 1):
            self.add(1, number)
        turns = []
        later = self.clock.callLater
        self.clock.callLater = lambda *args: turns.append(len(self.ended)) or later(*args)
        self.clock.advance(1)
        self.assertEqual(turns, [500, 1000])
        self.assertEqual(self.ended, list(range(MANY + 1)))

    def test_failure(self) -> None:
        """One that raises keeps none of the others from coming."""
        self.expiries.add(1, lambda: 1 / 0)
        self.add(1, "next")
        self.assertRaises(ZeroDivisionError, self.clock.advance, 1)
        self.clock.advance(0)
        self.assertEqual(self.ended, ["next"])

    def test_during(self) -> None:
        """One may add and cancel others when it comes."""
        later = self.add(2, "never")

        def come() -> None:
            later.cancel()
            self.add(1, "added")

        self.expiries.add(1, come)
        self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(5)
        self.assertEqual(self.ended, ["added"])

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("add"), st.integers(0, 20)),
                st.tuples(st.just("cancel"), st.integers(0, 30)),
                st.tuples(st.just("advance"), st.integers(0, 7)),
            ),
            max_size=60,
        )
    )
    def test_like_the_reactor(self, steps: list[tuple[str, int]]) -> None:
        """They come when delayed calls of their own would."""
        self.setUp()
        truth = Clock()
        expected: list[int] = []
        pairs: list[Any] = []
        for step, number in steps:
            if step == "add":
                name = len(pairs)
                call = truth.callLater(number, expected.append, name)
                pairs.append((self.add(number, name), call))
            elif step == "cancel" and pairs:
                expiry, call = pairs[number % len(pairs)]
                expiry.cancel()
                if call.active():
                    call.cancel()
            else:
                self.clock.advance(number)
                truth.advance(number)
            self.assertEqual(sorted(self.ended), sorted(expected))
            self.assertEqual(len(self.expiries), len(truth.getDelayedCalls()))
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)


class ManySessionsTests(HouseTestCase):
    """Sessions and subscriptions that end by themselves."""

    server = ServerSettings(max_connections=2 * MANY)

    def test_constant(self) -> None:
        """A thousand with a time to live have as many delayed calls as two of them."""

        def grant(act: Any) -> None:
            act.grant = Grant(ttl=60.0 + len(self.oni.sessions) % 7)

        self.on("before", grant)
        self.join()
        self.join()
        calls = len(self.reactor.getDelayedCalls())
        for _ in range(MANY):
            self.join()
        self.assertEqual(len(self.reactor.getDelayedCalls()), calls)
        self.assertEqual(len(self.oni._timers.expiries), 2 * (MANY + 2))

    def join(self) -> None:
        """Open a session whose client, like a server-sent event's, hears one channel."""
        session: Any = self.oni.open_session(Deaf())
        session.received(b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"lobby"}}')
        self.reactor.advance(0)


class Deaf:
    """A carrier that takes everything and sends nothing."""

    encode = staticmethod(bytes)

    def send(self, payload: bytes) -> None:
        """Take it."""

    def close(self, code: Any) -> None:
        """Close."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def wake(self, subscription: Any) -> None:
        """Never look."""
