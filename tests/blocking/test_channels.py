"""The blocking face: publications, history and presence as plain calls from another thread."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.exceptions import Invalid

from oni.blocking import BlockingChannels
from oni.blocking._reactor_thread import reactor_thread
from oni.channels import Channels
from oni.channels.backends.memory import MemoryBackend
from oni.errors import (
    CallTimeoutError,
    ChannelNameError,
    EventNameError,
    InvalidTimeoutError,
    ReactorThreadError,
    UnrecoverablePositionError,
)
from oni.interfaces import IChannel
from oni.testing import Ear
from oni.values import ClientInfo, Position, PresenceStats, StreamOptions
from tests.blocking.pump import PumpTestCase

KEEPS = StreamOptions(history_size=10, history_ttl=60.0)


class Stuck(MemoryBackend):
    """A backend that never answers a publish."""

    cancelled = 0

    def publish(self, *args: Any, **kwargs: Any) -> Deferred[Position]:
        """Answer nothing."""
        return Deferred(self.count)

    def count(self, _: object) -> None:
        """Count who gave up."""
        self.cancelled += 1


class FaceTests(PumpTestCase):
    """Each method does its work, and needs one crossing for it."""

    def setUp(self) -> None:
        """Put a face on channels in memory."""
        super().setUp()
        self.clock = Clock()
        self.node = Channels(options=lambda name: KEEPS, reactor=self.clock)
        self.face = BlockingChannels(self.node, thread=self.thread)

    def test_methods_are_those_of_a_channel(self) -> None:
        """Every method that begins or ends nothing exists, with the channel's name first."""
        others = {"name", "options", "start", "hold", "subscribe", "unsubscribe", "attach"}
        for name in set(IChannel) - others:
            theirs = IChannel[name].getSignatureInfo()
            signature = inspect.signature(getattr(BlockingChannels, name))
            ours = [parameter for parameter in signature.parameters if parameter != "self"]
            keyword_only = {"tags", "info", "exclude", "idempotency_key"}
            if name != "publish":
                keyword_only = set()
            named = [n for n in ours if n not in keyword_only]
            wanted = [n for n in theirs["positional"] if n not in keyword_only]
            self.assertEqual(named, ["channel", *wanted], name)

    def test_publish(self) -> None:
        """A publication reaches who has subscribed, with all that belongs to it."""
        ear = Ear()
        self.pump.run(lambda: self.node.get("news").subscribe(None, ear))
        info = ClientInfo("bob", "c1")
        position = self.face.publish("news", "created", {"n": 1}, tags={"a": "b"}, info=info)
        self.assertEqual(position.offset, 1)
        self.assertEqual(self.pump.run(lambda: ear.heard), [("created", {"n": 1})])
        (entry,) = self.face.history("news").entries
        publication = entry.publication()
        self.assertEqual((publication.event, publication.data), ("created", {"n": 1}))
        self.assertEqual((dict(publication.tags), publication.info), ({"a": "b"}, info))
        self.assertEqual(publication.position, position)

    def test_idempotency_key_and_exclude(self) -> None:
        """They reach the channel as they are."""
        keyed = [self.face.publish("n", "e", n, idempotency_key="k") for n in range(2)]
        self.assertEqual(keyed[0], keyed[1])
        self.face.publish("n", "e", msgspec.Raw(b"[2]"), exclude="c9")
        first, second = self.face.history("n").entries
        self.assertEqual((first.data, second.data, second.exclude), (b"0", b"[2]", "c9"))

    def test_history(self) -> None:
        """History is read by limit, position and direction, and removed."""
        held = self.pump.run(lambda: self.node.get("n"))
        positions = [self.face.publish("n", "e", number) for number in range(5)]
        offsets = [e.position for e in self.face.history("n", 2, positions[1]).entries]
        self.assertEqual(offsets, positions[2:4])
        offsets = [e.position for e in self.face.history("n", 2, reverse=True).entries]
        self.assertEqual(offsets, [positions[4], positions[3]])
        self.assertIsNone(self.face.remove_history("n"))
        page = self.face.history("n")
        self.assertEqual((list(page.entries), page.top), ([], positions[4]))
        del held
        other = Position("other", 1)
        self.assertRaises(UnrecoverablePositionError, self.face.history, "n", None, other)

    def test_presence(self) -> None:
        """Clients enter and leave, and are counted."""
        bob = ClientInfo("bob", "c1")
        self.face.enter("n", bob)
        self.face.enter("n", ClientInfo("bob", "c2"))
        self.assertEqual(self.face.presence_stats("n"), PresenceStats(2, 1))
        self.face.leave("n", "c2")
        self.assertEqual(self.face.presence("n"), {"c1": bob})

    def test_life(self) -> None:
        """The channels are started, named, counted and stopped."""
        self.face.start()
        kept = self.pump.run(lambda: self.node.get("kept"))
        self.assertIn("kept", self.face.names())
        self.face.publish("kept", "e", 1)
        self.assertEqual(self.face.statistics()["publications"], 1)
        self.face.stop()
        self.assertFalse(self.pump.run(lambda: self.node.is_ready))
        del kept

    def test_one_crossing(self) -> None:
        """A call crosses into the reactor's thread once."""
        self.face.publish("n", "e", 1)
        before = self.pump.crossings
        self.face.publish("n", "e", 1)
        self.face.history("n")
        self.assertEqual(self.pump.crossings - before, 2)

    def test_many_threads(self) -> None:
        """Threads publish at once, and each publication has its own position."""
        positions: list[Position] = []

        def publish() -> None:
            for number in range(5):
                positions.append(self.face.publish("n", "e", number))

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(sorted(p.offset for p in positions), list(range(1, 21)))

    def test_errors_are_raised(self) -> None:
        """What the channel refuses is raised with its own type."""
        self.assertRaises(ChannelNameError, self.face.publish, "", "e", 1)
        self.assertRaises(EventNameError, self.face.publish, "n", "", 1)
        self.assertRaises(TypeError, self.face.publish, "n", "e", object())

    def test_timeout(self) -> None:
        """A call without an answer is cancelled, and says so."""
        backend = Stuck(self.clock)
        face = BlockingChannels(Channels(backend, reactor=self.clock), 0.05, thread=self.thread)
        face.start()
        error = self.assertRaises(CallTimeoutError, face.publish, "n", "e", 1)
        self.assertEqual((error.call, error.seconds), ("publish", 0.05))
        self.assertEqual(self.pump.run(lambda: backend.cancelled), 1)

    def test_refused_in_the_reactors_thread(self) -> None:
        """There it would wait for itself."""

        def call() -> type[BaseException] | None:
            try:
                self.face.publish("n", "e", 1)
            except ReactorThreadError as error:
                return type(error)
            return None

        self.assertIs(self.pump.run(call), ReactorThreadError)


class ConstructionTests(PumpTestCase):
    """What is checked when a face is made."""

    def test_defaults(self) -> None:
        """Five seconds, the global reactor's thread, and the channels for that thread."""
        node = Channels()
        face = BlockingChannels(node)
        self.assertEqual((face.timeout, face.channels), (5.0, node))
        self.assertIs(face._thread, reactor_thread)
        self.assertIn("timeout=5.0", repr(face))

    def test_wrong_arguments(self) -> None:
        """What are no channels, or no seconds, is refused at once."""
        self.assertRaises(Invalid, BlockingChannels, object())
        self.assertRaises(InvalidTimeoutError, BlockingChannels, Channels(), 0)
