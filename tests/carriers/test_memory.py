"""The carrier in memory passes the battery; and what its connection does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.carriers import Carrier
from oni.carriers.memory import MemoryCarrier, MemoryConnection
from oni.channels import Channels
from oni.testing import SynchronousCarrierBattery


class Client:
    """Reads a connection, while it wants to."""

    def __init__(self) -> None:
        self.connection = MemoryConnection(size=3)
        self.received: list[Any] = []
        self.is_reading = True
        self.is_closed = False
        self.read()

    def read(self) -> None:
        """Read on."""
        while self.is_reading and not self.is_closed:
            reader = self.connection.receive()
            if not reader.called:
                reader.addCallbacks(self.heard, self.ended)
                return
            reader.addCallbacks(self.received.append, self.ended)

    def heard(self, message: Any) -> None:
        """Take a message that was waited for, and read on."""
        self.received.append(message)
        self.read()

    def ended(self, failure: Any) -> None:
        """Learn of the end."""
        failure.trap(ConnectionDone)
        self.is_closed = True


class MemoryCarrierTests(SynchronousCarrierBattery, SynchronousTestCase):
    """The battery."""

    async def make_connection(self) -> Client:
        """Make one with a client that reads."""
        return Client()

    def make_carrier(self, connection: Client) -> Carrier:
        """Make a carrier on the clock."""
        return MemoryCarrier(connection.connection, reactor=self.clock)

    def received(self, connection: Client) -> list[Any]:
        """Give what was read."""
        return connection.received

    def stop_reading(self, connection: Client) -> None:
        """Let the client read no more."""
        connection.is_reading = False

    def read_again(self, connection: Client) -> None:
        """Let the client read again."""
        connection.is_reading = True
        connection.read()

    async def hang_up(self, connection: Client) -> None:
        """Close it."""
        connection.connection.close()

    def is_closed(self, connection: Client) -> bool:
        """Say whether the client has learned of it."""
        return connection.is_closed


class MemoryConnectionTests(SynchronousTestCase):
    """A mailbox with a carrier at its other end."""

    def setUp(self) -> None:
        """Subscribe a connection of two messages."""
        self.clock = Clock()
        self.node = Channels(reactor=self.clock)
        self.channel = self.node.get("news")
        self.connection = MemoryConnection(2)
        carrier = MemoryCarrier(self.connection, reactor=self.clock)
        self.successResultOf(self.channel.subscribe(None, carrier))

    def publish(self, *numbers: int) -> None:
        """Publish numbers, and let the carrier have its turns."""
        for number in numbers:
            self.successResultOf(self.channel.publish("n", number))
        self.clock.pump([0] * 10)

    def data(self) -> Any:
        """Read one message, and let the carrier have its turns."""
        message = self.successResultOf(self.connection.receive())
        self.clock.pump([0] * 10)
        return message["payload"]["data"]

    def test_bounded(self) -> None:
        """No more messages wait than fit, and all come, in order."""
        self.publish(*range(10))
        self.assertEqual(len(self.connection), 2)
        self.assertEqual([self.data() for _ in range(10)], list(range(10)))
        self.assertEqual(len(self.connection), 0)

    def test_read_before(self) -> None:
        """Readers that wait get what comes, first come, first served; a cancelled one does not."""
        first, second, third = (self.connection.receive() for _ in range(3))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.publish(1, 2, 3)
        self.assertEqual(self.successResultOf(first)["payload"]["data"], 1)
        self.assertEqual(self.successResultOf(third)["payload"]["data"], 2)
        self.assertEqual(self.data(), 3)

    def test_closed(self) -> None:
        """What waits is read after the end, then there is nothing more; nobody is subscribed."""
        self.publish(1, 2, 3)
        self.connection.close(3000, "enough")
        self.connection.close()
        self.assertEqual(self.connection.closed_with, (3000, "enough"))
        self.assertEqual(self.channel.subscribers, 0)
        self.publish(4)
        self.assertEqual([self.data(), self.data()], [1, 2])
        self.failureResultOf(self.connection.receive(), ConnectionDone)

    def test_put_after_the_end(self) -> None:
        """A closed connection takes nothing."""
        self.connection.close()
        carrier = MemoryCarrier(self.connection, reactor=self.clock)
        self.failureResultOf(carrier.run(carrier.send(b"1")), ConnectionDone)

    def test_two_carriers_learn_of_the_end(self) -> None:
        """Each carrier of a connection leaves its own channels."""
        other = self.node.get("other")
        carrier = MemoryCarrier(self.connection, reactor=self.clock)
        self.successResultOf(other.subscribe(None, carrier))
        self.connection.close()
        self.assertEqual((self.channel.subscribers, other.subscribers), (0, 0))
