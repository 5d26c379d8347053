"""A backend that is down, and a node that is deaf: nobody is told what may not be true."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from oni.channels import Channels
from oni.errors import BackendError
from oni.interfaces import IChannelBackend
from oni.testing import Ear, FakeBackend
from oni.values import Position, StreamOptions
from tests.channels.node import NodeTestCase


class HealthTestCase(NodeTestCase):
    """A node that hears a channel, and another one that publishes on it."""

    options = StreamOptions(ring_entries=4, history_size=8, history_ttl=600.0)

    def make_backend(self) -> IChannelBackend:
        """Make a backend that holds nothing back."""
        self.backend = FakeBackend(self.clock, holds=False)
        return self.backend

    def setUp(self) -> None:
        """Subscribe an ear, and let it hear a first publication."""
        super().setUp()
        self.elsewhere = self.make_node(self.backend.peer()).get("news")
        self.hear()
        self.send(1)
        self.assertEqual(self.numbers(), [1])

    def send(self, *numbers: int) -> None:
        """Publish on the other node."""
        self.publish(*numbers, channel=self.elsewhere)

    def number(self, name: str) -> int:
        """Give one of the node's numbers."""
        return self.node.statistics()[name]

    def become_deaf(self) -> None:
        """Hear nothing any more, and let the node find that out."""
        self.backend.is_deaf = True
        self.clock.advance(10)
        self.clock.advance(5)
        self.flushLoggedErrors()

    def attach(self, offset: int) -> Deferred[Any]:
        """Come back with an offset."""
        return self.channel.attach(Ear(), Position(self.channel.ring.epoch, offset))


class ProbeTests(HealthTestCase):
    """What is asked, and what is seen of it."""

    def test_well(self) -> None:
        """While probes come back all is well."""
        for _ in range(10):
            self.clock.advance(10)
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (1, 0))
        self.assertEqual(self.number("failed_probes"), 0)
        self.assertEqual(self.backend.probes, 10)

    def test_deaf(self) -> None:
        """A probe that is not back in time shows that the node is deaf, until one is."""
        self.backend.is_deaf = True
        self.clock.advance(10)
        self.clock.advance(4.9)
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (1, 0))
        self.clock.advance(0.1)
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (0, 1))
        self.clock.advance(10)
        self.clock.advance(5)
        self.assertEqual(self.number("failed_probes"), 2)
        self.backend.is_deaf = False
        self.clock.advance(10)
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (1, 0))

    def test_fails(self) -> None:
        """A probe that fails shows the same, at once."""
        self.backend.is_down = True
        self.clock.advance(10)
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (0, 1))

    def test_down(self) -> None:
        """What the backend says is seen, too, and it may be well and deaf together."""
        self.backend.go_down()
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (0, 0))
        self.backend.come_up()
        self.assertEqual(self.number("backend_up"), 1)
        self.become_deaf()
        self.backend.go_down()
        self.backend.is_deaf = False
        self.backend.come_up()
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (0, 1))
        self.clock.advance(10)
        self.assertEqual((self.number("backend_up"), self.number("deaf")), (1, 0))

    def test_stopped(self) -> None:
        """After a stop nothing is probed, nor waited for."""
        self.backend.is_deaf = True
        self.clock.advance(10)
        self.node.stop()
        probes = self.backend.probes
        self.clock.advance(60)
        self.assertEqual((self.backend.probes, self.number("failed_probes")), (probes, 0))

    def test_nobody_hears(self) -> None:
        """Nothing is probed where nobody hears anything."""
        backend = FakeBackend(self.clock, holds=False)
        node = self.make_node(backend)
        node.get("a").publish("x", 1)
        self.clock.advance(60)
        self.assertEqual(backend.probes, 0)
        node.hear_control(lambda message: None)
        self.clock.advance(10)
        self.assertEqual(backend.probes, 1)


