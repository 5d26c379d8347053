"""What becomes of readers that are behind, and of feeds that fail."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from oni.channels._ring import Ring, Rings
from oni.errors import BackendError
from oni.interfaces import IChannelBackend, IEntry
from oni.testing import Ear, FakeBackend
from oni.values import Draft, Position, StreamOptions
from tests.channels.node import NodeTestCase


class GapTests(NodeTestCase):
    """The policy ``gap``, and no history."""

    options = StreamOptions(ring_entries=10)

    def test_told(self) -> None:
        """Who fell off the ring is told, and goes on with what there is."""
        self.hear()
        self.publish(*range(1, 26))
        self.assertEqual(self.ear.offsets, [-15, *range(16, 26)])
        ((_, position),) = self.ear.gaps
        self.assertEqual(position.offset, 15)
        self.assertEqual(self.node.statistics()["gaps"], 1)
        self.assertEqual(+self.node.gap_causes, {"history": 1})

    def test_history_bridges(self) -> None:
        """Where history has it, nothing is missing; all who are behind share its pages."""
        self.options = StreamOptions(ring_entries=10, history_size=1000, history_ttl=60.0)
        self.channel = self.node.get("kept")
        ears = [Ear() for _ in range(50)]
        for ear in ears:
            self.hear(ear)
        self.publish(*range(1, 501))
        while any(ear._behind for ear in ears):
            for ear in ears:
                ear.take()
        for ear in ears:
            self.assertEqual(ear.offsets, list(range(1, 501)))
        self.assertLessEqual(self.node.statistics()["pages"], 6)
        self.publish(501)
        self.assertEqual(len(self.node.kept_pages), 0)

    def test_ring_has_more_than_history(self) -> None:
        """Where the ring goes back further than history, the gap ends at the ring."""
        self.options = StreamOptions(ring_entries=10, history_size=5, history_ttl=60.0)
        self.channel = self.node.get("short")
        self.hear()
        self.publish(*range(1, 26))
        self.assertEqual(self.ear.offsets, [-15, *range(16, 26)])

    def test_history_has_more_than_was_there(self) -> None:
        """What was published while history, which was empty, was read is no part of the gap."""
        self.options = StreamOptions(ring_entries=2, history_size=50, history_ttl=60.0)
        backend = FakeBackend(self.clock)
        node = self.make_node(backend)
        channel = node.get("late")
        channel.subscribe(None, self.ear)
        backend.settle()
        for number in range(1, 6):
            channel.publish("message", number)
        backend.settle()
        backend.memory.trim("late")
        self.ear.take()  # asks for a page, which is empty
        for number in range(6, 12):
            channel.publish("message", number)
        while backend.deliver():
            pass
        for _ in range(4):
            backend.settle()
            self.ear.drain()
        self.assertEqual(self.ear.offsets, [-5, *range(6, 12)])

    def test_stuck_readers_cost_nothing(self) -> None:
        """Whatever is published, a reader that takes nothing keeps nothing."""
        ears = [Ear() for _ in range(100)]
        for ear in ears:
            self.hear(ear)
            ear.is_paused = True
        self.publish(*range(1000))
        self.assertEqual(len(self.channel.ring), 10)
        self.assertLess(self.node.rings.size, 20_000)
        self.assertEqual({len(ear._behind) for ear in ears}, {1})


class LatestTests(NodeTestCase):
    """The policy ``latest``."""

    options = StreamOptions(ring_entries=10, behind="latest")

    def test_newest(self) -> None:
        """Who is behind hears the newest only, and of no gap."""
        self.hear()
        self.publish(1)
        self.assertEqual(self.numbers(), [1])
        self.publish(*range(2, 50))
        self.assertEqual(self.numbers(), [1, 49])
        self.assertEqual(self.ear.gaps, [])

    def test_by_key(self) -> None:
        """The newest for each value of the tag, in the order in which they were published."""
        self.options = StreamOptions(behind="latest", latest_by="car")
        self.channel = self.node.get("cars")
        self.hear()
        for number, car in enumerate("abacbca"):
            self.publish(number, tags={"car": car})
        self.publish(7)
        self.assertEqual(self.numbers(), [4, 5, 6, 7])
        self.assertEqual(self.node.statistics()["passed_over"], 4)

    def test_recovered_whole_or_not(self) -> None:
        """What was missed comes whole with the answer, or the client is told that it does not."""
        self.options = StreamOptions(
            ring_entries=10, behind="latest", history_size=1000, history_ttl=600.0
        )
        self.channel = self.node.get("kept")
        first = self.publish(1)
        self.publish(*range(2, 500))
        for missing, ear in ((498, Ear()), (20, Ear())):
            since = Position(first.epoch, 499 - missing)
            attached = self.successResultOf(self.channel.attach(ear, since))
            attached.subscription.begin()
            self.assertEqual(attached.recovered, missing == 20)
            self.assertEqual(attached.position.offset, 499)
            self.assertEqual(len(attached.entries), 20 if missing == 20 else 0)
            self.assertEqual(ear.offsets, [])
        self.assertEqual(self.node.statistics()["passed_over"], 0)

    def test_carrier_goes_on(self) -> None:
        """A carrier that comes back hears the newest of what it missed."""
        self.options = StreamOptions(
            ring_entries=10, behind="latest", history_size=1000, history_ttl=600.0
        )
        self.channel = self.node.get("kept")
        first = self.publish(1)
        self.publish(*range(2, 30))
        near = Position(first.epoch, 25)
        for since in (first, near):
            ear = Ear()
            self.assertEqual(self.hear(ear, since), since)
            self.assertEqual((self.numbers(ear), ear.gaps), ([29], []))

    def test_turns(self) -> None:
        """The newest of many values come in turns, too, each once."""
        self.options = StreamOptions(ring_entries=1000, behind="latest", latest_by="car")
        self.channel = self.node.get("cars")
        self.hear()
        for number in range(200):
            self.publish(number, tags={"car": str(number % 100)})
        self.ear.turn = 500
        self.ear.take()
        self.publish(200, tags={"car": "50"})
        self.assertEqual(self.numbers(), [*range(100, 150), *range(151, 201)])
        self.assertLessEqual(max(map(len, self.ear.sent)), 500)
        self.assertEqual(self.node.statistics()["passed_over"], 101)


class WantsTests(NodeTestCase):
    """Readers that hear a part only."""

    def test_looked_at_once(self) -> None:
        """What does not fit into a turn is not looked at in it."""
        asked = []

        def wants(entry: IEntry) -> bool:
            asked.append(entry.position.offset)
            return entry.position.offset % 2 == 0

        self.successResultOf(self.channel.attach(self.ear, wants=wants)).subscription.begin()
        self.publish(*range(200))
        self.ear.turn = 100
        self.assertEqual(self.ear.offsets, list(range(2, 201, 2)))
        self.assertLessEqual(max(map(len, self.ear.sent)), 100)
        self.assertLess(len(asked), 350)


class DisconnectTests(NodeTestCase):
    """The policy ``disconnect``."""

    options = StreamOptions(ring_entries=10, behind="disconnect", max_lag=8.0)

    def test_overdue(self) -> None:
        """Who lags for longer than allowed is told so; who keeps up is not."""
        slow = Ear()
        for ear in (self.ear, slow):
            self.hear(ear)
            ear.drain()
        slow.is_paused = True
        for _ in range(7):
            self.publish(1)
            self.ear.drain()
            self.clock.advance(1)
        self.assertEqual(slow.late, [])
        for _ in range(4):
            self.publish(1)
            self.ear.drain()
            self.clock.advance(1)
        self.assertEqual((set(slow.late), self.ear.late), ({slow.late[0]}, []))
        slow.late[0].close()
        self.clock.advance(10)
        left = {call.func.__qualname__.split(".")[0] for call in self.clock.getDelayedCalls()}
        self.assertEqual(left, {"Health", "Repairs"})  # nobody looks who lags

    def test_slowly_but_steadily(self) -> None:
        """Who is always a little behind, but not for so long, stays."""
        self.hear()
        self.ear.turn = 1
        self.publish(1, 1)
        for _ in range(40):
            self.publish(1)
            self.ear.take()
            self.clock.advance(1)
        self.assertEqual((self.ear.late, self.ear.gaps), ([], []))


class FeedTests(NodeTestCase):
    """Feeds as they are on bad days."""

    options = StreamOptions(history_size=100, history_ttl=600.0)

    def make_backend(self) -> IChannelBackend:
        """Make a backend that holds everything back."""
        self.backend = FakeBackend(self.clock)
        return self.backend

    def setUp(self) -> None:
        """Subscribe an ear."""
        super().setUp()
        self.channel.subscribe(None, self.ear)
        self.backend.settle()

    def send(self, *numbers: int) -> None:
        """Publish, and let nothing come."""
        for number in numbers:
            self.channel.publish("message", number)

    def test_lost_and_told(self) -> None:
        """A loss that the backend tells is made up from history."""
        self.send(1, 2)
        self.backend.lose_feed()
        self.backend.settle()
        self.ear.drain()
        self.backend.settle()
        self.assertEqual(self.ear.offsets, [1, 2])

    def test_lost_in_silence(self) -> None:
        """A loss that nobody tells shows at the next publication."""
        self.send(1, 2)
        self.backend.lose_feed(tell=False)
        self.send(3)
        self.backend.settle()
        self.ear.drain()
        self.backend.settle()
        self.assertEqual(self.ear.offsets, [1, 2, 3])
        self.assertEqual(self.node.statistics()["repairs"], 1)

    def test_last_one_lost_in_silence(self) -> None:
        """Where no other comes, it shows when positions are compared."""
        self.send(1)
        self.backend.lose_feed(tell=False)
        for _ in range(6):
            self.clock.advance(20)
            self.backend.settle()
            self.ear.drain()
        self.assertEqual(self.ear.offsets, [1])
        self.assertEqual(self.node.statistics()["repairs"], 1)

    def test_late_is_not_lost(self) -> None:
        """A publication that is on its way while positions are compared is no loss."""
        for _ in range(79):
            self.clock.advance(1)
            self.backend.settle()
        self.send(1)
        self.clock.advance(1)
        while self.backend.answer():  # the position; the feed is later
            pass
        looks = [call.func.__name__ for call in self.clock.getDelayedCalls()]
        self.assertIn("_compare_again", looks)
        self.backend.settle()
        self.clock.advance(2)
        self.backend.settle()
        self.assertEqual(self.ear.offsets, [1])
        self.assertEqual(self.node.statistics()["repairs"], 0)

    def test_faster_than_history(self) -> None:
        """What the feed brings while history is read, which has none of it, is recovered, too."""
        since = [self.channel.publish("message", number) for number in range(3)][-1]
        while not since.called:
            self.backend.answer()
        attaching = self.channel.attach(Ear(), self.successResultOf(since))
        self.channel.publish("message", 4)
        self.backend.memory.trim("news")
        while self.backend.deliver():
            pass
        self.backend.settle()
        attached = self.successResultOf(attaching)
        self.assertEqual((attached.recovered, attached.position.offset), (True, 4))
        self.assertEqual([entry.offset for entry in attached.entries], [4])

    def test_repeated(self) -> None:
        """What the feed brings twice is heard once."""
        self.send(1, 2)
        self.backend.settle()
        self.backend.repeat()
        self.assertEqual(self.ear.offsets, [1, 2])

    def test_new_epoch(self) -> None:
        """A stream that began anew is a gap, and is heard from then on."""
        self.send(1, 2)
        self.backend.settle()
        self.assertEqual(self.ear.offsets, [1, 2])
        draft = Draft("message", b"9")
        entry = type(self.channel.ring.newest()[0])("news", draft, Position("new", 7), 0)
        self.node.received("news", (entry,))
        self.assertEqual(
            self.ear.lines[2:], [["news", "new", 6, None, None], ["news", "new", 7, "message", 9]]
        )
        self.assertEqual(+self.node.gap_causes, {"epoch": 1})

    def test_began_again(self) -> None:
        """An entry that has none before it, though others were heard, is a gap."""
        self.send(1, 2)
        self.backend.settle()
        self.ear.drain()
        ring = self.channel.ring
        draft = Draft("message", b"9")
        entry = type(ring.newest()[0])("news", draft, Position(ring.epoch, 9), 0)
        self.node.received("news", (entry,))
        self.assertEqual(self.ear.offsets, [1, 2, -8, 9])
        self.assertEqual(+self.node.gap_causes, {"feed": 1})

    def fall_behind_and_fail(self) -> None:
        """Let the ear need history, of a channel with a short ring, when the backend is down."""
        self.options = StreamOptions(ring_entries=5, history_size=100, history_ttl=600.0)
        channel = self.node.get("short")
        channel.subscribe(None, self.ear)
        self.backend.settle()
        for number in range(20):
            channel.publish("message", number)
        self.backend.settle()
        self.backend.go_down()
        self.ear.drain()

    def test_reading_fails(self) -> None:
        """History that cannot be read is tried again."""
        self.fall_behind_and_fail()
        for _ in range(3):
            self.backend.settle()
            self.clock.advance(1)
        self.assertEqual(self.ear.offsets, [])
        self.backend.come_up()
        self.backend.settle()
        self.clock.advance(1)
        self.backend.settle()
        self.assertEqual(self.ear.offsets, list(range(1, 21)))

    def test_reading_fails_for_long(self) -> None:
        """History that cannot be read for some seconds is given up with a gap."""
        self.fall_behind_and_fail()
        for _ in range(6):
            self.backend.settle()
            self.clock.advance(1)
        self.assertEqual(self.ear.offsets, [-15, *range(16, 21)])
        self.assertEqual(+self.node.gap_causes, {"backend": 1})

    def test_given_up_for_whom(self) -> None:
        """That history was given up is told to those who waited for it, and to no others."""
        self.options = StreamOptions(ring_entries=5, history_size=100, history_ttl=600.0)
        channel = self.node.get("short")
        gone, told, later = Ear(), self.ear, Ear()
        for ear in (gone, told, later):
            channel.subscribe(None, ear)
        later.is_paused = True
        self.backend.settle()
        for number in range(20):
            channel.publish("message", number)
        self.backend.settle()
        self.backend.go_down()
        gone.drain()
        channel.unsubscribe(None, gone)
        self.backend.settle()  # it fails, and nobody waits for it any more
        self.backend.come_up()
        self.backend.settle()
        told.drain()
        self.backend.settle()
        self.assertEqual(told.offsets, list(range(1, 21)))
        later.is_paused = False
        self.assertEqual(later.offsets, list(range(1, 21)))
        told.is_paused = later.is_paused = True
        for number in range(20, 40):
            channel.publish("message", number)
        self.backend.settle()
        told.is_paused = False
        self.backend.go_down()
        told.drain()
        for _ in range(6):
            self.backend.settle()
            self.clock.advance(1)
        self.assertEqual(told.offsets[20:], [-35, *range(36, 41)])
        self.backend.come_up()
        later.is_paused = False
        for _ in range(4):
            self.backend.settle()
            later.drain()
        self.assertEqual(later.offsets, list(range(1, 41)))

    def test_start_fails(self) -> None:
        """A subscription fails while the backend is down, and works afterwards."""
        self.backend.go_down()
        other = self.node.get("other")
        subscribed = other.subscribe(None, self.ear)
        self.backend.settle()
        self.failureResultOf(subscribed, BackendError)
        self.assertEqual(other.subscribers, 0)
        self.backend.come_up()
        subscribed = other.subscribe(None, self.ear)
        self.backend.settle()
        self.successResultOf(subscribed)

    def test_unsubscribed_meanwhile(self) -> None:
        """A carrier that leaves while it is being subscribed hears nothing."""
        ear = Ear()
        attaching = self.channel.attach(ear)
        self.successResultOf(attaching)
        other = self.node.get("other")
        subscribing = other.subscribe(None, ear)
        other.unsubscribe(None, ear)
        self.backend.settle()
        self.failureResultOf(subscribing)
        other.publish("message", 1)
        self.backend.settle()
        self.assertEqual(ear.offsets, [])


class JoinTests(NodeTestCase):
    """Calls that subscribe one carrier while the first of them still reads history."""

    options = StreamOptions(ring_entries=4, history_size=1000, history_ttl=600.0)

    def make_backend(self) -> IChannelBackend:
        """Make a backend that holds everything back."""
        self.backend = FakeBackend(self.clock)
        return self.backend

    def setUp(self) -> None:
        """Publish more than the ring keeps."""
        super().setUp()
        self.channel.start()
        self.backend.settle()
        for number in range(1, 11):
            self.channel.publish("a", number)
        self.backend.settle()
        self.since = Position(self.channel.ring.epoch, 2)

    def settle(self) -> None:
        """Let everything come, and be taken."""
        for _ in range(4):
            self.backend.settle()
            self.ear.drain()

    def test_second_event(self) -> None:
        """The second call waits for the first; each publication comes once, in order."""
        first = self.channel.subscribe("a", self.ear, self.since)
        second = self.channel.subscribe("b", self.ear)
        self.channel.publish("a", 11)
        self.backend.deliver()
        self.ear.drain()
        self.assertNoResult(second)
        self.settle()
        self.channel.publish("b", 12)
        self.settle()
        self.assertEqual(self.successResultOf(first), self.since)
        self.assertEqual(self.successResultOf(second).epoch, self.since.epoch)
        self.assertEqual(self.ear.offsets, list(range(3, 13)))

    def test_second_event_while_attaching(self) -> None:
        """Attaching is not disturbed either."""
        attaching = self.channel.attach(self.ear, self.since)
        second = self.channel.subscribe("b", self.ear)
        self.channel.publish("a", 11)
        self.backend.deliver()
        self.ear.drain()
        self.assertNoResult(second)
        self.settle()
        attached = self.successResultOf(attaching)
        self.successResultOf(second)
        recovered = [entry.offset for entry in attached.entries]
        self.assertEqual(recovered + self.ear.offsets, list(range(3, 12)))

    def test_first_fails(self) -> None:
        """A call that fails takes its event with it, and leaves that of the other."""
        self.backend.go_down()
        first = self.channel.subscribe("a", self.ear, self.since)
        second = self.channel.subscribe("b", self.ear)
        self.settle()
        self.failureResultOf(first, BackendError)
        self.assertEqual(self.successResultOf(second).offset, 10)
        self.backend.come_up()
        self.settle()
        self.channel.publish("a", 11)
        self.channel.publish("b", 12)
        self.settle()
        self.assertEqual(self.ear.heard, [("b", 12)])

    def test_only_one_fails(self) -> None:
        """A call that fails alone leaves nothing."""
        self.backend.go_down()
        first = self.channel.subscribe("a", self.ear, self.since)
        self.settle()
        self.failureResultOf(first, BackendError)
        self.assertEqual(self.channel.subscribers, 0)

    def test_second_cancelled(self) -> None:
        """A call that is cancelled while it waits ends nothing but itself."""
        first = self.channel.subscribe("a", self.ear, self.since)
        second = self.channel.subscribe("b", self.ear)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.settle()
        self.successResultOf(first)
        self.channel.publish("b", 11)
        self.channel.publish("a", 12)
        self.settle()
        self.assertEqual(self.ear.offsets, [*range(3, 11), 12])

    def test_second_goes_on(self) -> None:
        """Where the first is cancelled before it knows what was missed, the second finds out."""
        first = self.channel.subscribe("a", self.ear, self.since)
        second = self.channel.subscribe(None, self.ear, self.since)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.settle()
        self.assertEqual(self.successResultOf(second), self.since)
        self.assertEqual(self.ear.offsets, list(range(3, 11)))

    def test_gone_meanwhile(self) -> None:
        """Calls of a carrier that has left follow nothing, and whoever comes next is heard."""
        channel = self.node.get("other")
        calls = [channel.subscribe(event, self.ear) for event in ("a", "b")]
        for event in ("a", "b"):
            channel.unsubscribe(event, self.ear)
        for call in calls:
            self.failureResultOf(call, CancelledError)
        self.assertTrue(channel.feed.is_new)
        ear = Ear()
        channel.subscribe(None, ear)
        self.settle()
        channel.publish("a", 1)
        self.settle()
        self.assertEqual(ear.heard, [("a", 1)])
        self.assertTrue(self.backend.hears("other"))


class RingsTests(SynchronousTestCase):
    """The memory that all rings share."""

    def fill(self, ring: Ring, number: int) -> None:
        """Append so many entries of 1,000 bytes."""
        from oni.channels import Entry

        for _ in range(number):
            offset = ring.top + 1
            draft = Draft("message", b"x" * 488)
            ring.append(Entry("c", draft, Position("e", offset), offset - 1))

    def test_idle_first(self) -> None:
        """Rings that nobody reads are emptied first, the one filled longest ago before others."""
        rings = Rings(10_000)
        old, busy, young = (Ring(rings, 100, 10**6) for _ in range(3))
        busy.readers = 1
        for ring in (old, busy, young):
            self.fill(ring, 3)
        self.fill(busy, 2)
        self.assertEqual((len(old), len(busy), len(young)), (0, 5, 3))
        self.fill(busy, 6)
        self.assertEqual((len(busy), len(young)), (10, 0))
        self.assertLessEqual(rings.size, 10_000)
        self.assertEqual(busy.base, 1)
        self.assertEqual(rings.evicted, 7)

    def test_bounded_by_itself(self) -> None:
        """A ring has a bound in entries and one in bytes; the newest always stays."""
        rings = Rings(10**6)
        few, small = Ring(rings, 5, 10**6), Ring(rings, 100, 500)
        self.fill(few, 20)
        self.fill(small, 20)
        self.assertEqual((len(few), few.base, few.top), (5, 15, 20))
        self.assertEqual((len(small), small.base), (1, 19))
        self.assertEqual(rings.size, 6000)

    def test_encodings_count(self) -> None:
        """What an entry is encoded to counts while it is in the ring, and not after."""
        rings = Rings(10**6)
        ring = Ring(rings, 2, 10**6)
        self.fill(ring, 2)
        first = ring.newest()[0]
        ring.chunk(0, lambda entry: b"y" * 100, 10_000)
        self.assertEqual(rings.size, 2200)
        self.fill(ring, 1)
        self.assertEqual(rings.size, 2100)
        first.encoded(lambda entry: b"z" * 100)
        self.assertEqual(rings.size, 2100)
        ring.clear()
        self.assertEqual(rings.size, 0)

    def test_many(self) -> None:
        """A long ring that turns and turns keeps the right ones."""
        ring = Ring(Rings(10**9), 300, 10**9)
        for _ in range(20):
            self.fill(ring, 100)
            entries = ring.newest()
            self.assertEqual(entries[-1].offset, ring.top)
            self.assertEqual(entries[0].prev, ring.base)
            middle = (ring.base + ring.top) // 2
            self.assertEqual(ring.after(middle)[0].offset, middle + 1)
