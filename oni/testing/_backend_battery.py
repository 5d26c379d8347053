"""What every backend of channels must do, as tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, cast
from uuid import uuid4

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni.interfaces import IBackendSink, IChannelBackend, IEntry
from oni.values import ClientInfo, Draft, Page, Position, PresenceStats, StreamOptions

__all__ = ["BackendBattery", "RecordingSink", "SynchronousBackendBattery"]

_KEEPS = StreamOptions(history_size=10, history_ttl=60.0)
_KEEPS_NONE = StreamOptions()
_PAUSES = 2000  # so often is waited for what a backend shall report


@implementer(IBackendSink)
class RecordingSink:
    """Keeps what a backend reports.

    Attributes:
        entries: What was received, by channel.
        losses: What was said to be lost.
        is_up: What was said last; None before.
        messages: The control messages.
        moves: Who has come (True) and gone (False), with the channel.
    """

    def __init__(self) -> None:
        self.entries: dict[str, list[IEntry]] = {}
        self.losses: list[str | None] = []
        self.is_up: bool | None = None
        self.messages: list[bytes] = []
        self.moves: list[tuple[str, bool, ClientInfo]] = []

    def received(self, channel: str, entries: Sequence[IEntry]) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.entries.setdefault(channel, []).extend(entries)

    def lost(self, channel: str | None, reason: str) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.losses.append(channel)

    def up(self) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.is_up = True

    def down(self) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.is_up = False

    def controlled(self, message: bytes) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.messages.append(message)

    def joined(self, channel: str, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.moves.append((channel, True, info))

    def left(self, channel: str, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self.moves.append((channel, False, info))

    def offsets(self, channel: str) -> list[int]:
        """Give the offsets that were received of a channel."""
        return [entry.position.offset for entry in self.entries.get(channel, ())]


def _case(
    case: Callable[[Any], Coroutine[Deferred[Any], Any, None]],
) -> Callable[[Any], Any]:
    """Make a test of a coroutine, whichever kind of test case runs it."""

    @wraps(case)
    def test(self: Any) -> Any:
        return self.run_case(self.started(case))

    return test


class BackendBattery:
    """Mix it into a test case, and say how a backend is made.

    With a backend that answers by itself, use a ``twisted.trial.unittest.TestCase`` and implement
    :meth:`run_case`, :meth:`pause` and :meth:`pass_time`; with one on a test's clock,
    :class:`SynchronousBackendBattery`. Channels have new names in every test, so that tests can
    share a server. Each test begins with one backend, ``self.backend``, that reports to
    ``self.sink``.
    """

    backend: IChannelBackend
    sink: RecordingSink
    channel: str
    other: str

    def make_backend(self) -> IChannelBackend:
        """Make a backend."""
        raise NotImplementedError

    def run_case(self, case: Coroutine[Deferred[Any], Any, None]) -> Any:
        """Run a coroutine to its end: return a Deferred, or when it has ended."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Let a backend do something."""
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, for what expires."""
        raise NotImplementedError

    async def started(self, case: Callable[[Any], Coroutine[Deferred[Any], Any, None]]) -> None:
        """Run a case with a backend that is started, and stopped afterwards."""
        self.backend = self.make_backend()
        self.sink = RecordingSink()
        self.channel, self.other = uuid4().hex, uuid4().hex
        await self.backend.start(self.sink)
        held = [self.backend.hold(name) for name in (self.channel, self.other)]
        try:
            await case(self)
        finally:
            await self.backend.stop()
            del held

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

    async def publish(
        self, number: int, options: StreamOptions = _KEEPS, channel: str | None = None
    ) -> list[Position]:
        """Publish 1, 2, 3, and so on."""
        return [
            await self.backend.publish(channel or self.channel, _draft(n), options)
            for n in range(1, number + 1)
        ]

    # --- Publish and follow ---------------------------------------------------------------------

    @_case
    async def test_interface(self) -> None:
        """It is a backend, and says that it is up."""
        verifyObject(IChannelBackend, self.backend)
        await self.until(lambda: self.sink.is_up)
        assert all(isinstance(n, int) for n in self.backend.statistics().values())

    @_case
    async def test_positions_grow(self) -> None:
        """Offsets grow within one epoch, and the newest is the top."""
        positions = await self.publish(3)
        offsets = [position.offset for position in positions]
        assert offsets == sorted(set(offsets)) and offsets[0] > 0, offsets
        assert len({position.epoch for position in positions}) == 1
        assert await self.backend.top(self.channel) == positions[-1]

    @_case
    async def test_empty(self) -> None:
        """A channel without publications is at offset 0, and has an epoch."""
        position = await self.backend.follow(self.channel)
        assert position.offset == 0 and position.epoch
        page = await self.backend.read(self.channel, None, None)
        assert (list(page.entries), page.first_prev, page.top) == ([], 0, position)

    @_case
    async def test_epochs_differ(self) -> None:
        """No two channels have the same epoch."""
        await self.publish(1)
        await self.publish(1, channel=self.other)
        mine, other = await self.backend.top(self.channel), await self.backend.top(self.other)
        assert mine.epoch != other.epoch

    @_case
    async def test_feed(self) -> None:
        """What comes after the position of follow is received, linked by ``prev``."""
        await self.publish(2)
        position = await self.backend.follow(self.channel)
        positions = await self.publish(3)
        await self.until(lambda: len(self.sink.offsets(self.channel)) >= 3)
        entries = [
            e for e in self.sink.entries[self.channel] if e.position.offset > position.offset
        ]
        assert [entry.position for entry in entries] == positions
        prevs = [position.offset, *(p.offset for p in positions[:-1])]
        assert [entry.prev for entry in entries] == prevs

    @_case
    async def test_first_link(self) -> None:
        """The first publication of a stream has none before it."""
        await self.backend.follow(self.channel)
        await self.publish(1)
        await self.until(lambda: self.sink.offsets(self.channel))
        assert self.sink.entries[self.channel][0].prev == 0

    @_case
    async def test_whole(self) -> None:
        """A publication comes as it was published, from the feed and from history."""
        await self.backend.follow(self.channel)
        info = ClientInfo("bob", "c1", {"a": [1]}, "x")
        draft = Draft("a ä", b'{"n": "\xc3\xa4\\n"}', {"t": "ö", "u": ""}, info, "c1")
        position = await self.backend.publish(self.channel, draft, _KEEPS)
        await self.until(lambda: self.sink.offsets(self.channel))
        page = await self.backend.read(self.channel, None, None)
        for entry in (self.sink.entries[self.channel][0], page.entries[0]):
            assert (entry.channel, entry.position) == (self.channel, position)
            assert (entry.event, entry.data) == (draft.event, draft.data)
            assert (dict(entry.tags), entry.info) == (draft.tags, info)
            assert entry.exclude == "c1"

    @_case
    async def test_others_are_not_received(self) -> None:
        """What is not followed, or not any more, is not received."""
        await self.backend.follow(self.channel)
        await self.backend.follow(self.other)
        await self.backend.unfollow(self.other)
        await self.backend.unfollow(uuid4().hex)
        await self.publish(1, channel=self.other)
        await self.publish(1)
        await self.until(lambda: self.sink.offsets(self.channel))
        await self.quiet()
        assert self.sink.offsets(self.other) == []

    @_case
    async def test_followed_again(self) -> None:
        """Following again gives the position of now, and nothing is received twice anew."""
        await self.backend.follow(self.channel)
        positions = await self.publish(2)
        assert await self.backend.follow(self.channel) == positions[-1]
        await self.publish(1)
        await self.until(lambda: len(self.sink.offsets(self.channel)) >= 3)
        await self.quiet()
        offsets = self.sink.offsets(self.channel)
        assert offsets == sorted(set(offsets))

    @_case
    async def test_at_once(self) -> None:
        """Publications that do not wait for each other have an order, one for all."""
        await self.backend.follow(self.channel)
        answers = [self.backend.publish(self.channel, _draft(n), _KEEPS) for n in range(20)]
        positions = await gatherResults(answers)
        await self.until(lambda: len(self.sink.offsets(self.channel)) >= 20)
        entries = self.sink.entries[self.channel]
        offsets = [entry.position.offset for entry in entries]
        assert offsets == sorted(position.offset for position in positions)
        assert [entry.prev for entry in entries] == [0, *offsets[:-1]]
        by_offset = {entry.position.offset: entry.data for entry in entries}
        answered = [by_offset[position.offset] for position in positions]
        assert answered == [b"%d" % n for n in range(20)]

    @_case
    async def test_idempotency(self) -> None:
        """A key publishes once in its channel, and is answered with that position."""
        await self.backend.follow(self.channel)
        keyed = [
            await self.backend.publish(self.channel, _draft(n), _KEEPS, key)
            for n, key in ((1, "a"), (2, "a"), (3, "b"), (4, "a"))
        ]
        other = await self.backend.publish(self.other, _draft(1), _KEEPS, "a")
        assert keyed[0] == keyed[1] == keyed[3] != keyed[2]
        assert other.epoch != keyed[0].epoch
        page = await self.backend.read(self.channel, None, None)
        assert _numbers(page) == [1, 3]
        await self.until(lambda: len(self.sink.offsets(self.channel)) >= 2)
        await self.quiet()
        assert len(self.sink.offsets(self.channel)) == 2

    # --- History --------------------------------------------------------------------------------

    @_case
    async def test_read_forward(self) -> None:
        """History is read from a position on, page by page, without a gap."""
        positions = await self.publish(7)
        since, numbers = Position(positions[0].epoch, 0), []
        while True:
            page = await self.backend.read(self.channel, since, 3)
            assert len(page.entries) <= 3 and page.top == positions[-1]
            assert page.first_prev <= since.offset
            if not page.entries:
                break
            numbers += _numbers(page)
            since = page.entries[-1].position
        assert numbers == [1, 2, 3, 4, 5, 6, 7]
        page = await self.backend.read(self.channel, positions[4], None)
        assert _numbers(page) == [6, 7] and page.first_prev == positions[4].offset

    @_case
    async def test_read_backward(self) -> None:
        """History is read back from the newest, or from before a position."""
        positions = await self.publish(5)
        page = await self.backend.read(self.channel, None, 2, True)
        assert _numbers(page) == [5, 4] and page.first_prev == positions[2].offset
        page = await self.backend.read(self.channel, positions[2], None, True)
        assert _numbers(page) == [2, 1] and page.first_prev == 0

    @_case
    async def test_history_size(self) -> None:
        """The oldest go, and the page tells that they were there."""
        positions = await self.publish(13)
        page = await self.backend.read(self.channel, Position(positions[0].epoch, 0), None)
        assert _numbers(page) == list(range(4, 14))
        assert page.first_prev == positions[2].offset

    @_case
    async def test_no_history(self) -> None:
        """Where nothing is kept, the page tells that something was there."""
        positions = await self.publish(2, _KEEPS_NONE)
        page = await self.backend.read(self.channel, positions[0], None)
        assert (list(page.entries), page.top) == ([], positions[-1])
        assert page.first_prev == positions[-1].offset

    @_case
    async def test_future(self) -> None:
        """From a position that is not reached yet there is nothing to read."""
        (position,) = await self.publish(1)
        ahead = Position(position.epoch, position.offset + 100)
        page = await self.backend.read(self.channel, ahead, None)
        assert (list(page.entries), page.top) == ([], position)

    @_case
    async def test_trim(self) -> None:
        """What is trimmed is gone; epoch and offsets go on."""
        positions = await self.publish(3)
        await self.backend.trim(self.channel)
        await self.backend.trim(self.other)
        page = await self.backend.read(self.channel, positions[0], None)
        assert (list(page.entries), page.top) == ([], positions[-1])
        assert page.first_prev == positions[-1].offset
        (position,) = await self.publish(1)
        assert position.epoch == positions[0].epoch and position.offset > positions[-1].offset
        page = await self.backend.read(self.channel, positions[0], None)
        assert _numbers(page) == [1] and page.first_prev == positions[-1].offset

    @_case
    async def test_expiry(self) -> None:
        """History goes some time after the last publication; a gap cannot be overlooked."""
        brief = StreamOptions(history_size=10, history_ttl=1.0)
        positions = await self.publish(2, brief)
        await self.pass_time(2.0)
        page = await self.backend.read(self.channel, positions[0], None)
        assert list(page.entries) == []
        assert page.top.epoch != positions[0].epoch or page.first_prev > positions[0].offset

    # --- Presence and nodes ---------------------------------------------------------------------

    @_case
    async def test_presence(self) -> None:
        """Who entered is present until it leaves, and the followers hear of both, once."""
        await self.backend.follow(self.channel)
        one, two = ClientInfo("bob", "c1", {"a": 1}), ClientInfo("bob", "c2")
        for info in (one, two, one):
            await self.backend.enter(self.channel, info, 60.0)
        assert await self.backend.presence(self.channel) == {"c1": one, "c2": two}
        assert await self.backend.presence_stats(self.channel) == PresenceStats(2, 1)
        await self.backend.leave(self.channel, "c1")
        await self.backend.leave(self.channel, "c1")
        await self.backend.leave(self.other, "c1")
        assert await self.backend.presence(self.channel) == {"c2": two}
        assert await self.backend.presence(self.other) == {}
        assert await self.backend.presence_stats(self.other) == PresenceStats(0, 0)
        await self.until(lambda: len(self.sink.moves) >= 3)
        await self.quiet()
        name = self.channel
        assert self.sink.moves == [(name, True, one), (name, True, two), (name, False, one)]

    @_case
    async def test_leases(self) -> None:
        """A lease that is not renewed ends, and the followers hear of it."""
        await self.backend.follow(self.channel)
        one, two = ClientInfo("bob", "c1"), ClientInfo("eve", "c2")
        await self.backend.enter(self.channel, one, 2.0)
        await self.backend.enter(self.channel, two, 2.0)
        await self.pass_time(1.5)
        await self.backend.enter(self.channel, two, 2.0)
        await self.pass_time(1.0)
        assert await self.backend.presence(self.channel) == {"c2": two}
        await self.until(lambda: (self.channel, False, one) in self.sink.moves)
        assert (self.channel, False, two) not in self.sink.moves

    @_case
    async def test_control(self) -> None:
        """Control messages reach this node, too; and it is not deaf."""
        await self.backend.control(b"\x00hello")
        await self.until(lambda: self.sink.messages)
        assert self.sink.messages == [b"\x00hello"]
        probe = self.backend.probe()
        await self.until(lambda: probe.called)
        await probe


class SynchronousBackendBattery(BackendBattery):
    """The battery for a backend on a test's clock, with a ``SynchronousTestCase``."""

    def settle(self) -> None:
        """Let the backend give its answers, if it does not do so at once."""

    def run_case(self, case: Coroutine[Deferred[Any], Any, None]) -> Any:
        """Run a coroutine to its end."""
        done = Deferred.fromCoroutine(case)
        for _ in range(_PAUSES):
            if done.called:
                break
            self.settle()
        cast(SynchronousTestCase, self).successResultOf(done)

    async def pause(self) -> None:
        """Let the backend do something."""
        self.settle()


def _draft(number: int) -> Draft:
    return Draft("message", b"%d" % number)


def _numbers(page: Page) -> list[int]:
    return [int(entry.data) for entry in page.entries]
