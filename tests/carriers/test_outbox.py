"""The outbox: replies first, subscriptions in turns, a bounded part at once."""

from __future__ import annotations

from collections import Counter

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import MAX_FLUSH, MAX_WAITING, Drain, Outbox
from oni.carriers._drain import MAX_CARRIERS
from oni.channels import Channels
from oni.interfaces import IEntry, ISubscription
from oni.values import Position, StreamOptions


def encode(entry: IEntry) -> bytes:
    """Say which channel and what."""
    return b"%s:%s|" % (entry.channel.encode(), entry.data)


class Box(Outbox):
    """A connection that keeps what is handed over."""

    encode = staticmethod(encode)

    def __init__(self, drain: Drain, takes: int | None = None) -> None:
        self.handed: list[bytes] = []
        self.slow = 0
        self.aborted = False
        self.takes = takes
        self.begin_outbox(drain)

    def transmit(self, data: bytes) -> None:
        """Keep it, and block where no more is taken."""
        self.handed.append(data)
        if self.takes is not None:
            self.block()

    def too_slow(self, waiting: int) -> None:
        """Count."""
        self.slow += 1
        self.end_outbox()

    def abort(self) -> None:
        """Note it."""
        self.aborted = True

    def lost(self, subscription: ISubscription, position: Position) -> bytes:
        """Tell of the gap."""
        return b"%s:gap|" % subscription.channel.encode()

    @property
    def parts(self) -> list[bytes]:
        """What was handed over, part by part."""
        return b"".join(self.handed).split(b"|")[:-1]


