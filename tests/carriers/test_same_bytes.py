"""The way out does not show in the bytes: directly, in a crowd or not, or by the transport.

Three worlds act one script. In the first, carriers send as the daemon's do: to the socket, and by
the crowd where they can. In the second they are woken for each publication. In the third they do
not know of the socket: they write to a transport, which is as quick to send, and to pause them, as
they are themselves. Everything that each client gets has to be the same in all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer_only

from oni.carriers import CarrierLimits, WebSocketCarrier, WebSocketCarrierFactory
from oni.channels import Channels
from oni.errors import AlreadySubscribedError
from oni.interfaces import ICarrier, IDirectCarrier
from oni.protocol import CloseCode
from oni.values import StreamOptions
from tests.carriers import wire

CONNECTIONS = 3
CHANNELS = 3


class Owner:
    """Answers each message with itself, as far as it is told to."""

    def __init__(self, carrier: WebSocketCarrier) -> None:
        self.carrier = carrier
        self.ends = 0

    def received(self, frame: bytes) -> None:
        """Answer."""
        self.carrier.send(b"answer " + frame)

    def was_read(self) -> None:
        """Nothing comes of it."""

    def connection_lost(self) -> None:
        """Count."""
        self.ends += 1

    def lost(self, subscription: Any, position: Any) -> None:
        """Say it."""
        self.carrier.send(b"a gap")


class Kernel:
    """A socket's other side. It takes as many bytes as it has room for, and no more at once."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.room = 2**30
        self.at_once = 2**30
        self.is_broken = False
        self.sends = 0

    def send(self, data: bytes) -> int:
        """Take some."""
        self.sends += 1
        if self.is_broken:
            raise ConnectionResetError("broken")
        number = min(self.room, self.at_once, len(data))
        if not number:
            raise BlockingIOError("full")
        self.room -= number
        self.taken += data[:number]
        return number


