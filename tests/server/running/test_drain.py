"""Clients are sent away some at a time, in random order, within a window."""

from __future__ import annotations

import random
from bisect import bisect_left
from heapq import heappop, heappush
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.protocol import CloseCode
from oni.server._settings import ServerSettings
from oni.server.limits._admission import Admission
from oni.server.running._drain import SessionDrain
from tests.carriers import wire
from tests.server.house import Client, HouseTestCase


class SomeSession:
    """A session that notes when it was closed, and with what."""

    is_busy = False

    def __init__(self, clock: Clock, number: int) -> None:
        self.number = number
        self.closed: list[tuple[float, CloseCode]] = []
        self._clock = clock

    def close(self, code: CloseCode) -> None:
        """Note it."""
        self.closed.append((self._clock.seconds(), code))


class DrainTests(SynchronousTestCase):
    """What happens at the stop."""

    def drain(self, count: int, window: float = 3.0, **arguments: Any) -> SessionDrain:
        """Have so many sessions, and a drain that has started."""
        self.clock = Clock()
        self.sessions = [SomeSession(self.clock, number) for number in range(count)]
        self.turned_away: list[float] = []
        drain = SessionDrain(
            lambda: self.sessions,
            lambda: self.turned_away.append(self.clock.seconds()),
            window,
            self.clock,
            **arguments,
        )
        drain.startService()
        return drain

    def times(self) -> list[float]:
        """Say when the sessions were closed."""
        for session in self.sessions:
            self.assertEqual([CloseCode.SHUTDOWN], [code for _, code in session.closed])
        return sorted(session.closed[0][0] for session in self.sessions)

    def test_nobody(self) -> None:
        """Without sessions it is over at once; who comes is sent away."""
        self.successResultOf(self.drain(0).stopService())
        self.assertEqual([0.0], self.turned_away)

    def test_a_few(self) -> None:
        """A few are closed at once, with the code that lets them come back."""
        self.successResultOf(self.drain(20).stopService())
        self.assertEqual([0.0] * 20, self.times())
        self.assertEqual(3001, CloseCode.SHUTDOWN.code)

    def test_many(self) -> None:
        """Many are closed in equal batches over the window, and not after it."""
        drain = self.drain(3000)
        stopped = drain.stopService()
        self.assertEqual([0.0], self.turned_away)
        self.clock.pump([0.1] * 28)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        times = self.times()
        batches = [times.count(at) for at in dict.fromkeys(times)]
        self.assertEqual([100] * 30, batches)
        self.assertLessEqual(times[-1], 3.0)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_who_waits_for_an_answer(self) -> None:
        """It is closed when it has it, or when the window is over; nobody else waits for it."""
        drain = self.drain(3)
        self.sessions[0].is_busy = self.sessions[1].is_busy = True
        stopped = drain.stopService()
        self.assertEqual([0, 0, 1], [len(session.closed) for session in self.sessions])
        self.clock.pump([0.1] * 5)
        self.sessions[0].is_busy = False
        self.clock.pump([0.1] * 24)
        self.assertNoResult(stopped)
        self.assertEqual([1, 0, 1], [len(session.closed) for session in self.sessions])
        self.clock.pump([0.1] * 2)
        self.successResultOf(stopped)
        times = [round(session.closed[0][0], 1) for session in self.sessions]
        self.assertEqual([0.6, 3.0, 0.0], times)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_no_window(self) -> None:
        """Without a window all are closed at once."""
        self.successResultOf(self.drain(500, window=0.0).stopService())
        self.assertEqual([0.0] * 500, self.times())

    def test_random_order(self) -> None:
        """Nobody is always the last: the order is drawn by lot."""
        drain = self.drain(500, shuffle=random.Random(1).shuffle)
        drain.stopService()
        first = [session.number for session in self.sessions if session.closed]
        self.assertEqual(20, len(first))
        self.assertGreater(max(first), 250)

    def test_hurried(self) -> None:
        """Cancelling ends it at once, and leaves no timer."""
        drain = self.drain(500)
        stopped = drain.stopService()
        stopped.cancel()
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_fails(self) -> None:
        """A session that cannot be closed keeps nobody else."""
        drain = self.drain(3)
        self.sessions[1].close = lambda code: 1 / 0  # type: ignore[method-assign]
        self.successResultOf(drain.stopService())
        self.assertEqual([1, 0, 1], [len(session.closed) for session in self.sessions])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_never_started(self) -> None:
        """What never started sends nobody away."""
        drain = SessionDrain(self.fail, self.fail, 3.0, Clock())
        self.successResultOf(drain.stopService())


