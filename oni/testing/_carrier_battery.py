"""What every carrier of envelopes must do, as tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.carriers import Carrier
from oni.channels import Channel, Channels
from oni.interfaces import ICarrier
from oni.testing._backend_battery import _case
from oni.values import StreamOptions

__all__ = ["CarrierBattery", "SynchronousCarrierBattery"]

_KEEPS = StreamOptions(history_size=100, history_ttl=60.0)
_PAUSES = 4000  # so often is waited for what a carrier shall do
_LONG = "x" * 16 * 1024


class CarrierBattery:
    """Mix it into a test case, and say how connections are made and what their clients do.

    With a real framework, use a ``twisted.trial.unittest.TestCase`` and implement
    :meth:`run_case`, :meth:`pause` and :meth:`make_channels`; on a test's clock,
    :class:`SynchronousCarrierBattery` has them. A connection is whatever the other methods
    understand: the two ends of a socket, for example.

    Attributes:
        node: The channels.
        channel: One of them.
        flood: So many long publications are more than all buffers on the way hold.
    """

    node: Channels
    channel: Channel
    flood = 200

    async def make_connection(self) -> Any:
        """Open a connection, whose client reads."""
        raise NotImplementedError

    def make_carrier(self, connection: Any) -> Carrier:
        """Make a carrier, any number of them for a connection."""
        raise NotImplementedError

    def received(self, connection: Any) -> Sequence[Any]:
        """Give the messages that a client has received, as values."""
        raise NotImplementedError

    def stop_reading(self, connection: Any) -> None:
        """Let the client read no more for now."""
        raise NotImplementedError

    def read_again(self, connection: Any) -> None:
        """Let the client read again."""
        raise NotImplementedError

    async def hang_up(self, connection: Any) -> None:
        """Let the client end the connection."""
        raise NotImplementedError

    def is_closed(self, connection: Any) -> bool:
        """Say whether the client has learned that the server closed."""
        raise NotImplementedError

    def make_channels(self) -> Channels:
        """Make channels in memory, with :meth:`options`."""
        raise NotImplementedError

    def run_case(self, case: Coroutine[Deferred[Any], Any, None]) -> Any:
        """Run a coroutine to its end: return a Deferred, or when it has ended."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Let everybody do something."""
        raise NotImplementedError

    def options(self, name: str) -> StreamOptions:
        """Give a channel's options."""
        return _KEEPS

    async def started(self, case: Callable[[Any], Coroutine[Deferred[Any], Any, None]]) -> None:
        """Run a case with channels, which stop afterwards."""
        self.node = self.make_channels()
        self.channel = self.node.get("news")
        try:
            await case(self)
        finally:
            await self.node.stop()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        for _ in range(_PAUSES):
            if condition():
                return
            await self.pause()
        raise AssertionError("it did not happen")

    async def quiet(self) -> None:
        """Wait for a while, in which nothing should happen."""
        for _ in range(20):
            await self.pause()

    async def hears(self, connection: Any, *expected: tuple[str, Any]) -> None:
        """Wait until a client has received these events, and see that there are no others."""
        await self.until(lambda: len(self.received(connection)) >= len(expected))
        await self.quiet()
        assert list(self.received(connection)) == [_event(*event) for event in expected]

    # --- What is delivered ----------------------------------------------------------------------

    @_case
    async def test_interface(self) -> None:
        """It is a carrier."""
        verifyObject(ICarrier, self.make_carrier(await self.make_connection()))

    @_case
    async def test_equality(self) -> None:
        """Carriers of one connection are equal and hash alike; of two, they are not equal."""
        one, two = await self.make_connection(), await self.make_connection()
        carrier, again, other = map(self.make_carrier, (one, one, two))
        assert carrier == again and hash(carrier) == hash(again) and carrier is not again
        assert carrier != other and carrier != one
        assert {carrier, again, other} == {carrier, other}

    @_case
    async def test_envelope(self) -> None:
        """The client gets the event's name and its data, in TBone's envelope."""
        connection = await self.make_connection()
        await self.channel.subscribe(None, self.make_carrier(connection))
        data = {"user": "bob", "text": 'ä\n"{}"\u2028', "n": [1.5, None, True]}
        await self.channel.publish("user_created", data)
        await self.channel.publish("größer", "x")
        await self.hears(connection, ("user_created", data), ("größer", "x"))

    @_case
    async def test_named_events(self) -> None:
        """Only what was subscribed to is delivered."""
        connection = await self.make_connection()
        await self.channel.subscribe("created", self.make_carrier(connection))
        for number, name in enumerate(("created", "removed", "created")):
            await self.channel.publish(name, number)
        await self.hears(connection, ("created", 0), ("created", 2))

    @_case
    async def test_twice(self) -> None:
        """Subscribing twice, with a carrier of its own each time, delivers once."""
        connection = await self.make_connection()
        await self.channel.subscribe("created", self.make_carrier(connection))
        await self.channel.subscribe("created", self.make_carrier(connection))
        await self.channel.subscribe(None, self.make_carrier(connection))
        await self.channel.publish("created", 1)
        await self.hears(connection, ("created", 1))
        assert self.channel.subscribers == 1

    @_case
    async def test_unsubscribe(self) -> None:
        """A new carrier of the same connection unsubscribes what another one subscribed."""
        connection = await self.make_connection()
        await self.channel.subscribe("created", self.make_carrier(connection))
        await self.channel.publish("created", 1)
        await self.until(lambda: self.received(connection))
        await self.channel.unsubscribe("created", self.make_carrier(connection))
        await self.channel.publish("created", 2)
        await self.hears(connection, ("created", 1))
        assert self.channel.subscribers == 0

    @_case
    async def test_order(self) -> None:
        """Many publications come in order, each once."""
        connection = await self.make_connection()
        await self.channel.subscribe(None, self.make_carrier(connection))
        for number in range(250):
            await self.channel.publish("n", number)
        await self.hears(connection, *(("n", number) for number in range(250)))

    @_case
    async def test_several_channels(self) -> None:
        """One connection hears several channels, whichever carrier subscribed to each."""
        connection, other = await self.make_connection(), self.node.get("other")
        await self.channel.subscribe(None, self.make_carrier(connection))
        await other.subscribe(None, self.make_carrier(connection))
        await self.channel.publish("a", 1)
        await self.until(lambda: len(self.received(connection)) == 1)
        await other.publish("b", 2)
        await self.hears(connection, ("a", 1), ("b", 2))
        await self.hang_up(connection)
        await self._publish_until_nobody_hears(self.channel)
        await self._publish_until_nobody_hears(other)

    @_case
    async def test_since(self) -> None:
        """What came after a position is delivered first."""
        connection = await self.make_connection()
        first = await self.channel.publish("n", 1)
        await self.channel.publish("n", 2)
        carrier = self.make_carrier(connection)
        assert await self.channel.subscribe(None, carrier, first) == first
        await self.channel.publish("n", 3)
        await self.hears(connection, ("n", 2), ("n", 3))

    # --- Who does not read ----------------------------------------------------------------------

    @_case
    async def test_slow(self) -> None:
        """For a client that stops reading nothing piles up; it is told of the gap, and goes on."""
        connection, quick = await self.make_connection(), await self.make_connection()
        await self.channel.subscribe(None, self.make_carrier(connection))
        await self.channel.subscribe(None, self.make_carrier(quick))
        await self.channel.publish("n", [1, ""])
        await self.until(lambda: self.received(connection))
        self.stop_reading(connection)
        for number in range(2, self.flood + 1):
            await self.channel.publish("n", [number, _LONG])
            while len(self.received(quick)) < number:
                await self.pause()
        assert len(self.received(connection)) < self.flood / 2
        self.read_again(connection)
        await self.until(lambda: _number(self.received(connection)[-1]) == self.flood)
        assert self.node.statistics()["gaps"] == _follow(self.received(connection)) > 0
        assert _follow(self.received(quick)) == 0
        await self.channel.publish("n", [self.flood + 1, ""])
        await self.until(lambda: _number(self.received(connection)[-1]) == self.flood + 1)

    @_case
    async def test_overdue(self) -> None:
        """A client that lags too far behind is disconnected, where the channel wants that."""
        connection = await self.make_connection()
        carrier = self.make_carrier(connection)
        attachment = await self.channel.attach(carrier)
        attachment.subscription.begin()
        carrier.overdue(attachment.subscription)
        assert self.channel.subscribers == 0
        await self.until(lambda: self.is_closed(connection))

    # --- The end --------------------------------------------------------------------------------

    @_case
    async def test_hung_up(self) -> None:
        """A carrier whose connection has ended leaves its channels; the others go on hearing."""
        connection, other = await self.make_connection(), await self.make_connection()
        await self.channel.subscribe(None, self.make_carrier(connection))
        await self.channel.subscribe(None, self.make_carrier(other))
        await self.hang_up(connection)
        await self._publish_until_nobody_hears(self.channel, 1)
        heard = len(self.received(other))
        await self.channel.publish("last", 1)
        await self.until(lambda: self.received(other)[heard:] == [_event("last", 1)])

    @_case
    async def test_hung_up_while_slow(self) -> None:
        """One whose client goes without having read does so, too."""
        connection = await self.make_connection()
        await self.channel.subscribe(None, self.make_carrier(connection))
        self.stop_reading(connection)
        for number in range(self.flood):
            await self.channel.publish("n", [number, _LONG])
            await self.pause()
        await self.hang_up(connection)
        await self._publish_until_nobody_hears(self.channel)

    @_case
    async def test_send_fails(self) -> None:
        """One that cannot send leaves its channels and closes: the client is not left waiting."""
        connection, other = await self.make_connection(), await self.make_connection()
        carrier = self.make_carrier(connection)
        await self.channel.subscribe(None, carrier)
        await self.channel.subscribe(None, self.make_carrier(other))

        async def fail(message: bytes) -> None:
            raise OSError("no")

        cast(Any, carrier).send = fail
        await self.channel.publish("n", 1)
        await self.until(lambda: self.channel.subscribers == 1)
        await self.until(lambda: self.is_closed(connection))
        await self.channel.publish("n", 2)
        await self.hears(other, ("n", 1), ("n", 2))

    @_case
    async def test_ended_before(self) -> None:
        """A carrier whose connection has ended already does not stay subscribed."""
        connection = await self.make_connection()
        carrier = self.make_carrier(connection)
        await self.channel.subscribe(None, carrier)
        await self.hang_up(connection)
        await self._publish_until_nobody_hears(self.channel)
        await self.channel.subscribe(None, carrier)
        await self.channel.subscribe(None, self.make_carrier(connection))
        await self._publish_until_nobody_hears(self.channel)

    async def _publish_until_nobody_hears(self, channel: Channel, but: int = 0) -> None:
        for number in range(_PAUSES):
            if channel.subscribers <= but:
                return
            await channel.publish("n", number)
            await self.pause()
        raise AssertionError(f"{channel.subscribers} are subscribed still")


