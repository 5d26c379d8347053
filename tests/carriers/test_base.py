"""What all carriers of messages have in common, on a connection that does as it is told."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import Carrier, envelope
from oni.channels import Channel, Channels
from oni.interfaces import IEntry
from oni.values import StreamOptions

KEEPS = StreamOptions(history_size=100, history_ttl=60.0)


class Wire:
    """A connection that takes one message after another, when it is let."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.closed_with: tuple[int, str] | None = None
        self.error: Exception | None = None
        self.room: Deferred[None] | None = None
        self.watchers = 0

    @property
    def data(self) -> list[Any]:
        """The data of each message so far."""
        return [message["payload"].get("data") for message in self.messages]


class WireCarrier(Carrier):
    """A carrier over such a connection."""

    async def send(self, message: bytes) -> None:
        """Take a message, and wait where that is wished."""
        if self.connection.error is not None:
            raise self.connection.error
        self.connection.messages.append(msgspec.json.decode(message))
        if self.connection.room is not None:
            await self.connection.room

    def close(self, code: int, reason: str) -> None:
        """Note it."""
        self.connection.closed_with = (code, reason)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self.connection.closed_with is None

    def watch(self) -> None:
        """Count it."""
        self.connection.watchers += 1


class BrokenCarrier(WireCarrier):
    """One whose encoding fails."""

    @staticmethod
    def encode(entry: IEntry) -> bytes:
        """Fail."""
        raise ZeroDivisionError("no words")