class OutboxTests(SynchronousTestCase):
    """Tests of :class:`oni.carriers.Outbox`."""

    def setUp(self) -> None:
        """Make a drain and channels."""
        self.clock = Clock()
        self.drain = Drain(self.clock)
        options = StreamOptions(ring_entries=1000)
        self.channels = Channels(options=lambda name: options, reactor=self.clock)
        self.addCleanup(self.channels.stop)

    def publish(self, channel: str, *data: object) -> None:
        """Publish."""
        for one in data:
            self.successResultOf(self.channels.get(channel).publish("message", one))

    def hear(self, box: Box, *names: str) -> None:
        """Subscribe, and let that settle."""
        for name in names:
            self.channels.get(name).subscribe(None, box)  # type: ignore[arg-type]
        self.clock.advance(0)

    def test_replies_first(self) -> None:
        """What waits leaves in one piece, replies before publications."""
        box = Box(self.drain)
        self.hear(box, "a")
        self.publish("a", 1, 2)
        box.put(b"reply|")
        self.assertEqual(box.handed, [])
        self.clock.advance(0)
        self.assertEqual(box.handed, [b"reply|a:1|a:2|"])

    def test_turns(self) -> None:
        """Subscriptions have turns: one with much does not hold up one with little."""
        box = Box(self.drain)
        self.hear(box, "a", "b")
        self.publish("a", *("x" * 1000 for _ in range(100)))
        self.publish("b", 1)
        self.clock.advance(0)
        first = box.handed[0].split(b"|")
        self.assertLess(first.index(b"b:1"), 20)
        self.assertTrue(all(len(data) <= MAX_FLUSH for data in box.handed))
        while len(self.drain):
            self.clock.advance(0)
        self.assertEqual(len(box.parts), 101)
        self.assertGreater(len(box.handed), 1)

    def test_nothing_added_while_blocked(self) -> None:
        """While bytes wait, nothing is handed over; afterwards all of it, in order."""
        box = Box(self.drain, takes=0)
        self.hear(box, "a")
        self.publish("a", 1)
        self.clock.advance(0)
        for number in range(2, 200):
            self.publish("a", number)
            self.clock.advance(0)
        box.put(b"reply|")
        self.assertEqual(box.handed, [b"a:1|"])
        box.takes = None
        box.unblock()
        self.clock.advance(0)
        rest = [b"a:%d" % number for number in range(2, 200)]
        self.assertEqual(box.parts, [b"a:1", b"reply", *rest])

    def test_no_push_after_the_end(self) -> None:
        """After the reply to an unsubscribe nothing of that channel follows."""
        box = Box(self.drain)
        self.hear(box, "a", "b")
        self.publish("a", 1)
        self.publish("b", 1)
        self.channels.get("a").unsubscribe(None, box)  # type: ignore[arg-type]
        box.put(b"unsubscribed|")
        self.publish("b", 2)
        self.clock.advance(0)
        self.assertEqual(box.parts, [b"unsubscribed", b"b:1", b"b:2"])

    def test_gap_in_its_place(self) -> None:
        """A gap is told where it is: behind what was before, before what comes after."""
        box = Box(self.drain, takes=0)
        self.hear(box, "a")
        self.publish("a", 0)
        self.clock.advance(0)
        self.publish("a", *range(1, 1500))
        box.takes = None
        box.unblock()
        self.clock.advance(0)
        self.assertEqual(box.parts[:3], [b"a:0", b"a:gap", b"a:500"])
        self.assertEqual(len(box.parts), 1002)

    def test_too_slow(self) -> None:
        """Replies that wait are bounded."""
        box = Box(self.drain)
        box.block()
        for _ in range(MAX_WAITING // 1000 + 1):
            box.put(b"x" * 1000)
        self.assertEqual((box.slow, box.handed), (1, []))

    def test_closed_subscriptions_are_forgotten(self) -> None:
        """Coming and going while blocked leaves nothing behind."""
        box = Box(self.drain)
        box.block()
        channel = self.channels.get("a")
        for number in range(1000):
            channel.subscribe(None, box)  # type: ignore[arg-type]
            self.publish("a", number)
            channel.unsubscribe(None, box)  # type: ignore[arg-type]
        self.assertLess(len(box._behind), 65)

    def test_ended(self) -> None:
        """A connection that has ended leaves its channels."""
        box = Box(self.drain)
        self.hear(box, "a", "b")
        self.publish("a", 1)
        box.end_outbox()
        self.assertEqual(self.channels.get("a").subscribers, 0)
        self.publish("b", 1)
        self.assertEqual(self.channels.get("b").subscribers, 0)
        self.clock.advance(0)
        self.assertEqual(box.handed, [])


class DrainTests(SynchronousTestCase):
    """Tests of :class:`oni.carriers.Drain`."""

    def setUp(self) -> None:
        """Make a drain."""
        self.clock = Clock()
        self.drain = Drain(self.clock)

    def test_so_many_in_a_turn(self) -> None:
        """In one turn so many send, the others in the next, in order."""
        turns = self.turns(MAX_CARRIERS + 10)
        self.assertEqual(turns, [1] * MAX_CARRIERS + [2] * 10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_so_long_a_turn(self) -> None:
        """A turn ends when its time is over, too."""
        turns = self.turns(100, 0.001)
        self.assertEqual(turns, sorted(turns))
        longest = max(turns.count(turn) for turn in turns)
        self.assertTrue(5 <= longest <= 16, longest)

    def turns(self, number: int, seconds: float = 0) -> list[int]:
        """Let so many connections send; say in which turn each has."""
        turns: list[int] = []

        def transmit(data: bytes) -> None:
            turns.append(self.drain.turns)
            self.clock.rightNow += seconds

        for _ in range(number):
            box = Box(self.drain)
            box.transmit = transmit  # type: ignore[method-assign]
            box.put(b"x")
        self.clock.pump([0] * number)
        self.assertEqual(len(turns), number)
        return turns

    def test_fault(self) -> None:
        """One connection's fault ends it, and no other."""
        bad, good = Box(self.drain), Box(self.drain)

        def fail(data: bytes) -> None:
            raise OSError("broken")

        bad.transmit = fail  # type: ignore[method-assign]
        bad.put(b"x")
        good.put(b"x")
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual((bad.aborted, good.handed), (True, [b"x"]))


class Crowd:
    """So many who have something to send, each of whom takes some seconds."""

    def __init__(self, number: int, drain: Drain, clock: Clock, seconds: float = 0) -> None:
        self.turns: list[int] = []
        self.alone: set[bool] = set()
        self.left = number
        self.fails = False
        self._drain, self._clock, self._seconds = drain, clock, seconds

    def __len__(self) -> int:
        """Count them."""
        return self.left

    def give(self, number: int, alone: bool) -> bool:
        """Note in which turn each has sent."""
        number = min(number, self.left)
        self.left -= number
        self.turns += [self._drain.turns] * number
        self.alone.add(alone)
        self._clock.rightNow += number * self._seconds
        if self.fails:
            self.fails = False
            raise ValueError("a mistake")
        return self.left > 0


class CrowdTests(SynchronousTestCase):
    """Tests of :class:`oni.carriers.Drain`, where many send together."""

    def setUp(self) -> None:
        """Make a drain."""
        self.clock = Clock()
        self.drain = Drain(self.clock)

    def crowd(self, number: int, seconds: float = 0) -> Crowd:
        """Invite a crowd."""
        crowd = Crowd(number, self.drain, self.clock, seconds)
        self.drain.invite(crowd)
        return crowd

    def finish(self) -> None:
        """Let everything leave."""
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        self.assertEqual(len(self.drain), 0)

    def test_so_many_in_a_turn(self) -> None:
        """In one turn so many of a crowd send, the others in the next."""
        crowd = self.crowd(MAX_CARRIERS + 10)
        self.assertEqual(len(self.drain), MAX_CARRIERS + 10)
        self.finish()
        self.assertEqual(crowd.turns, [1] * MAX_CARRIERS + [2] * 10)
        self.assertEqual(crowd.alone, {True})

    def test_so_long_a_turn(self) -> None:
        """A turn ends when its time is over, too."""
        crowd = self.crowd(100, 0.001)
        self.finish()
        longest = max(crowd.turns.count(turn) for turn in crowd.turns)
        self.assertTrue(5 <= longest <= 16, longest)

    def test_crowds_take_turns(self) -> None:
        """A long crowd does not hold up another one for longer than a turn."""
        long, short = self.crowd(3 * MAX_CARRIERS), self.crowd(10)
        self.finish()
        self.assertEqual(set(long.turns), {1, 2, 3, 4})
        self.assertEqual(short.turns, [2] * 10)
        self.assertEqual((long.alone, short.alone), ({True, False}, {False}))

    def test_many_small_crowds(self) -> None:
        """A turn is for so many carriers, however few of them are in each crowd."""
        crowds = [self.crowd(2) for _ in range(MAX_CARRIERS)]
        self.finish()
        turns = Counter(turn for crowd in crowds for turn in crowd.turns)
        self.assertEqual(turns, {1: MAX_CARRIERS, 2: MAX_CARRIERS})

    def test_single_ones_beside_a_crowd(self) -> None:
        """Single carriers have their part of each turn, a half at most."""
        crowd = self.crowd(2 * MAX_CARRIERS)
        boxes = [Box(self.drain) for _ in range(MAX_CARRIERS)]
        for box in boxes:
            box.put(b"x")
        self.finish()
        self.assertEqual(crowd.turns[: MAX_CARRIERS // 2 + 1], [1] * (MAX_CARRIERS // 2) + [2])
        self.assertEqual(sum(len(box.handed) for box in boxes), MAX_CARRIERS)

    def test_mistake(self) -> None:
        """A crowd that fails is logged, and goes on."""
        crowd = self.crowd(40)
        crowd.fails = True
        self.finish()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(crowd.turns), 40)
