"""Crowds: who is given what is new at once, and who is woken instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni.channels import Channels
from oni.channels._crowd import Crowd
from oni.interfaces import IDirectCarrier, IEntry, ISubscription, ITurns
from oni.values import Position, StreamOptions


def encode(entry: IEntry) -> bytes:
    """Give the data alone."""
    return entry.data


@implementer(ITurns)
class Turns:
    """Keeps crowds until the test gives turns."""

    turn_bytes = 10

    def __init__(self) -> None:
        self.crowds: list[Any] = []

    def invite(self, crowd: Any) -> None:
        """Keep it."""
        self.crowds.append(crowd)

    def give(self, number: int = 100, alone: bool = True) -> bool:
        """Give each crowd a turn; say whether any has more."""
        self.crowds = [crowd for crowd in self.crowds if crowd.give(number, alone)]
        return bool(self.crowds)


@implementer(IDirectCarrier)
class Direct:
    """A carrier that takes bytes at once, and remembers what came, and how."""

    encode = staticmethod(encode)

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.heard = 0
        self.direct: Callable[[bytes], int] | None = self.send
        self.sent: list[bytes] = []
        self.rests: list[tuple[bytes, int]] = []
        self.woken: list[ISubscription] = []
        self.takes = 100

    def send(self, data: bytes) -> int:
        """Take some."""
        self.sent.append(data)
        return min(self.takes, len(data))

    def rest(self, data: bytes, sent: int) -> None:
        """Note it."""
        self.rests.append((data, sent))

    def wake(self, subscription: ISubscription) -> None:
        """Note it."""
        self.woken.append(subscription)

    def lost(self, subscription: ISubscription, position: Position) -> bytes:
        """Tell of the gap."""
        return b"gap"

    def overdue(self, subscription: ISubscription) -> None:
        """Nobody is."""

    def joined(self, subscription: ISubscription, info: Any) -> None:
        """Nobody asks."""

    def left(self, subscription: ISubscription, info: Any) -> None:
        """Nobody asks."""


class CrowdTests(SynchronousTestCase):
    """A channel with carriers that send directly."""

    def setUp(self) -> None:
        """Make a channel with a small ring."""
        options = StreamOptions(ring_entries=3)
        self.channels = Channels(options=lambda name: options, reactor=Clock())
        self.addCleanup(self.channels.stop)
        self.channel: Any = self.channels.get("c")
        self.turns = Turns()

    def hear(self, event: str | None = None) -> Direct:
        """Subscribe a carrier, and let it take everything."""
        carrier = Direct(self.turns)
        self.successResultOf(self.channel.subscribe(event, carrier))
        self.sleep(carrier)
        return carrier

    def sleep(self, carrier: Direct) -> bytes:
        """Let a carrier that was woken take everything."""
        taken = b""
        for subscription in carrier.woken:
            while not subscription.asleep:
                taken += subscription.take(1000)
        carrier.woken.clear()
        return taken

    def publish(self, *data: Any, exclude: str = "") -> None:
        """Publish."""
        for one in data:
            self.channel.publish("a", one, exclude=exclude)

    def test_interfaces(self) -> None:
        """What stands in here for carrier and turns is like the real ones."""
        verifyObject(ITurns, self.turns)
        verifyObject(IDirectCarrier, Direct(self.turns))

    def test_given(self) -> None:
        """Everybody is given the same, without being woken, and sleeps on."""
        carriers = [self.hear() for _ in range(5)]
        self.publish(1)
        self.assertEqual(self.channel.ring.readers, 1)
        self.assertFalse(self.turns.give())
        self.publish(2)
        self.turns.give()
        for carrier in carriers:
            self.assertEqual(carrier.sent, [b"1", b"2"])
            self.assertEqual(carrier.woken, [])
        self.assertEqual(self.channel.ring.readers, 0)

    def test_joined(self) -> None:
        """What came since is given as one, and made once for all who stand at one place."""
        carriers = [self.hear() for _ in range(3)]
        self.publish(1, 2, 3)
        self.assertEqual(len(self.turns.crowds), 1)
        self.turns.give()
        self.assertEqual([carrier.sent for carrier in carriers], [[b"123"]] * 3)
        self.assertIs(carriers[0].sent[0], carriers[2].sent[0])

    def test_parts(self) -> None:
        """It goes on where it stopped, and once more where something came meanwhile."""
        carriers = [self.hear() for _ in range(5)]
        self.publish(1)
        (crowd,) = self.turns.crowds
        self.assertTrue(self.turns.give(2))
        self.assertEqual(len(crowd), 3)
        self.publish(2)
        self.assertTrue(self.turns.give(2))
        self.assertTrue(self.turns.give(2))
        self.assertEqual(len(crowd), 5)
        self.assertFalse(self.turns.give())
        self.assertEqual([c.sent for c in carriers], [[b"1", b"2"]] * 2 + [[b"12"]] * 3)
        self.assertEqual([c.woken for c in carriers], [[]] * 5)
        self.assertEqual(len(crowd), 0)

    def test_newcomer(self) -> None:
        """Who comes between two publications is found by the second, though the crowd waits."""
        self.hear()
        self.publish(1)
        late = self.hear()
        self.publish(2)
        self.turns.give()
        self.assertEqual(late.sent, [b"2"])

    def test_leaver_on_the_way(self) -> None:
        """Who leaves while the crowd is on its way changes nothing for the others."""
        carriers = [self.hear() for _ in range(3)]
        self.publish(1)
        self.turns.give(1)
        self.publish(2)
        self.channel.unsubscribe(None, carriers[2])
        while self.turns.give():
            pass
        self.assertEqual([c.sent for c in carriers], [[b"1", b"2"], [b"12"], []])

    def test_newcomer_on_the_way(self) -> None:
        """Who comes while the crowd is on its way is found when it goes once more."""
        self.hear(), self.hear()
        self.publish(1)
        self.turns.give(1)
        late = self.hear()
        self.publish(2)
        self.assertTrue(self.turns.give())
        self.assertFalse(self.turns.give())
        self.assertEqual(late.sent, [b"2"])

    def test_short(self) -> None:
        """What was not taken is handed over; it counts as taken here."""
        carrier = self.hear()
        carrier.takes = 1
        self.publish(12345)
        self.turns.give()
        self.assertEqual(carrier.rests, [(b"12345", 1)])

    def test_refused(self) -> None:
        """A socket that raises has taken nothing."""
        carrier, other = self.hear(), self.hear()

        def refuse(data: bytes) -> int:
            raise BlockingIOError

        carrier.direct = refuse
        self.publish(1)
        self.turns.give()
        self.assertEqual(carrier.rests, [(b"1", 0)])
        self.assertEqual(other.sent, [b"1"])

    def woken(self, carrier: Direct, taken: bytes) -> None:
        """Look that a carrier was woken, not given anything, and finds this."""
        self.turns.give()
        self.assertEqual((carrier.sent, len(carrier.woken)), ([], 1))
        self.assertEqual(self.channel.ring.readers, 1)
        self.assertEqual(self.sleep(carrier), taken)
        self.assertEqual(self.channel.ring.readers, 0)

    def test_not_ready(self) -> None:
        """Who cannot take bytes now is woken."""
        carrier = self.hear()
        carrier.direct = None
        self.publish(1)
        self.woken(carrier, b"1")

    def test_filtered(self) -> None:
        """Who does not want everything is woken."""
        carrier = self.hear("b")
        self.publish(1)
        self.woken(carrier, b"")

    def test_filtered_meanwhile(self) -> None:
        """So is who wants less since."""
        carrier = self.hear()
        self.channel.subscribe("b", carrier)
        self.publish(1)
        self.channel.unsubscribe(None, carrier)
        self.woken(carrier, b"")

    def test_excluded(self) -> None:
        """Where a publication is not for everybody, all look for themselves."""
        carrier = self.hear()
        self.publish(1, exclude="somebody")
        self.publish(2)
        self.woken(carrier, b"12")

    def test_more_than_a_turn(self) -> None:
        """What is more than one turn's worth is taken in turns."""
        carrier = self.hear()
        self.publish(123456, 123456)
        self.woken(carrier, b"123456123456")

    def test_fallen_off(self) -> None:
        """Who has fallen off the ring takes it from there, with the gap."""
        carrier = self.hear()
        self.publish(1, 2, 3, 4, 5)
        self.woken(carrier, b"gap345")

    def test_another_life(self) -> None:
        """An offset of the stream's former life means nothing in this one."""
        carrier = self.hear()
        self.publish(1)
        self.turns.give()
        carrier.sent.clear()
        ring = self.channel.ring
        entry = ring.newest()[0]
        ring.begin(Position("new", 0))
        for offset in (1, 2):
            fresh = type(entry)("c", entry.draft, Position("new", offset), offset - 1)
            ring.append(fresh)
        self.channel._audience.wake_sleepers()
        self.woken(carrier, b"gap11")

    def test_encoding_fails(self) -> None:
        """Where a publication cannot be encoded, each finds that out in its own turn."""
        carrier = self.hear()
        self.publish(1)
        (crowd,) = self.turns.crowds

        def fail(entry: IEntry) -> bytes:
            raise ValueError("broken")

        crowd._encode = fail
        self.woken(carrier, b"1")

    def test_nothing_new(self) -> None:
        """Who has taken everything meanwhile is left alone."""
        carrier = self.hear()
        crowd = Crowd(self.channel.ring, self.turns, encode)
        crowd.members = [self.channel._audience.of(carrier)]
        crowd.wake()
        self.turns.give()
        self.assertEqual((carrier.sent, carrier.woken), ([], []))

    def test_not_begun(self) -> None:
        """Whose answer has not left is neither given anything nor woken."""
        carrier = Direct(self.turns)
        attached = self.successResultOf(self.channel.attach(carrier))
        self.publish(1)
        self.turns.give()
        self.assertEqual((carrier.sent, carrier.woken), ([], []))
        attached.subscription.begin()
        self.assertEqual(self.sleep(carrier), b"1")

    def test_closed(self) -> None:
        """Who has left meanwhile is given nothing, and not counted."""
        carrier, other = self.hear(), self.hear()
        subscription = self.channel._audience.of(carrier)
        self.publish(1)
        self.channel.unsubscribe(None, carrier)
        subscription.hear({None})
        self.turns.give()
        self.assertEqual((carrier.sent, carrier.woken), ([], []))
        self.assertEqual(other.sent, [b"1"])
        self.assertEqual(self.channel.ring.readers, 0)

    def test_heard(self) -> None:
        """A carrier of several channels is woken while other crowds wait: so it sends once."""
        carrier = self.hear()
        other: Any = self.channels.get("other")
        other.subscribe(None, carrier)
        self.sleep(carrier)
        self.assertEqual(carrier.heard, 2)
        self.publish(1)
        self.turns.give()
        self.assertEqual((carrier.sent, carrier.woken), ([b"1"], []))
        self.publish(2)
        self.turns.give(alone=False)
        self.assertEqual((carrier.sent, self.sleep(carrier)), ([b"1"], b"2"))
        other.unsubscribe(None, carrier)
        self.assertEqual(carrier.heard, 1)
        self.publish(3)
        self.turns.give(alone=False)
        self.assertEqual(carrier.sent, [b"1", b"3"])

    def test_two_protocols(self) -> None:
        """Each protocol is a crowd of its own; other carriers are woken at once."""
        carrier, other = self.hear(), Direct(self.turns)
        other.encode = lambda entry: b"<" + entry.data + b">"  # type: ignore[method-assign]
        self.successResultOf(self.channel.subscribe(None, other))
        self.sleep(other)
        self.publish(1)
        self.assertEqual(len(self.turns.crowds), 2)
        self.turns.give()
        self.assertEqual((carrier.sent, other.sent), ([b"1"], [b"<1>"]))

    def test_gone(self) -> None:
        """A channel that nobody uses any more is gone: the crowds do not keep it."""
        carrier = self.hear()
        self.publish(1)
        self.turns.give()
        gone = ref(self.channel)
        self.channel.unsubscribe(None, carrier)
        self.channel = None
        self.assertIsNone(gone())