class CatchingUpTests(HealthTestCase):
    """What readers hear after the feed was deaf, or the backend down."""

    def test_from_history(self) -> None:
        """What came meanwhile is read from history as soon as the node hears again."""
        self.become_deaf()
        self.send(2, 3)
        self.assertEqual(self.numbers(), [1])
        self.backend.is_deaf = False
        self.clock.advance(10)
        self.assertEqual(self.numbers(), [1, 2, 3])
        self.assertEqual(self.ear.gaps, [])

    def test_gap(self) -> None:
        """Where history is too short, they are told of a gap, and go on after it."""
        self.become_deaf()
        self.send(*range(2, 16))
        self.backend.is_deaf = False
        self.clock.advance(10)
        self.assertEqual(self.ear.offsets, [1, -7, *range(8, 16)])

    def test_back_up(self) -> None:
        """The same after the backend was down and lost what the feed had."""
        self.backend.go_down()
        self.backend.is_deaf = True
        self.send(2)
        self.backend.is_deaf = False
        self.assertEqual(self.numbers(), [1])
        self.backend.come_up()
        self.assertEqual(self.numbers(), [1, 2])

    def test_many(self) -> None:
        """Many channels are asked for in several turns of the reactor."""
        held = [self.node.get(f"c{number}") for number in range(250)]
        for channel in held:
            self.successResultOf(channel.start())
        self.become_deaf()
        self.backend.is_deaf = False
        begun, turns = self.backend.follows, []
        call_later = self.clock.callLater

        def note(delay: float, *args: Any) -> Any:
            if delay == 0:
                turns.append(self.backend.follows - begun)
            return call_later(delay, *args)

        self.clock.callLater = note  # type: ignore[method-assign, assignment]
        self.clock.advance(10)
        self.assertEqual([*turns, self.backend.follows - begun], [100, 200, 251])

    def test_in_between(self) -> None:
        """Nothing is asked for again that was asked for anew in between."""
        self.become_deaf()
        self.successResultOf(self.attach(1))
        self.backend.is_deaf = False
        self.clock.advance(10)
        self.send(2)
        self.assertEqual(self.numbers(), [1, 2])


class RecoveryTests(HealthTestCase):
    """What those are told who come back meanwhile."""

    def test_asked_for(self) -> None:
        """A deaf node asks the backend what was missed: its own ring is too old."""
        self.become_deaf()
        self.send(2, 3)
        for since, missed in ((1, [2, 3]), (3, [4]), (4, [5])):
            attached = self.successResultOf(self.attach(since))
            self.assertTrue(attached.recovered)
            self.assertEqual([entry.offset for entry in attached.entries], missed)
            self.send(missed[-1] + 1)

    def test_not_recovered(self) -> None:
        """What cannot be proven is not said to be recovered."""
        self.become_deaf()
        self.send(*range(2, 16))
        attached = self.successResultOf(self.attach(1))
        self.assertFalse(attached.recovered)
        self.assertEqual(attached.position.offset, 15)

    def test_down(self) -> None:
        """While the backend is down nobody knows, and the answer says so; later it is right."""
        self.backend.go_down()
        self.failureResultOf(self.attach(1), BackendError)
        self.assertEqual(self.channel.subscribers, 1)
        self.backend.come_up()
        self.assertTrue(self.successResultOf(self.attach(1)).recovered)

    def test_from_now_on(self) -> None:
        """Who wants nothing of the past is let in where the node knows the stream."""
        self.backend.go_down()
        other = Ear()
        self.assertEqual(self.hear(other).offset, 1)
        self.backend.come_up()
        self.send(2)
        self.assertEqual(self.numbers(other), [2])

    def test_asked_for_seldom(self) -> None:
        """A backend that stays down is asked less and less often, and at once when it is up."""
        self.backend.go_down()
        self.node.lost("news", "a test")
        follows = self.backend.follows
        for _ in range(120):
            self.clock.advance(1)
        self.assertLess(self.backend.follows - follows, 10)
        self.assertGreater(self.backend.follows - follows, 4)
        self.backend.is_down = False
        self.send(2)
        self.backend.come_up()
        self.assertEqual(self.numbers(), [1, 2])


class ControlTests(NodeTestCase):
    """Messages between nodes."""

    def setUp(self) -> None:
        """Make two nodes on the same streams."""
        super().setUp()
        backend = FakeBackend(self.clock, holds=False)
        self.nodes = self.make_node(backend), self.make_node(backend.peer())
        self.heard: list[tuple[int, bytes]] = []
        for number, node in enumerate(self.nodes):
            self.successResultOf(node.start())
            node.hear_control(lambda message, number=number: self.heard.append((number, message)))

    def test_everybody(self) -> None:
        """A message reaches every node, the sender too."""
        self.successResultOf(self.nodes[1].control(b"\x00x"))
        self.assertEqual(self.heard, [(0, b"\x00x"), (1, b"\x00x")])

    def test_receiver_fails(self) -> None:
        """One receiver's failure is logged, and reaches no other."""

        def fail(message: bytes) -> None:
            raise ValueError(message)

        node = self.nodes[0]
        node.hear_control(fail)
        node.hear_control(lambda message: self.heard.append((7, message)))
        self.successResultOf(node.control(b"x"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.heard, [(0, b"x"), (7, b"x"), (1, b"x")])

    def test_stopped(self) -> None:
        """After a stop nobody is called; a message that waits for the start ends with it."""
        self.nodes[0].stop()
        self.successResultOf(self.nodes[1].control(b"x"))
        self.assertEqual(self.heard, [(1, b"x")])
        node = Channels(FakeBackend(self.clock), reactor=self.clock)
        waits = node.control(b"x")
        node.stop()
        self.failureResultOf(waits, CancelledError)