class RealSessionTests(HouseTestCase):
    """The drain of an Oni that clients are connected to."""

    server = ServerSettings(max_handshakes_per_second=1000.0, max_connections_per_address=100)

    def test_in_turn(self) -> None:
        """Who has not had its turn is served; who comes is sent away; all hear why."""
        clients = [self.connected() for _ in range(50)]
        waiting: Deferred[None] = Deferred()
        self.on("before", lambda act: waiting, action="publish", channel="slow")
        busy = clients[0].command("publish", channel="slow", data=1)
        drain = SessionDrain(
            lambda: tuple(self.oni.sessions.values()), self.oni.turn_away, 1.0, self.reactor
        )
        drain.startService()
        stopped = drain.stopService()
        self.assertEqual(["draining"], list(self.oni.condition.problems()))
        closed = [client for client in clients if self.said(client)]
        self.assertGreaterEqual(len(closed), 19)
        self.assertLessEqual(len(closed), 20)
        late = next(client for client in clients[1:] if client not in closed)
        self.assertEqual({}, late.ask("publish", channel="lobby", data=1))
        newcomer = Client(self)
        newcomer.send(wire.upgrade())
        _, rest = wire.split_response(newcomer.take())
        self.assertEqual((3001, "shutdown"), wire.close_of(rest))
        self.reactor.pump([0.1] * 5)
        self.assertNoResult(stopped)
        self.assertEqual([clients[0]], [client for client in clients if not self.said(client)])
        waiting.callback(None)
        self.reactor.pump([0.1] * 2)
        self.successResultOf(stopped)
        self.assertIn(b'"id":%d' % busy, clients[0].transport.value())
        self.assertTrue(self.said(clients[0]))

    def said(self, client: Client) -> bool:
        """Tell whether a client was told to come back."""
        return wire.close_of(client.transport.value()) == (3001, "shutdown")


class StormTests(SynchronousTestCase):
    """F10: all clients of a server that was restarted come back."""

    def storm(self, obeys: bool) -> float:
        """Drain 2,000 clients, be away for a second, and say how long the last one took then.

        The clients are simulated. They wait as ``centrifuge`` does: 0.5 to 20 s, drawn by lot,
        longer with every attempt. One that obeys waits as long as it was told, and up to a second
        more.
        """
        clock, lot = Clock(), random.Random(7)
        greeted: list[float] = []
        due: list[Any] = []
        admission = Admission(100.0, clock.seconds)
        back_at = 4.0

        class Client:
            attempts = 0
            is_busy = False

            def close(self, code: CloseCode) -> None:
                self.retry(0)

            def retry(self, told: float) -> None:
                bound = min(0.5 * 2**self.attempts, 20.0)
                self.attempts += 1
                wait = told + lot.random() if told and obeys else max(lot.uniform(0, bound), 0.5)
                heappush(due, (clock.seconds() + wait, lot.random(), self))

            def connect(self) -> None:
                if clock.seconds() < back_at:
                    self.retry(0)
                elif told := admission.admit():
                    self.retry(told)
                else:
                    greeted.append(clock.seconds())

        clients = [Client() for _ in range(2000)]
        drain = SessionDrain(lambda: clients, lambda: None, 3.0, clock, lot.shuffle)
        drain.startService()
        self.assertNoResult(drain.stopService())
        while due or len(greeted) < 2000:
            clock.advance(0.05)
            while due and due[0][0] <= clock.seconds():
                heappop(due)[2].connect()
        self.assertEqual(2000, len(greeted))
        most = max(bisect_left(greeted, at + 1.0) - number for number, at in enumerate(greeted))
        self.assertLessEqual(most, 110)
        return greeted[-1] - back_at

    def test_who_obeys(self) -> None:
        """No more than 110 in any second are greeted, and all are back within 30 s."""
        self.assertLess(self.storm(obeys=True), 30.0)

    def test_who_cannot_hear(self) -> None:
        """A browser does not tell a page when to come back: then it takes up to a minute."""
        self.assertLess(self.storm(obeys=False), 60.0)
