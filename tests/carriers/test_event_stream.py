"""Server-sent events, as bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oni.carriers import (
    EventStreamCarrier,
    event_of,
    gap_frame,
    position_frame,
    position_of,
)
from oni.carriers._drain import MAX_CARRIERS, drain_on
from oni.channels import Channels
from oni.interfaces import ICarrier
from oni.values import Position, StreamOptions


class FrameTests(SynchronousTestCase):
    """What is written."""

    def test_event(self) -> None:
        """Id, name and data have a line each."""
        self.assertEqual(
            event_of("moved", b'{"x": 1}', Position("e", 7)),
            b'id: e:7\nevent: moved\ndata: {"x": 1}\n\n',
        )

    def test_lines(self) -> None:
        """Data in several lines stays one event."""
        frame = event_of("moved", b'{\r\n"x":\r1\n}', Position("e", 7))
        self.assertEqual(frame.count(b"\n"), 4)
        self.assertNotIn(b"\r", frame)
        data = frame.split(b"data: ")[1]
        self.assertEqual(json.loads(data), {"x": 1})

    def test_position(self) -> None:
        """A position alone is no event."""
        self.assertEqual(position_frame(Position("e", 0)), b"id: e:0\n\n")

    def test_gap(self) -> None:
        """A gap tells after which position it goes on."""
        self.assertEqual(
            gap_frame(Position("e", 7)),
            b'id: e:7\nevent: gap\ndata: {"epoch":"e","offset":7}\n\n',
        )

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), st.integers(0))
    def test_ids(self, epoch: str, offset: int) -> None:
        """What was written as an id is read as the position."""
        read = position_of(f"{epoch}:{offset}")
        if offset < 10**19:
            self.assertEqual(read, Position(epoch, min(offset, 2**63 - 1)))

    def test_bad_ids(self) -> None:
        """What is no id is a position that no stream has."""
        for text in ("", "e", "e:", ":7", "e:x", "e:-1", "e:٣", "e:" + "9" * 5000):
            self.assertEqual(position_of(text), Position("", 0), text)


class Request:
    """A request that remembers what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.finished = self.aborted = False
        self.producer: Any = None
        self.transport = self

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self.headers[name] = value

    def write(self, data: bytes) -> None:
        """Take data."""
        self.written.append(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take a producer."""
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Let it go."""
        self.producer = None

    def finish(self) -> None:
        """End."""
        self.finished = True

    def abortConnection(self) -> None:
        """End at once."""
        self.aborted = True

    def take(self) -> bytes:
        """Give what was written since the last time."""
        data = b"".join(self.written)
        self.written.clear()
        return data


class CarrierTests(SynchronousTestCase):
    """Tests of :class:`oni.carriers.EventStreamCarrier`."""

    def setUp(self) -> None:
        """Begin a response for a channel."""
        self.clock = Clock()
        options = StreamOptions(ring_entries=4)
        self.channels = Channels(options=lambda name: options, reactor=self.clock)
        self.channel = self.channels.get("a")
        self.request = Request()
        self.carrier = EventStreamCarrier(self.request, self.clock)
        verifyObject(ICarrier, self.carrier)
        attached = self.successResultOf(self.channel.attach(self.carrier))
        self.subscription = attached.subscription
        self.carrier.begin_response()
        self.subscription.begin()
        self.run_turns()
        self.assertEqual(self.request.take(), b":\n\n")

    def run_turns(self) -> None:
        """Let some turns of the reactor pass."""
        for _ in range(5):
            self.clock.advance(0)

    def publish(self, *numbers: int) -> bytes:
        """Publish, and give what was written then."""
        for number in numbers:
            self.successResultOf(self.channel.publish("message", number))
        self.run_turns()
        return self.request.take()

    def test_deliver(self) -> None:
        """Publications are written when the turn is over, in order."""
        self.successResultOf(self.channel.publish("message", 1))
        self.assertEqual(self.request.take(), b"")
        self.assertEqual(self.publish(2).count(b"event: message"), 2)
        self.assertEqual(self.request.headers[b"content-type"], b"text/event-stream")

    def test_pause(self) -> None:
        """Nothing is taken while the transport pauses; what is gone then is told in its place."""
        self.request.producer.pauseProducing()
        self.assertEqual(self.publish(1, 2), b"")
        self.request.producer.resumeProducing()
        self.run_turns()
        self.assertEqual(self.request.take().count(b"event: message"), 2)
        self.request.producer.pauseProducing()
        self.request.producer.pauseProducing()
        self.publish(*range(10))
        self.request.producer.resumeProducing()
        self.run_turns()
        events = [line for line in self.request.take().split(b"\n") if line[:6] == b"event:"]
        self.assertEqual(events[0], b"event: gap")
        self.assertEqual(set(events[1:]), {b"event: message"})

    def test_end(self) -> None:
        """Ended, it writes nothing more; again changes nothing."""
        self.successResultOf(self.channel.publish("message", 1))
        self.carrier.end_response()
        self.carrier.end_response()
        self.assertTrue(self.request.finished)
        self.assertIsNone(self.request.producer)
        self.run_turns()
        self.carrier.write_comment()
        self.assertEqual(self.request.take(), b"")

    def test_gone(self) -> None:
        """When the transport stops it, nothing is taken any more."""
        self.request.producer.stopProducing()
        self.assertEqual(self.publish(1), b"")
        self.carrier.end_response()
        self.assertFalse(self.request.finished)

    def test_turns(self) -> None:
        """Of very many some are written to in a turn of the reactor, the others in the next."""
        drain = drain_on(self.clock)
        turns: list[int] = []
        for _ in range(MAX_CARRIERS + 10):
            request = Request()
            request.write = lambda data: turns.append(drain.turns)  # type: ignore[method-assign]
            carrier = EventStreamCarrier(request, self.clock)
            carrier.begin_response()
            self.successResultOf(self.channel.subscribe(None, carrier))
        self.run_turns()
        turns.clear()
        self.publish(1)
        first = min(turns)
        self.assertEqual(turns.count(first), MAX_CARRIERS - 1)  # one is the test's own
        self.assertEqual(turns.count(first + 1), 11)
        self.assertEqual(len(turns), MAX_CARRIERS + 10)

    def test_fault(self) -> None:
        """What cannot be written to is cut off, and holds up nobody."""
        other = Request()
        carrier = EventStreamCarrier(other, self.clock)
        carrier.begin_response()
        self.successResultOf(self.channel.subscribe(None, carrier))
        self.run_turns()
        other.take()

        def fail(data: bytes) -> None:
            raise RuntimeError("no")

        self.request.write = fail  # type: ignore[method-assign]
        self.successResultOf(self.channel.publish("message", 1))
        self.run_turns()
        self.assertTrue(self.request.aborted)
        self.assertFalse(self.carrier.is_open)
        self.assertIn(b"event: message", other.take())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_overdue(self) -> None:
        """A client that lags too far behind is cut off."""
        self.carrier.overdue(self.subscription)
        self.assertTrue(self.request.aborted)
