"""A channel gives publications to its subscribers, in order, and says what it cannot give."""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from oni.errors import (
    AlreadySubscribedError,
    EventNameError,
    UnrecoverablePositionError,
)
from oni.interfaces import ICarrier, IChannel, IEntry, ISubscription
from oni.testing import Ear, FakeBackend
from oni.values import ClientInfo, Position, PresenceStats, StreamOptions
from tests.channels.node import KEEPS, NodeTestCase


class SubscribeTests(NodeTestCase):
    """Who hears what."""

    def test_interfaces(self) -> None:
        """It is a channel, and what it makes is what the interfaces say."""
        verifyObject(IChannel, self.channel)
        verifyObject(ICarrier, self.ear)
        attached = self.successResultOf(self.channel.attach(self.ear))
        verifyObject(ISubscription, attached.subscription)
        self.publish(1)
        verifyObject(IEntry, self.channel.ring.newest()[0])

    def test_positions(self) -> None:
        """Each publication has the next offset, and knows the one before."""
        self.hear()
        first = self.publish(1)
        second = self.publish(2)
        self.assertEqual((first, second), (Position("e1", 1), Position("e1", 2)))
        self.assertEqual([entry.prev for entry in self.channel.ring.newest()], [0, 1])
        self.assertEqual(self.ear.offsets, [1, 2])

    def test_by_event(self) -> None:
        """A carrier hears the events that it is subscribed to, each publication once."""
        self.channel.subscribe("a", self.ear)
        self.channel.subscribe("b", self.ear)
        for event in "abc":
            self.channel.publish(event, event)
        self.assertEqual(self.ear.heard, [("a", "a"), ("b", "b")])
        self.channel.subscribe(None, self.ear)
        self.channel.publish("a", 2)
        self.channel.publish("c", 2)
        self.assertEqual(self.ear.heard[2:], [("a", 2), ("c", 2)])

    def test_unsubscribe(self) -> None:
        """After unsubscribing from the last event a carrier hears nothing."""
        self.channel.subscribe("a", self.ear)
        self.channel.subscribe("b", self.ear)
        self.successResultOf(self.channel.unsubscribe("a", self.ear))
        self.channel.publish("a", 1)
        self.channel.publish("b", 1)
        self.assertEqual(self.ear.heard, [("b", 1)])
        self.channel.publish("b", 2)  # taken by nobody before the end
        self.channel.unsubscribe("b", self.ear)
        self.assertEqual(self.ear.heard, [("b", 1)])
        self.assertEqual(self.channel.subscribers, 0)

    def test_equal_carriers(self) -> None:
        """Two carriers of one connection are one subscriber: either ends it."""
        one, two = Ear("x"), Ear("x")
        self.hear(one)
        self.hear(two)
        self.publish(1)
        self.assertEqual((self.numbers(one), self.numbers(two)), ([1], []))
        self.channel.unsubscribe(None, two)
        self.publish(2)
        self.assertEqual(self.numbers(one), [1])

    def test_unsubscribe_stranger(self) -> None:
        """Unsubscribing what is not subscribed does nothing."""
        self.channel.subscribe("a", self.ear)
        self.successResultOf(self.channel.unsubscribe("b", self.ear))
        self.successResultOf(self.channel.unsubscribe(None, Ear()))
        self.channel.publish("a", 1)
        self.assertEqual(self.ear.heard, [("a", 1)])

    def test_position_of_subscription(self) -> None:
        """A subscriber learns after which publication it hears everything."""
        held = self.channel
        self.publish(1)
        self.assertEqual(self.hear(since=Position("e0", 7)), Position("e1", 1))
        self.publish(2)
        self.assertEqual(self.numbers(), [2])
        self.assertIs(held, self.channel)

    def test_failing_carrier(self) -> None:
        """A carrier that raises is detached and logged; the others hear everything."""
        bad, after = Ear(), Ear()

        def fail(subscription: Any) -> None:
            raise ConnectionError("gone")

        bad.wake = fail  # type: ignore[method-assign]
        for carrier in (self.ear, bad, after):
            self.channel.subscribe(None, carrier)
        self.publish(1, 2)
        self.assertEqual(len(self.flushLoggedErrors(ConnectionError)), 1)
        self.assertEqual((self.numbers(), self.numbers(after)), ([1, 2], [1, 2]))
        self.assertEqual(self.channel.subscribers, 2)

    def test_publish_while_woken(self) -> None:
        """What a carrier publishes while it is woken comes after, for everybody."""
        echo = Ear()
        wake, count = echo.wake, []

        def publish(subscription: Any) -> None:
            wake(subscription)
            if not count and self.channel.subscribers == 2:
                count.append(self.publish(2))

        echo.wake = publish  # type: ignore[method-assign]
        for carrier in (echo, self.ear):
            self.hear(carrier)
            carrier.drain()
        self.publish(1)
        self.assertEqual(self.numbers(echo), [1, 2])
        self.assertEqual(self.numbers(), [1, 2])

    def test_encoded_once(self) -> None:
        """Subscribers share one encoding, and where they stand at one place its very bytes."""
        ears = [Ear() for _ in range(3)]
        calls: list[Any] = []

        def encode(entry: Any) -> bytes:
            calls.append(entry)
            return Ear.encode(entry)

        for ear in ears:
            ear.encode = encode  # type: ignore[method-assign]
            self.hear(ear)
        self.publish(1, 2)
        for ear in ears:
            ear.drain()
        self.assertEqual(len(calls), 2)
        self.assertIs(ears[0].sent[0], ears[1].sent[0])
        self.assertEqual(ears[2].offsets, [1, 2])

    def test_snapshot(self) -> None:
        """What was published does not change with the publisher's data."""
        self.hear()
        data, tags = {"a": 1}, {"t": "x"}
        info = ClientInfo("bob")
        self.channel.publish("a", data, tags=tags, info=info)
        data["a"], tags["t"] = 2, "y"
        value = self.channel.ring.newest()[0].publication()
        self.assertEqual((value.data, value.tags, value.info), ({"a": 1}, {"t": "x"}, info))

    def test_bad_data(self) -> None:
        """Data that is no JSON is refused where it is published, and takes no offset."""
        loop: list[Any] = []
        loop.append(loop)
        for data in (object(), "\ud800", loop):
            self.assertRaises(TypeError, self.channel.publish, "a", data)
        self.assertRaises(TypeError, self.channel.publish, "a", 1, tags={"a": 1})
        self.assertEqual(self.successResultOf(self.channel.publish("a", math.nan)).offset, 1)

    def test_bad_event(self) -> None:
        """An event's name is a short printable string."""
        for event in ("", "x" * 256, "a\nb", None, 3):
            self.assertRaises(EventNameError, self.channel.publish, event, 1)
        self.assertRaises(EventNameError, self.channel.subscribe, "", self.ear)
        self.assertEqual(self.channel.subscribers, 0)

    def test_idempotency(self) -> None:
        """A key publishes once within five minutes."""
        self.hear()
        first = self.publish(1, idempotency_key="k")
        self.assertEqual(self.publish(2, idempotency_key="k"), first)
        self.clock.advance(301)
        self.publish(3, idempotency_key="k")
        self.assertEqual(self.numbers(), [1, 3])

    def test_exclusion(self) -> None:
        """The client that a publication excludes does not hear it; what follows it hears."""
        other = Ear()
        for ear, client in ((self.ear, "c1"), (other, "c2")):
            self.successResultOf(self.channel.attach(ear, client=client)).subscription.begin()
        self.publish(1)
        self.publish(2, exclude="c1")
        self.publish(3)
        self.assertEqual((self.numbers(), self.numbers(other)), ([1, 3], [1, 2, 3]))