class SynchronousCarrierBattery(CarrierBattery):
    """The battery on a test's clock, ``self.clock``, with a ``SynchronousTestCase``."""

    clock: Clock

    def make_channels(self) -> Channels:
        """Make channels on a clock."""
        return Channels(options=self.options, reactor=self.clock)

    def run_case(self, case: Coroutine[Deferred[Any], Any, None]) -> Any:
        """Run a coroutine to its end."""
        self.clock = Clock()
        cast(SynchronousTestCase, self).successResultOf(Deferred.fromCoroutine(case))

    async def pause(self) -> None:
        """Let the carriers take their turns."""
        self.clock.advance(0)


def _event(name: str, data: Any) -> dict[str, Any]:
    return {"type": "event", "payload": {"name": name, "data": data}}


def _number(message: Any) -> Any:
    return message["payload"]["data"][0] if message["type"] == "event" else None


def _follow(messages: Sequence[Any]) -> int:
    """See that numbers follow one another, but for gaps that are told; count these."""
    gaps, last = 0, 0
    for message in messages:
        if message["type"] == "gap":
            gaps += 1
            assert message["payload"]["channel"] == "news"
            assert message["payload"]["offset"] > last, (message, last)
            last = message["payload"]["offset"]
        else:
            assert _number(message) == last + 1, (message["payload"]["data"][0], last)
            last += 1
    return gaps