class CarrierTests(SynchronousTestCase):
    """Carriers on a clock."""

    def setUp(self) -> None:
        """Subscribe a wire to a channel."""
        self.clock = Clock()
        self.node = Channels(options=lambda name: KEEPS, reactor=self.clock)
        self.channel = self.node.get("news")
        self.wire = Wire()
        self.carrier = self.carry(self.wire)

    def carry(self, wire: Wire, channel: Channel | None = None) -> WireCarrier:
        """Subscribe a wire to a channel, with a carrier of its own."""
        carrier = WireCarrier(wire, reactor=self.clock)
        self.successResultOf((channel or self.channel).subscribe(None, carrier))
        return carrier

    def publish(self, *data: Any, channel: Channel | None = None) -> None:
        """Publish each of these."""
        for each in data:
            self.successResultOf((channel or self.channel).publish("n", each))

    def turn(self, number: int = 1) -> None:
        """Let so many reactor turns pass."""
        self.clock.pump([0] * number)

    def test_later(self) -> None:
        """Nothing is sent within a publish: sending has a turn of its own."""
        self.publish(1)
        self.assertEqual(self.wire.data, [])
        self.turn()
        self.assertEqual(self.wire.data, [1])

    def test_turns_are_shared(self) -> None:
        """However many carriers there are, one call of the reactor's lets them send."""
        wires = [Wire() for _ in range(50)]
        carriers = [self.carry(wire) for wire in wires]
        self.turn()
        self.publish(1)
        self.assertEqual(len([c for c in self.clock.getDelayedCalls() if c.getTime() <= 0]), 1)
        self.turn()
        self.assertEqual([wire.data for wire in wires], [[1]] * 50)
        del carriers

    def test_channels_take_turns(self) -> None:
        """A channel with much to say does not hold up another one of the same carrier."""
        other = self.node.get("other")
        self.successResultOf(other.subscribe(None, self.carrier))
        self.turn()
        self.publish(*["x" * 4000] * 50)
        self.publish("small", channel=other)
        self.turn()
        self.assertEqual(len(self.wire.data), 51)
        self.assertLess(self.wire.data.index("small"), 10)

    def test_one_message_at_a_time(self) -> None:
        """While one is being sent nothing more is taken; then it goes on in order."""
        self.wire.room = Deferred()
        self.publish(1, 2)
        self.turn(5)
        self.publish(3)
        self.turn(5)
        self.assertEqual(self.wire.data, [1])
        room, self.wire.room = self.wire.room, None
        room.callback(None)
        self.turn(5)
        self.assertEqual(self.wire.data, [1, 2, 3])

    def test_unsubscribed_meanwhile(self) -> None:
        """What was taken and not sent is not sent after an unsubscribe."""
        self.wire.room = Deferred()
        self.publish(1, 2, 3)
        self.turn()
        again = WireCarrier(self.wire, reactor=self.clock)
        self.successResultOf(self.channel.unsubscribe(None, again))
        self.wire.room.callback(None)
        self.turn(5)
        self.assertEqual(self.wire.data, [1])

    def test_one_line(self) -> None:
        """JSON that came with line ends is one line in the envelope."""
        self.publish(msgspec.Raw(b'{"a":\r\n [1,\n2]}'))
        self.turn()
        self.assertEqual(self.wire.data, [{"a": [1, 2]}])

    def test_encoded_once(self) -> None:
        """All carriers have one function, so a publication is encoded once for them."""
        self.assertIs(Carrier.encode, envelope)
        self.assertIs(self.carrier.encode, WireCarrier(Wire()).encode)

    def test_connection_trouble_is_no_fault(self) -> None:
        """A connection that does not take a message is closed, and left, without a traceback."""
        self.wire.error = ConnectionResetError("gone")
        self.publish(1)
        self.turn()
        self.assertEqual(self.wire.closed_with, (3009, "write error"))
        self.assertEqual(self.channel.subscribers, 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_fault_is_logged(self) -> None:
        """What a carrier does wrong itself is logged, and the connection is closed, too."""
        self.wire.error = KeyError("oops")
        self.publish(1)
        self.turn()
        self.assertEqual(self.wire.closed_with, (3009, "write error"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_encoding_fails(self) -> None:
        """A carrier that cannot encode is closed; the others hear."""
        broken = Wire()
        carrier = BrokenCarrier(broken, reactor=self.clock)
        self.successResultOf(self.channel.subscribe(None, carrier))
        self.publish(1)
        self.turn()
        self.assertEqual(broken.closed_with, (3009, "write error"))
        self.assertEqual((self.wire.data, self.channel.subscribers), ([1], 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_detach(self) -> None:
        """It leaves all channels at once, and hears nothing any more; again, nothing happens."""
        other = self.node.get("other")
        self.successResultOf(other.subscribe(None, self.carrier))
        self.publish(1)
        self.carrier.detach()
        self.carrier.detach()
        self.turn()
        self.assertEqual((self.channel.subscribers, other.subscribers), (0, 0))
        self.assertEqual((self.wire.data, self.wire.closed_with), ([], None))
        self.successResultOf(other.subscribe(None, self.carrier))
        self.assertEqual(other.subscribers, 0)

    def test_watches_once(self) -> None:
        """It looks for the end from its first subscription on."""
        self.assertEqual(self.wire.watchers, 1)
        self.successResultOf(self.node.get("other").subscribe(None, self.carrier))
        self.assertEqual(self.wire.watchers, 1)

    def test_forgets_what_has_ended(self) -> None:
        """Subscriptions that have ended are not kept."""
        for number in range(20):
            channel = self.node.get(f"c{number}")
            self.successResultOf(channel.subscribe(None, self.carrier))
            self.successResultOf(channel.unsubscribe(None, self.carrier))
        self.assertLess(len(self.carrier._subscriptions), 3)

    def test_repr(self) -> None:
        """It names its class and its connection, for logs."""
        self.assertEqual(repr(self.carrier), f"WireCarrier({self.wire!r})")


def test_imports() -> None:
    """Loading the carriers loads neither framework, and never Autobahn's asyncio side."""
    program = (
        "import sys\n"
        "import oni.carriers.aiohttp_websocket, oni.carriers.sanic_websocket\n"
        "import oni.carriers.memory\n"
        "print([n for n in ('aiohttp', 'sanic', 'autobahn.asyncio') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