class AttachTests(NodeTestCase):
    """How a session's carrier begins."""

    options = KEEPS

    def attach(self, since: Position | None = None, ear: Ear | None = None, **more: Any) -> Any:
        """Attach, with what the answer has: recovered, offset and data."""
        attached = self.successResultOf(self.channel.attach(ear or self.ear, since, **more))
        self.subscription = attached.subscription
        data = [int(entry.data) for entry in attached.entries]
        return attached.recovered, attached.position.offset, data

    def test_nothing_before_begin(self) -> None:
        """Nothing is delivered before the answer has left, and nothing is missing after."""
        self.publish(1)
        self.assertEqual(self.attach(), (False, 1, []))
        self.publish(2)
        self.assertEqual(self.numbers(), [])
        self.subscription.begin()
        self.subscription.begin()
        self.publish(3)
        self.assertEqual(self.numbers(), [2, 3])

    def test_twice(self) -> None:
        """A carrier that is subscribed cannot be attached, and goes on."""
        self.hear()
        self.failureResultOf(self.channel.attach(self.ear), AlreadySubscribedError)
        self.publish(1)
        self.assertEqual(self.numbers(), [1])

    def test_closed(self) -> None:
        """After its end a subscription gives nothing, begun or not."""
        self.attach()
        self.subscription.close()
        self.subscription.begin()
        self.publish(1)
        self.assertEqual((self.numbers(), self.subscription.take(100)), ([], b""))
        self.attach()

    def test_recovered(self) -> None:
        """What was missed comes with the answer, up to where the subscription goes on."""
        since = self.publish(1, 2)
        self.publish(3, 4)
        self.assertEqual(self.attach(since), (True, 4, [3, 4]))
        self.publish(5)
        self.subscription.begin()
        self.assertEqual(self.numbers(), [5])

    def test_nothing_missed(self) -> None:
        """A client that missed nothing has recovered, from its first subscribe on."""
        self.assertEqual(self.attach(), (False, 0, []))
        first = self.subscription.position
        self.subscription.close()
        self.assertEqual(self.attach(first), (True, 0, []))
        self.subscription.close()
        self.publish(1)
        self.assertEqual(self.attach(first), (True, 1, [1]))

    def test_from_the_ring(self) -> None:
        """What the ring still has needs no history."""
        self.options = StreamOptions()
        self.channel = self.node.get("live")
        self.hear(Ear())
        since = self.publish(1)
        self.publish(2)
        self.assertEqual(self.attach(since), (True, 2, [2]))

    def test_not_provable(self) -> None:
        """Another epoch, the future, another channel's position: nothing is recovered."""
        top = self.publish(1, 2, 3)
        foreign = self.publish(1, channel=self.node.get("elsewhere"))
        for since in (
            Position("other", 1),
            Position("", 1),
            Position(top.epoch, top.offset + 1000),
            Position(top.epoch, -1),
            Position(foreign.epoch, 1),
        ):
            ear = Ear()
            self.assertEqual(self.attach(since, ear), (False, top.offset, []), since)
            self.subscription.begin()
            top = self.publish(9)
            self.assertEqual(self.numbers(ear), [9])
            self.subscription.close()

    def test_trimmed(self) -> None:
        """Where a part is gone, nothing is recovered."""
        since = self.publish(1)
        self.publish(2)
        self.channel.remove_history()
        self.publish(3)
        self.assertEqual(self.attach(since), (False, 3, []))

    def test_many_missed(self) -> None:
        """More than 300 follow as pushes, after the client's own position."""
        since = self.publish(0)
        self.publish(*range(1, 302))
        self.assertEqual(self.attach(since), (True, since.offset, []))
        self.publish(302)
        self.subscription.begin()
        self.assertEqual(self.numbers(), list(range(1, 303)))
        self.assertEqual(self.ear.gaps, [])

    def test_exactly_300(self) -> None:
        """300 still go into the answer."""
        since = self.publish(0)
        self.publish(*range(1, 301))
        recovered, offset, data = self.attach(since)
        self.assertEqual((recovered, offset, data), (True, 301, list(range(1, 301))))

    def test_many_bytes(self) -> None:
        """A few long ones follow as pushes, too: an answer is no place for megabytes."""
        since = self.publish(0)
        for _ in range(3):
            self.channel.publish("message", "x" * 100_000)
        self.assertEqual(self.attach(since), (True, since.offset, []))
        self.subscription.begin()
        self.assertEqual(self.ear.offsets, [2, 3, 4])

    def test_cut_in_the_replay(self) -> None:
        """A replay that was cut goes on at the client's position, as often as it takes."""
        since = self.publish(0)
        self.publish(*range(1, 1001))
        seen: list[int] = []
        cuts = 0
        while True:
            ear = Ear(turn=2000)
            recovered, _, data = self.attach(since, ear)
            self.assertTrue(recovered)
            seen += data
            if data:
                break
            self.subscription.begin()
            ear.take()
            ear.take()
            seen += [line[4] for line in map(json.loads, b"".join(ear.sent).splitlines())]
            since = Position(since.epoch, seen[-1] + 1)
            self.subscription.close()
            cuts += 1
        self.assertEqual(seen, list(range(1, 1001)))
        self.assertGreater(cuts, 3)

    def test_lost_in_the_replay(self) -> None:
        """Where history goes while it is replayed, the client is told of a gap."""
        since = self.publish(0)
        self.publish(*range(1, 1001))
        self.ear = Ear(turn=2000)
        self.attach(since)
        self.subscription.begin()
        self.ear.take()
        self.channel.remove_history()
        self.publish(1001)
        offsets = self.ear.offsets
        ends = [n for n, offset in enumerate(offsets) if offset < 0]
        self.assertEqual(len(ends), 1)
        before, after = offsets[: ends[0]], offsets[ends[0] + 1 :]
        self.assertEqual(before, list(range(2, len(before) + 2)))
        self.assertEqual(after, list(range(-offsets[ends[0]] + 1, 1003)))
        self.assertEqual(len(self.ear.gaps), 1)

    def test_filter(self) -> None:
        """Only what is wanted is delivered; what is passed over is no gap."""
        since = self.publish(1, 2, 3)

        def is_even(entry: IEntry) -> bool:
            return int(entry.data) % 2 == 0

        self.publish(4, 5, 6, 7)
        self.assertEqual(self.attach(since, wants=is_even), (True, 7, [4, 6]))
        self.subscription.begin()
        self.publish(*range(8, 600))
        self.assertEqual(self.numbers(), list(range(8, 600, 2)))
        self.assertEqual(self.ear.gaps, [])
        top = self.publish(601)
        self.ear.drain()
        self.assertEqual(self.subscription.position, top)


