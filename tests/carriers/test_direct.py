"""Bytes that go to the socket at once are the bytes that would have gone through the transport."""

from __future__ import annotations

import socket
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ISSLTransport, ISystemHandle, ITCPTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from oni.carriers import CarrierLimits, WebSocketCarrier, WebSocketCarrierFactory
from oni.carriers._direct import direct_send
from oni.channels import Channels
from oni.protocol import CloseCode
from oni.values import StreamOptions
from tests.carriers import wire


class Owner:
    """Takes what comes."""

    def __init__(self, carrier: WebSocketCarrier) -> None:
        self.ends = 0

    def received(self, frame: bytes) -> None:
        """Take it."""

    def was_read(self) -> None:
        """Take note."""

    def connection_lost(self) -> None:
        """Count."""
        self.ends += 1

    def lost(self, subscription: Any, position: Any) -> None:
        """There are no gaps here."""
        raise AssertionError("a gap")


class Kernel:
    """A socket's other side: takes as many bytes as it has room for, or is broken."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.room = 0
        self.error: type[OSError] | None = None

    def send(self, data: bytes) -> int:
        """Take some."""
        if self.error is not None:
            raise self.error("broken")
        if not self.room:
            raise BlockingIOError
        number = min(self.room, len(data))
        self.room -= number
        self.taken += data[:number]
        return number


class Transport(StringTransport):
    """A TCP transport as Twisted's: what is written waits until the reactor may send it."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.buffer = bytearray()
        self.peak = 0
        self.pull: Any = None
        self.aborted = False
        self.reads = True

    def write(self, data: bytes) -> None:
        """Keep it; a producer that is registered for pulling writes only when asked."""
        self.buffer += data
        self.peak = max(self.peak, len(self.buffer))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take one producer, and ask it at once, as Twisted does."""
        if self.pull is not None:
            raise RuntimeError("there is a producer")
        self.pull = producer
        self.streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Let it go."""
        self.pull = None

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.reads = False

    def resumeProducing(self) -> None:
        """Read."""
        self.reads = True

    def loseConnection(self) -> None:
        """End, when everything is sent."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """End."""
        self.aborted = True

    def pump(self) -> None:
        """Do what the reactor does when the socket can be written to."""
        if not self.buffer:
            return
        try:
            number = self.kernel.send(bytes(self.buffer))
        except BlockingIOError:
            return
        del self.buffer[:number]
        if not self.buffer and self.pull is not None and not self.streaming:
            self.pull.resumeProducing()


class Connection:
    """One websocket over such a transport, sending directly or not."""

    def __init__(self, directly: bool) -> None:
        self.reactor = MemoryReactorClock()
        self.kernel = Kernel()
        self.owner: Any = None
        limits = CarrierLimits(sends_directly=directly, max_pings_per_second=1e6)
        self.factory = WebSocketCarrierFactory(self.own, limits, self.reactor)
        options = StreamOptions(ring_entries=100_000, ring_bytes=2**26)
        self.channels = Channels(options=lambda name: options, reactor=self.reactor)
        self.carrier = self.factory.buildProtocol(None)
        self.transport = Transport(self.kernel)
        self.transport.protocol = self.carrier
        self.carrier.makeConnection(self.transport)
        if directly:
            assert self.carrier._direct is None  # it is no TCP transport
            self.carrier.unregisterProducer()
            self.carrier._direct = self.kernel.send
        self.kernel.room = 10_000
        self.carrier.dataReceived(wire.upgrade())
        while self.transport.buffer:
            self.transport.pump()
        self.response = bytes(self.kernel.taken)
        self.kernel.taken.clear()
        self.kernel.room = 0

    def own(self, carrier: WebSocketCarrier) -> Owner:
        """Make the owner."""
        self.owner = Owner(carrier)
        return self.owner

    def turn(self) -> None:
        """Let a reactor turn pass."""
        self.reactor.advance(0)
        self.transport.pump()

    def finish(self) -> bytes:
        """Let everything leave."""
        self.kernel.room = 2**30
        for _ in range(10_000):
            self.turn()
            if not self.transport.buffer and not len(self.factory.drain):
                break
        return bytes(self.kernel.taken)


SUBSCRIBE, SEND, PUBLISH, PING, ROOM, TURN = range(6)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [SUBSCRIBE, SEND, SEND, PUBLISH, PUBLISH, PUBLISH, PING, ROOM, ROOM, TURN]
        ),
        st.integers(0, 3),
        st.sampled_from([0, 1, 10, 125, 126, 1000, 20_000, 70_000]),
    ),
    max_size=40,
)


def play(connection: Connection, script: list[tuple[int, int, int]]) -> list[bytes]:
    """Act a script. Give the frames that must arrive, by their number."""
    sent: list[bytes] = []
    for kind, which, size in script:
        channel = connection.channels.get(f"c{which}")
        if kind == SUBSCRIBE:
            channel.subscribe(None, connection.carrier)
        elif kind == SEND:
            sent.append(b'"%d"' % len(sent) + b" " * size)
            connection.carrier.send(sent[-1])
        elif kind == PUBLISH:
            channel.publish("message", "x" * size)
        elif kind == PING:
            connection.carrier.dataReceived(wire.frame(b"p" * min(size, 125), wire.PING))
        elif kind == ROOM:
            connection.kernel.room += size
        else:
            connection.turn()
    return sent


@settings(max_examples=150, deadline=None)
@given(steps)
def test_same_frames(script: list[tuple[int, int, int]]) -> None:
    """Whatever the socket takes at once: whole frames, each once, and each kind in order."""
    streams = []
    for directly in (True, False):
        connection = Connection(directly)
        held = [connection.channels.get(f"c{n}") for n in range(4)]
        sent = play(connection, script)
        frames = wire.frames(connection.finish())
        replies = [data for opcode, data in frames if opcode == wire.TEXT and b"push" not in data]
        assert replies == sent
        by_channel: dict[str, list[int]] = {}
        for opcode, data in frames:
            if opcode == wire.TEXT and b'"push"' in data:
                push = wire.messages(wire_text(data))[0]["push"]
                by_channel.setdefault(push["channel"], []).append(push["pub"]["offset"])
        for channel in held:
            offsets = by_channel.get(channel.name, [])
            if offsets:
                assert offsets == list(range(offsets[0], channel.ring.top + 1))
        pongs = [data for opcode, data in frames if opcode == wire.PONG]
        streams.append((replies, by_channel, pongs, connection.response))
    assert streams[0] == streams[1]


def wire_text(payload: bytes) -> bytes:
    """Frame a message again."""
    from oni.carriers import text_frame

    return text_frame(payload)


@settings(max_examples=60, deadline=None)
@given(steps, st.sampled_from([ConnectionResetError, BrokenPipeError, OSError]))
def test_reset(script: list[tuple[int, int, int]], error: type[OSError]) -> None:
    """A broken socket is found by the transport; what was sent until then is a whole beginning."""
    healthy, broken = Connection(True), Connection(True)
    for connection in (healthy, broken):
        connection.channels.get("c0").subscribe(None, connection.carrier)
        play(connection, script)
    broken.kernel.error = error
    broken.carrier.send(b"1")
    broken.reactor.advance(0)
    assert broken.transport.buffer
    taken = bytes(broken.kernel.taken)
    broken.carrier.connectionLost(Failure(ConnectionLost()))
    assert broken.owner.ends == 1
    broken.carrier.send(b"2")
    broken.channels.get("c0").publish("message", 1)
    broken.reactor.advance(0)
    assert broken.channels.get("c0").subscribers == 0
    assert bytes(broken.kernel.taken) == taken
    assert healthy.finish().startswith(taken)


def test_nothing_waits_but_one_flush() -> None:
    """While the socket takes nothing, no more than one flush waits in the transport."""
    connection = Connection(True)
    connection.channels.get("c").subscribe(None, connection.carrier)
    for number in range(200):
        connection.channels.get("c").publish("message", "x" * 1000)
        connection.kernel.room = number
        connection.turn()
    assert connection.transport.peak <= 64 * 1024 + 100
    assert not connection.transport.reads
    frames = wire.frames(connection.finish())
    assert len(frames) == 200
    assert connection.transport.reads


def test_close_behind_what_waits() -> None:
    """A close leaves after what waits already, though the socket has room again."""
    connection = Connection(True)
    connection.kernel.room = 5
    connection.carrier.send(b'"hello"')
    connection.turn()
    connection.kernel.room = 0
    connection.carrier.send(b'"second"')
    connection.carrier.close(CloseCode.SHUTDOWN)
    frames = wire.frames(connection.finish())
    assert [opcode for opcode, _ in frames] == [wire.TEXT, wire.TEXT, wire.CLOSE]
    connection.carrier.dataReceived(wire.close(3001))
    assert connection.transport.pull is None  # or the transport would wait for it for ever
    assert connection.transport.aborted


def test_only_plain_tcp() -> None:
    """The socket is used where bytes on it are what the client gets, and nowhere else."""

    @implementer(ITCPTransport, ISystemHandle)
    class Tcp:
        def __init__(self, handle: object) -> None:
            self.getHandle = lambda: handle

    one, other = socket.socketpair()
    try:
        assert direct_send(Tcp(one)) is None  # it would wait
        one.setblocking(False)
        assert direct_send(Tcp(one)) is not None
        assert direct_send(Tcp(object())) is None
        secure = Tcp(one)
        alsoProvides(secure, ISSLTransport)
        assert direct_send(secure) is None
        assert direct_send(StringTransport()) is None
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("seed", range(3))
def test_long_mixed_load(seed: int) -> None:
    """A long time of everything at once, with a socket that takes a little now and then."""
    random = Random(seed)
    kinds = [SEND, PUBLISH, PUBLISH, PUBLISH, PING, ROOM, ROOM, ROOM, TURN, TURN]
    sizes = [0, 1, 125, 126, 1000, 5000]
    script = [(SUBSCRIBE, n, 0) for n in range(4)]
    script += [
        (random.choice(kinds), random.randrange(4), random.choice(sizes)) for _ in range(1500)
    ]
    connection = Connection(True)
    held = [connection.channels.get(f"c{n}") for n in range(4)]
    sent = play(connection, script)
    frames = wire.frames(connection.finish())
    pushes = sum(b'"push"' in data for opcode, data in frames if opcode == wire.TEXT)
    replies = [data for opcode, data in frames if opcode == wire.TEXT and b'"push"' not in data]
    assert replies == sent
    assert pushes == sum(channel.ring.top for channel in held)
    assert len([1 for kind, _, _ in script if kind == PING]) == len(frames) - pushes - len(sent)
