"""The newest for each key, at a cost that grows with what is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.channels import Entry
from oni.channels._latest import Latest
from oni.channels._ring import Ring, Rings
from oni.testing import Ear
from oni.values import Draft, Position, StreamOptions
from tests.channels.node import NodeTestCase


class CostTests(NodeTestCase):
    """What is looked at in a turn."""

    options = StreamOptions(ring_entries=20_000, ring_bytes=10**9, behind="latest", latest_by="k")

    def setUp(self) -> None:
        """Subscribe an ear with short turns, and count what is looked at and what is encoded."""
        super().setUp()
        self.looked = 0
        self.encoded: list[int] = []
        self.ear.turn = 500

        def encode(entry: Any) -> bytes:
            self.encoded.append(entry.offset)
            return Ear.encode(entry)

        self.ear.encode = encode  # type: ignore[method-assign]
        for kind in (Ring, Latest):
            self.patch(kind, "walk", self.counting(kind.walk))
        self.patch(Ring, "after", None)
        self.hear()
        self.ear.drain()

    def counting(self, walk: Any) -> Any:
        """Count what is walked over."""

        def counting(self_: Any, offset: int) -> Iterator[Any]:
            for entry in walk(self_, offset):
                self.looked += 1
                yield entry

        return counting

    def test_many_keys(self) -> None:
        """Many turns look at each publication that they deliver, and at one more in each turn."""
        for number in range(2000):
            self.publish(number, tags={"k": str(number)})
        self.ear.drain()
        turns = len(self.ear.sent)
        self.assertGreater(turns, 100)
        self.assertEqual(self.encoded, list(range(1, 2001)))
        self.assertLessEqual(self.looked, 2000 + turns)

    def test_few_keys(self) -> None:
        """What is passed over is not looked at at all."""
        for number in range(5000):
            self.publish(number, tags={"k": str(number % 3)})
        self.assertEqual(self.numbers(), [4997, 4998, 4999])
        self.assertEqual((self.looked, self.encoded), (3, [4998, 4999, 5000]))
        self.assertEqual(self.node.statistics()["passed_over"], 4997)

    def test_every_key_once(self) -> None:
        """The key of a publication is looked up as it comes, and not for each reader."""
        asked = 0

        class Tags(dict[str, str]):
            def get(self, *args: Any) -> Any:
                nonlocal asked
                asked += 1
                return super().get(*args)

        others = [Ear() for _ in range(20)]
        for ear in others:
            self.hear(ear)
        self.publish(0, tags={"k": "x"})
        for ear in (self.ear, *others):
            ear.drain()
        for number in range(100):
            offset = self.channel.ring.top + 1
            draft = Draft("message", b"%d" % number, Tags(k=str(number % 5)))
            entry = Entry("news", draft, Position("e1", offset), offset - 1)
            self.node.received("news", (entry,))
        for ear in (self.ear, *others):
            self.assertEqual(self.numbers(ear), [0, 95, 96, 97, 98, 99])
        self.assertEqual(asked, 100)

    def test_gap_policy(self) -> None:
        """A reader of everything looks at what it delivers, too, and at one more in each turn."""
        self.options = StreamOptions(ring_entries=20_000, ring_bytes=10**9)
        self.channel = self.node.get("all")
        self.hear()
        self.ear.drain()
        self.publish(*range(2000))
        self.ear.drain()
        self.assertLessEqual(self.looked, 2000 + len(self.ear.sent))
        self.assertEqual(len(self.encoded), 2000)


class FilteredTests(NodeTestCase):
    """Readers of a part: what supersedes for one does not for another."""

    options = StreamOptions(ring_entries=1000, behind="latest", latest_by="k")

    def test_filters(self) -> None:
        """By event, by filter, by exclusion: each hears the newest of what it wants."""
        by_event, by_filter, excluded, plain = (Ear() for _ in range(4))
        self.channel.subscribe("a", by_event)
        attached = self.channel.attach(by_filter, wants=lambda entry: int(entry.data) % 2 == 0)
        self.successResultOf(attached).subscription.begin()
        self.successResultOf(self.channel.attach(excluded, client="me")).subscription.begin()
        self.hear(plain)
        for number, event in ((1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")):
            sent = self.channel.publish(
                event, number, tags={"k": "x"}, exclude="me" if number == 5 else ""
            )
            self.successResultOf(sent)
        heard = [self.numbers(ear) for ear in (by_event, by_filter, excluded, plain)]
        self.assertEqual(heard, [[2], [4], [4], [5]])

    def test_off_the_ring(self) -> None:
        """What a reader wants is not superseded by what it does not want."""
        self.options = StreamOptions(
            ring_entries=3, behind="latest", history_size=100, history_ttl=60.0
        )
        channel = self.node.get("kept")
        by_event, plain = Ear(), Ear()
        channel.subscribe("a", by_event)
        channel.subscribe(None, plain)
        for number in range(1, 10):
            channel.publish("a" if number < 4 else "b", number)
        heard = [self.numbers(ear) for ear in (by_event, plain)]
        self.assertEqual((heard, by_event.gaps), ([[3], [9]], []))


class LatestTests(SynchronousTestCase):
    """The index beside the ring."""

    def test_kept_up(self) -> None:
        """However the ring turns, the index is what a look at the whole ring gives."""
        random = Random(3)
        for _ in range(20):
            ring = Ring(Rings(10**9), random.choice((1, 5, 70)), 10**9)
            offset = 0
            for _ in range(300):
                prev, offset = offset, offset + random.choice((1, 1, 9))
                draft = Draft("m", b"1", {"k": str(random.randrange(6))})
                ring.append(Entry("c", draft, Position("e", offset), prev))
                if random.random() < 0.02:
                    ring.clear()
                latest = ring.latest("k")
                self.assertEqual(len(latest), len({e.tags["k"] for e in ring.newest()}))
                if not len(ring):
                    continue
                newest = {entry.tags["k"]: entry.offset for entry in ring.newest()}
                found = [entry.offset for entry in latest.walk(ring.base)]
                self.assertEqual(found, sorted(newest.values()))
                middle = random.choice(found)
                self.assertEqual(
                    [entry.offset for entry in latest.walk(middle)],
                    [place for place in found if place > middle],
                )
                self.assertEqual(latest.count(middle, offset), sum(p > middle for p in found))
                self.assertEqual(
                    ring.count(middle, offset), sum(e.offset > middle for e in ring.newest())
                )