class Transport(StringTransport):
    """A TCP transport; an eager one sends at once and pauses its producer over any rest."""

    def __init__(self, kernel: Kernel, eager: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.eager = eager
        self.buffer = bytearray()
        self.one: Any = None
        self.is_streaming = True
        self.is_over = False

    def write(self, data: bytes) -> None:
        """Send it, or keep it until the reactor may send it."""
        waited = bool(self.buffer)
        self.buffer += data
        if self.eager and not waited:
            self._send()
            if self.buffer and self.one is not None:
                self.one.pauseProducing()

    def _send(self) -> None:
        try:
            del self.buffer[: self.kernel.send(bytes(self.buffer))]
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.is_over = True  # the reactor finds out, and tells

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take one producer, and ask a pulling one at once, as Twisted does."""
        assert self.one is None
        self.one, self.is_streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Let it go."""
        self.one = None

    def pauseProducing(self) -> None:
        """Reading is no matter here."""

    def resumeProducing(self) -> None:
        """Reading is no matter here."""

    def loseConnection(self) -> None:
        """End, when everything is sent."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """End."""
        self.is_over = True

    def pump(self) -> None:
        """Do what the reactor does when the socket can be written to."""
        if self.buffer and not self.is_over:
            self._send()
            if not self.buffer and self.one is not None and not self.is_over:
                self.one.resumeProducing()


class World:
    """Some connections, and the channels that they may hear."""

    def __init__(self, crowds: bool = True, directly: bool = True) -> None:
        self.reactor = MemoryReactorClock()
        limits = CarrierLimits(sends_directly=directly)
        self.factory = WebSocketCarrierFactory(Owner, limits, self.reactor)
        if not crowds:
            protocol: Any = self.factory.protocol
            plain = type("Plain", (protocol,), {})
            self.factory.protocol = implementer_only(ICarrier, IPushProducer)(plain)
        options = StreamOptions(ring_entries=10_000, ring_bytes=2**26)
        self.channels = Channels(options=lambda name: options, reactor=self.reactor)
        self.held = [self.channels.get(f"c{number}") for number in range(CHANNELS)]
        self.said = 0
        self.kernels = [Kernel() for _ in range(CONNECTIONS)]
        self.transports = [Transport(kernel, not directly) for kernel in self.kernels]
        self.carriers = [
            self._connect(kernel, transport, directly)
            for kernel, transport in zip(self.kernels, self.transports, strict=True)
        ]
        self.turn()

    def _connect(self, kernel: Kernel, transport: Transport, directly: bool) -> Any:
        carrier: Any = self.factory.buildProtocol(None)
        transport.protocol = carrier
        carrier.makeConnection(transport)
        if directly:
            carrier.unregisterProducer()  # it was no TCP transport for its taste
            carrier._direct = kernel.send
        carrier.dataReceived(wire.upgrade())
        for _ in range(3):
            transport.pump()
        return carrier

    def act(self, kind: str, which: int, other: int, size: int) -> None:
        """Do one thing."""
        carrier, kernel = self.carriers[which], self.kernels[which]
        channel = self.held[other]
        self.said += 1
        if kind == "subscribe":
            self.subscribe(channel, which, size)
        elif kind == "unsubscribe":
            channel.unsubscribe(None, carrier)
            carrier.send(b"unsubscribed")
        elif kind == "leave":
            channel.unsubscribe(None, carrier)
        elif kind == "publish":
            channel.publish("ab"[size % 2], "x" * size, exclude="client 1" if size == 30 else "")
        elif kind == "reply":
            carrier.send(b"reply %d " % self.said + b"y" * size)
        elif kind == "room":
            kernel.room, kernel.at_once = size, 2**30
        elif kind == "sips":
            kernel.room, kernel.at_once = 2**30, size + 1
        elif kind == "break":
            kernel.is_broken = True
        elif kind == "close":
            carrier.close(CloseCode.SHUTDOWN)
        elif kind == "turn":
            self.turn()
        else:
            self.arrive(carrier, kind, min(size, 100))

    def subscribe(self, channel: Any, which: int, size: int) -> None:
        """Subscribe to one event, to all, or as a session does, if it is no subscriber yet.

        Nothing is on its way then: which of two channels is first is promised only among those
        that are heard when something is published.
        """
        carrier = self.carriers[which]
        self.turn()
        if size == 1:
            channel.subscribe("b", carrier)
        elif size > 1:
            channel.subscribe(None, carrier)
        else:
            attached = channel.attach(carrier, client=f"client {which}")
            attached.addCallback(lambda attachment: attachment.subscription.begin())
            attached.addErrback(lambda failure: failure.trap(AlreadySubscribedError))

    def arrive(self, carrier: Any, kind: str, size: int) -> None:
        """Let something arrive from the client."""
        if carrier.transport.is_over or carrier.transport.disconnecting:
            return
        if kind == "ping":
            carrier.dataReceived(wire.frame(b"p" * size, wire.PING))
        elif kind == "message":
            carrier.dataReceived(wire.frame(b"m" * size))
        elif kind == "fragments":
            carrier.dataReceived(wire.frame(b"f" * size, fin=False))
            carrier.dataReceived(wire.frame(b"between", wire.PING))
            carrier.dataReceived(wire.frame(b"g" * size, opcode=0))
        elif kind == "end":
            carrier.dataReceived(wire.close(1000))

    def turn(self) -> None:
        """Let a reactor turn pass."""
        self.reactor.advance(0)
        for carrier, transport in zip(self.carriers, self.transports, strict=True):
            transport.pump()
            if transport.is_over and carrier.connected:
                carrier.connectionLost(Failure(ConnectionLost()))

    def finish(self) -> list[bytes]:
        """Let everything leave; give what each client got."""
        for kernel in self.kernels:
            kernel.room = kernel.at_once = 2**30
        for _ in range(200):
            self.turn()
        assert not len(self.factory.drain)
        assert all(channel.ring.readers == 0 for channel in self.held)
        return [bytes(kernel.taken) for kernel in self.kernels]


KINDS = (
    ["subscribe"] * 4
    + ["publish"] * 8
    + ["turn"] * 6
    + ["reply", "room", "sips"] * 2
    + ["ping", "message", "fragments", "unsubscribe", "leave", "break", "close", "end"]
)
steps = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, CONNECTIONS - 1),
        st.integers(0, CHANNELS - 1),
        st.sampled_from([0, 1, 2, 30, 125, 126, 1000, 9000, 20_000, 70_000]),
    ),
    max_size=50,
)


def all_hear(*script: tuple[str, int, int, int]) -> list[tuple[str, int, int, int]]:
    """Begin with everybody in the first channel."""
    return [*(("subscribe", number, 0, 0) for number in range(CONNECTIONS)), *script]


@settings(max_examples=300, deadline=None)
@given(steps)
@example(all_hear(("turn", 0, 0, 0), ("sips", 1, 0, 30), ("publish", 0, 0, 1000)))
@example(all_hear(("turn", 0, 0, 0), ("room", 1, 0, 0), ("publish", 0, 0, 2), ("turn", 0, 0, 0),
                  ("reply", 1, 0, 1), ("publish", 0, 0, 2), ("room", 1, 0, 9000)))  # fmt: skip
@example(all_hear(("turn", 0, 0, 0), ("publish", 0, 0, 2), ("reply", 1, 0, 1)))
@example(all_hear(("turn", 0, 0, 0), ("publish", 0, 0, 2), ("unsubscribe", 1, 0, 1)))
@example(all_hear(("turn", 0, 0, 0), ("publish", 0, 0, 2), ("leave", 1, 0, 1)))
@example(all_hear(("turn", 0, 0, 0), ("publish", 0, 0, 30), ("publish", 0, 0, 2)))
@example(all_hear(("subscribe", 1, 1, 0), ("turn", 0, 0, 0), ("publish", 0, 1, 2),
                  ("publish", 0, 0, 2)))  # fmt: skip
@example(all_hear(("turn", 0, 0, 0), *[("publish", 0, 0, 9000)] * 4, ("reply", 2, 0, 0)))
@example(all_hear(("turn", 0, 0, 0), ("publish", 0, 0, 2), ("close", 0, 0, 0)))
@example(all_hear(("turn", 0, 0, 0), ("publish", 0, 0, 2), ("subscribe", 0, 1, 0),
                  ("publish", 0, 1, 2)))  # fmt: skip
@example(all_hear(("turn", 0, 0, 0), ("room", 1, 0, 30), ("publish", 0, 0, 1000),
                  ("turn", 0, 0, 0), ("close", 1, 0, 0), ("room", 1, 0, 70_000), ("turn", 0, 0, 0),
                  ("turn", 0, 0, 0), ("publish", 0, 0, 2)))  # fmt: skip
@example(all_hear(("turn", 0, 0, 0), ("break", 1, 0, 0), ("publish", 0, 0, 2)))
def test_same_bytes(script: list[tuple[str, int, int, int]]) -> None:
    """Whatever happens, and however little a socket takes: every client gets the same bytes."""
    worlds = [World(), World(crowds=False), World(crowds=False, directly=False)]
    for world in worlds:
        for step in script:
            world.act(*step)
    direct, woken, written = (world.finish() for world in worlds)
    assert direct == woken
    assert direct == written
    for taken in direct:
        assert taken.startswith(b"HTTP/1.1 101 ")


class Turns:
    """Counts how a world's publications leave."""

    def __init__(self) -> None:
        self.world = World()
        for carrier in self.world.carriers:
            self.world.held[0].subscribe(None, carrier)
        self.world.turn()
        self.world.turn()

    def sends(self, *acts: Callable[[], object]) -> list[int]:
        """Do something, and let a turn pass; give how often each connection sent."""
        before = [kernel.sends for kernel in self.world.kernels]
        for act in acts:
            act()
        self.world.turn()
        after = [kernel.sends for kernel in self.world.kernels]
        return [now - then for now, then in zip(after, before, strict=True)]

    def publish(self, channel: int = 0) -> None:
        """Publish."""
        self.world.held[channel].publish("message", 1)


def test_one_send_a_turn() -> None:
    """What is published in one turn leaves in one send."""
    turns = Turns()
    assert turns.sends(turns.publish) == [1, 1, 1]
    assert turns.sends(turns.publish, turns.publish, turns.publish) == [1, 1, 1]


def test_one_send_with_a_reply() -> None:
    """A reply of the same turn leaves together with it."""
    turns = Turns()
    carrier = turns.world.carriers[1]
    assert turns.sends(turns.publish, lambda: carrier.send(b"1")) == [1, 1, 1]
    assert turns.sends(lambda: carrier.send(b"2"), turns.publish) == [1, 1, 1]
    assert turns.sends(turns.publish) == [1, 1, 1]


def test_one_send_of_two_channels() -> None:
    """Publications of several channels in one turn leave in one send, too."""
    turns = Turns()
    world = turns.world
    world.held[1].subscribe(None, world.carriers[2])
    world.turn()
    world.turn()
    assert turns.sends(turns.publish, lambda: turns.publish(1)) == [1, 1, 1]
    assert turns.sends(lambda: turns.publish(1), turns.publish) == [1, 1, 1]
    assert turns.sends(lambda: turns.publish(1)) == [0, 0, 1]


def test_nobody_is_woken() -> None:
    """Carriers that can send at once are not woken for a publication; others are."""
    turns = Turns()
    world = turns.world
    woken: list[object] = []
    for carrier in world.carriers:
        assert IDirectCarrier.providedBy(carrier)
    type(world.carriers[0]).wake = lambda self, subscription: woken.append(self)
    turns.sends(turns.publish)
    assert woken == []
    world.kernels[1].room = 0
    turns.sends(turns.publish)
    assert woken == []
    turns.sends(turns.publish)
    assert woken == [world.carriers[1]]


@pytest.mark.parametrize("number", [15, 16, 17, 600])
def test_late_publication(number: int) -> None:
    """What comes while a crowd is on its way reaches everybody once, in order."""
    world = World()
    channel = world.held[0]
    more = [world.carriers[0]]
    kernels = [world.kernels[0]]
    for _ in range(number - 1):
        kernel = Kernel()
        transport = Transport(kernel, eager=False)
        more.append(world._connect(kernel, transport, directly=True))
        kernels.append(kernel)
    for carrier in more:
        channel.subscribe(None, carrier)
    for _ in range(5):
        world.turn()
    for kernel in kernels:
        kernel.taken.clear()

    def publish(left: int) -> None:
        channel.publish("message", left)
        if left:
            world.reactor.callLater(0, publish, left - 1)

    publish(3)
    if number > 500:
        assert len(world.factory.drain) == number
    for _ in range(5):
        world.turn()
    expected = b"".join(
        channel.ring.newest()[place].encoded(world.carriers[0].encode) for place in range(4)
    )
    assert {bytes(kernel.taken) for kernel in kernels} == {expected}
    assert channel.ring.readers == 0