class HistoryTests(NodeTestCase):
    """What is kept."""

    options = StreamOptions(history_size=5, history_ttl=10.0)

    def read(self, *args: Any) -> list[int]:
        """Read, and give the data."""
        page = self.successResultOf(self.channel.history(*args))
        return [int(entry.data) for entry in page.entries]

    def test_pages(self) -> None:
        """History is read by limit, from a position, and back."""
        first = self.publish(1)
        self.publish(2, 3, 4)
        self.assertEqual(self.read(), [1, 2, 3, 4])
        self.assertEqual(self.read(2), [1, 2])
        self.assertEqual(self.read(None, first), [2, 3, 4])
        self.assertEqual(self.read(2, None, True), [4, 3])
        self.assertEqual(self.read(9, Position(first.epoch, 3), True), [2, 1])

    def test_only_the_position(self) -> None:
        """With limit 0 only the position comes."""
        top = self.publish(1, 2)
        page = self.successResultOf(self.channel.history(0))
        self.assertEqual((list(page.entries), page.top), ([], top))

    def test_bounds(self) -> None:
        """The oldest go when there are too many, and all some time after the last one."""
        top = self.publish(*range(7))
        self.assertEqual(self.read(), [2, 3, 4, 5, 6])
        self.clock.advance(9)
        self.publish(7)
        self.clock.advance(9)
        self.assertEqual(self.read(), [3, 4, 5, 6, 7])
        self.clock.advance(2)
        self.assertEqual(self.read(), [])
        page = self.successResultOf(self.channel.history())
        self.assertEqual(page.top, Position(top.epoch, 8))

    def test_both_are_needed(self) -> None:
        """Without a size or a time nothing is kept."""
        for options in (StreamOptions(history_size=5), StreamOptions(history_ttl=5.0)):
            self.options = options
            channel = self.node.get(f"n{options.history_size}")
            self.publish(1, channel=channel)
            page = self.successResultOf(channel.history())
            self.assertEqual(list(page.entries), [])

    def test_removed(self) -> None:
        """What is removed is gone; positions go on."""
        self.publish(1, 2)
        self.successResultOf(self.channel.remove_history())
        self.assertEqual(self.read(), [])
        self.assertEqual(self.publish(3).offset, 3)
        self.assertEqual(self.read(), [3])

    def test_wrong_epoch(self) -> None:
        """A position of another epoch is no place to read from."""
        self.publish(1)
        read = self.channel.history(None, Position("other", 0))
        self.failureResultOf(read, UnrecoverablePositionError)


