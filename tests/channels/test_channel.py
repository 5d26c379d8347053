"""A channel gives publications to its subscribers, in order."""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni.channels import Channel
from oni.errors import EventNameError
from oni.interfaces import ICarrier, IChannel, IEntry
from oni.values import Position


@implementer(ICarrier)
class Ear:
    """A carrier that keeps what it hears."""

    def __init__(self, react: Any = None) -> None:
        self.entries: list[IEntry] = []
        self.react = react

    @property
    def heard(self) -> list[tuple[str, Any]]:
        """Event and data of each publication."""
        return [(entry.event, json.loads(entry.data)) for entry in self.entries]

    def deliver(self, entry: IEntry) -> None:
        """Keep it, and react."""
        self.entries.append(entry)
        if self.react is not None:
            self.react(entry)


class ChannelTests(SynchronousTestCase):
    """Tests of :class:`oni.channels.Channel`."""

    def setUp(self) -> None:
        """Make a channel and an ear."""
        self.channel = Channel("news", "e1")
        self.ear = Ear()

    def test_interfaces(self) -> None:
        """It is a channel, and its entries are entries."""
        verifyObject(IChannel, self.channel)
        self.channel.subscribe(None, self.ear)
        self.channel.publish("added", 1)
        verifyObject(IEntry, self.ear.entries[0])
        verifyObject(ICarrier, self.ear)

    def test_positions(self) -> None:
        """Each publication has the next offset, and knows the one before."""
        self.channel.subscribe(None, self.ear)
        first = self.successResultOf(self.channel.publish("a", None))
        second = self.successResultOf(self.channel.publish("b", None))
        self.assertEqual((first, second), (Position("e1", 1), Position("e1", 2)))
        self.assertEqual([entry.prev for entry in self.ear.entries], [0, 1])
        self.assertEqual([entry.position for entry in self.ear.entries], [first, second])

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
        self.channel.unsubscribe("b", self.ear)
        self.channel.publish("b", 2)
        self.assertEqual(self.ear.heard, [("b", 1)])
        self.assertEqual(self.channel.subscribers, 0)

    def test_unsubscribe_stranger(self) -> None:
        """Unsubscribing what is not subscribed does nothing."""
        self.channel.subscribe("a", self.ear)
        self.successResultOf(self.channel.unsubscribe("b", self.ear))
        self.successResultOf(self.channel.unsubscribe(None, Ear()))
        self.channel.publish("a", 1)
        self.assertEqual(self.ear.heard, [("a", 1)])

    def test_position_of_subscription(self) -> None:
        """A subscriber learns after which publication it hears everything."""
        self.channel.publish("a", 1)
        position = self.successResultOf(self.channel.subscribe(None, self.ear, Position("e0", 7)))
        self.assertEqual(position, Position("e1", 1))

    def test_failing_carrier(self) -> None:
        """A carrier that raises is detached and logged; the others hear everything."""

        def fail(entry: IEntry) -> None:
            raise ConnectionError("gone")

        bad, after = Ear(fail), Ear()
        for carrier in (self.ear, bad, after):
            self.channel.subscribe(None, carrier)
        self.channel.publish("a", 1)
        self.assertEqual(len(self.flushLoggedErrors(ConnectionError)), 1)
        self.channel.publish("a", 2)
        self.assertEqual([len(ear.entries) for ear in (self.ear, bad, after)], [2, 1, 2])
        self.assertEqual(self.channel.subscribers, 2)

    def test_publish_while_delivering(self) -> None:
        """What a carrier publishes while it is delivered to comes after, for everybody."""
        other = Ear()
        echo = Ear(lambda entry: entry.event == "a" and self.channel.publish("echo", 1))
        for carrier in (echo, other):
            self.channel.subscribe(None, carrier)
        self.channel.publish("a", 0)
        self.assertEqual(other.heard, [("a", 0), ("echo", 1)])
        self.assertEqual(echo.heard, other.heard)

    def test_unsubscribed_while_delivering(self) -> None:
        """Who is unsubscribed by a carrier before it does not hear that publication."""
        first = Ear(lambda entry: self.channel.unsubscribe(None, self.ear))
        self.channel.subscribe(None, first)
        self.channel.subscribe(None, self.ear)
        self.channel.publish("a", 0)
        self.assertEqual(self.ear.heard, [])

    def test_subscribed_while_delivering(self) -> None:
        """Who subscribes during a delivery hears what comes after its position, nothing else."""
        positions = []

        def react(entry: IEntry) -> None:
            if entry.event == "a":
                self.channel.publish("b", 0)
                positions.append(
                    self.successResultOf(self.channel.subscribe(None, self.ear)).offset
                )

        self.channel.subscribe(None, Ear(react))
        self.channel.publish("a", 0)
        self.channel.publish("c", 0)
        self.assertEqual(positions, [2])
        self.assertEqual(self.ear.heard, [("c", 0)])

    def test_encoded_once(self) -> None:
        """Subscribers share one encoding per encoder."""
        calls = []

        def encode(entry: Any) -> bytes:
            calls.append(entry)
            return b"<" + entry.data + b">"

        ears = [Ear(lambda entry: entry.encoded(encode)) for _ in range(3)]
        for ear in ears:
            self.channel.subscribe(None, ear)
        self.channel.publish("a", 1)
        self.assertEqual(len(calls), 1)
        entry = ears[0].entries[0]
        self.assertEqual(entry.encoded(encode), b"<1>")
        self.assertIs(entry.encoded(encode), entry.encoded(encode))
        self.assertEqual(entry.encoded(lambda entry: b"other"), b"other")

    def test_snapshot(self) -> None:
        """What was published does not change with the publisher's data."""
        self.channel.subscribe(None, self.ear)
        data, tags = {"a": 1}, {"t": "x"}
        self.channel.publish("a", data, tags=tags, info={"user": "bob"})
        data["a"], tags["t"] = 2, "y"
        value = self.ear.entries[0].publication()
        self.assertEqual(
            (value.data, value.tags, value.info), ({"a": 1}, {"t": "x"}, {"user": "bob"})
        )
        value.data["a"] = 3
        self.assertEqual(self.ear.entries[0].publication().data, {"a": 1})

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