class PresenceTests(NodeTestCase):
    """Who is there."""

    options = StreamOptions(presence_ttl=30.0)

    def test_enter_and_leave(self) -> None:
        """Who enters is present until it leaves; those who asked hear of it."""
        bob, eve = ClientInfo("bob", "c1"), ClientInfo("eve", "c2", {"x": 1})
        deaf = Ear()
        for ear, asks in ((self.ear, True), (deaf, False)):
            attached = self.channel.attach(ear, join_leave=asks)
            self.successResultOf(attached).subscription.begin()
        for info in (bob, eve):
            self.successResultOf(self.channel.enter(info))
        present = self.successResultOf(self.channel.presence())
        self.assertEqual(present, {"c1": bob, "c2": eve})
        stats = self.successResultOf(self.channel.presence_stats())
        self.assertEqual(stats, PresenceStats(2, 2))
        self.successResultOf(self.channel.leave("c1"))
        self.assertEqual(
            self.ear.moves, [("news", True, bob), ("news", True, eve), ("news", False, bob)]
        )
        self.assertEqual(deaf.moves, [])

    def test_renewed(self) -> None:
        """The node renews the leases of those who are here, and no longer."""
        self.channel.enter(ClientInfo("bob", "c1"))
        self.clock.pump([10] * 12)
        self.assertIn("c1", self.successResultOf(self.channel.presence()))
        self.node.leases.stop()  # as if the process had died
        self.clock.pump([10] * 4)
        self.assertEqual(self.successResultOf(self.channel.presence()), {})

    def test_nothing_left_to_renew(self) -> None:
        """Without anybody present no timer is left."""
        self.channel.enter(ClientInfo("bob", "c1"))
        self.channel.leave("c1")
        self.clock.pump([10] * 12)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CancelTests(NodeTestCase):
    """What is cancelled leaves nothing behind."""

    def test_unsubscribed_meanwhile(self) -> None:
        """Ending a subscription before it has begun ends the wait for it."""
        node = self.make_node(FakeBackend(self.clock))
        self.channel = node.get("news")
        waits = self.channel.subscribe(None, self.ear)
        self.assertNoResult(waits)
        waits.cancel()
        self.failureResultOf(waits, CancelledError)
        self.assertEqual(self.channel.subscribers, 0)
