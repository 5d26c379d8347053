"""Channels in the memory of this process: the backend that is always there."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from oni._clock import Clock
from oni.channels._entry import Entry
from oni.interfaces import IBackendSink, IChannelBackend
from oni.values import ClientInfo, Draft, Page, Position, PresenceStats, StreamOptions

__all__ = ["MemoryBackend"]

_PAGE = 1000  # publications in a page, at most
_PAGE_BYTES = 1024 * 1024  # of data in a page, unless one publication has more
_KEY_TTL = 300.0  # seconds for which an idempotency key is known
_MAX_KEYS = 100_000
_TICK = 0.25  # seconds between two looks at what has expired, at least


def _new_epoch() -> str:
    return secrets.token_urlsafe(6)


class _Stream:
    """One life of one channel."""

    __slots__ = (
        "__weakref__",
        "drafts",
        "due",
        "epoch",
        "expires",
        "name",
        "offsets",
        "present",
        "top",
    )

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.top = 0
        self.offsets: deque[int] = deque()
        self.drafts: deque[Draft] = deque()
        self.expires = 0.0
        self.present: dict[str, tuple[ClientInfo, float]] = {}
        self.due: float | None = None  # when it is looked at

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.top)

    def entry(self, offset: int, draft: Draft) -> Entry:
        return Entry(self.name, draft, Position(self.epoch, offset), offset - 1)


@implementer(IChannelBackend)
class MemoryBackend:
    """Keeps streams in this process: every call is answered within itself.

    A stream lives as long as it is followed, held, or has history or presence; the next one of
    the same name has another epoch. History is bounded: when there is too much of it, the oldest
    goes of the channel that was published to longest ago. So are idempotency keys.
    """

    def __init__(
        self,
        reactor: IReactorTime | None = None,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        new_epoch: Callable[[], str] = _new_epoch,
    ) -> None:
        """Begin without streams.

        Args:
            reactor: The clock; the global reactor, when first needed, if None.
            max_bytes: Bytes of data that all history may have together.
            new_epoch: Gives each stream's epoch, never the same twice.
        """
        self._clock = Clock(reactor)
        self._max_bytes = max_bytes
        self._new_epoch = new_epoch
        self._sink: IBackendSink | None = None
        self._streams: WeakValueDictionary[str, _Stream] = WeakValueDictionary()
        self._followed: dict[str, _Stream] = {}
        self._kept: OrderedDict[str, _Stream] = OrderedDict()
        self._present: dict[str, _Stream] = {}
        self._bytes = 0
        self._trimmed = 0
        self._keys: OrderedDict[tuple[str, str], tuple[Position, float]] = OrderedDict()
        self._due: list[tuple[float, str]] = []
        self._timer: IDelayedCall | None = None

    @classmethod
    def from_url(cls, url: str, reactor: IReactorTime | None = None) -> MemoryBackend:
        """Make one for ``memory:``."""
        return cls(reactor)

    def start(self, sink: IBackendSink) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self._sink = sink
        sink.up()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`. History and presence are forgotten."""
        self._sink = None
        for stream in tuple(self._streams.values()):  # one that is held goes on after a start
            self._drop(stream, len(stream.offsets))
            stream.present.clear()
            stream.due = None
        self._followed.clear()
        self._present.clear()
        self._keys.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return succeed(None)

    def statistics(self) -> Mapping[str, int]:
        """Give the gauges ``streams``, ``history_bytes``, ``keys``, the counter ``trimmed``."""
        return {
            "streams": len(self._streams),
            "history_bytes": self._bytes,
            "keys": len(self._keys),
            "trimmed": self._trimmed,
        }

    # --- The feed -------------------------------------------------------------------------------

    def hold(self, channel: str) -> object:
        """See :class:`oni.interfaces.IChannelBackend`. It is the stream itself."""
        return self._stream(channel)

    def follow(self, channel: str) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        stream = self._followed[channel] = self._stream(channel)
        return succeed(stream.position)

    def unfollow(self, channel: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self._followed.pop(channel, None)
        return succeed(None)

    def publish(
        self,
        channel: str,
        draft: Draft,
        options: StreamOptions,
        idempotency_key: str | None = None,
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        if idempotency_key is not None:
            known = self._known(channel, idempotency_key)
            if known is not None:
                return succeed(known)
        stream = self._stream(channel)
        stream.top += 1
        entry = stream.entry(stream.top, draft)
        if options.keeps_history:
            self._keep(stream, draft, options)
        if idempotency_key is not None:
            self._remember(channel, idempotency_key, entry.position)
        if channel in self._followed and self._sink is not None:
            self._sink.received(channel, (entry,))
        return succeed(entry.position)

    # --- History --------------------------------------------------------------------------------

    def read(
        self, channel: str, since: Position | None, limit: int | None, reverse: bool = False
    ) -> Deferred[Page]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        stream = self._stream(channel)
        self._forget_expired(stream)
        offsets = stream.offsets
        if since is None:
            start, end = 0, len(offsets)
        elif reverse:
            start, end = 0, bisect_left(offsets, since.offset)
        else:
            start, end = bisect_right(offsets, since.offset), len(offsets)
        most = min(end - start, _PAGE if limit is None else min(limit, _PAGE))
        entries: list[Entry] = []
        size = 0
        for n in range(most):
            index = end - 1 - n if reverse else start + n
            draft = stream.drafts[index]
            size += len(draft.data)
            if entries and size > _PAGE_BYTES:
                break
            entries.append(stream.entry(offsets[index], draft))
        if entries:
            first_prev = entries[-1 if reverse else 0].prev
        else:
            first_prev = min(since.offset - 1, stream.top) if reverse and since else stream.top
        return succeed(Page(tuple(entries), max(first_prev, 0), stream.position))

    def top(self, channel: str) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return succeed(self._stream(channel).position)

    def trim(self, channel: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        stream = self._streams.get(channel)
        if stream is not None:
            self._drop(stream, len(stream.offsets))
        return succeed(None)

    def _keep(self, stream: _Stream, draft: Draft, options: StreamOptions) -> None:
        self._forget_expired(stream)
        stream.expires = self._clock.seconds() + options.history_ttl
        stream.offsets.append(stream.top)
        stream.drafts.append(draft)
        self._bytes += len(draft.data)
        self._kept[stream.name] = stream
        self._kept.move_to_end(stream.name)
        self._look_at(stream, stream.expires)
        self._drop(stream, len(stream.offsets) - options.history_size)
        while self._bytes > self._max_bytes:
            self._trimmed += 1
            self._drop(next(iter(self._kept.values())), 1)

    def _drop(self, stream: _Stream, number: int) -> None:
        for _ in range(number):
            stream.offsets.popleft()
            self._bytes -= len(stream.drafts.popleft().data)
        if not stream.offsets:
            self._kept.pop(stream.name, None)

    def _forget_expired(self, stream: _Stream) -> None:
        if stream.offsets and stream.expires <= self._clock.seconds():
            self._drop(stream, len(stream.offsets))

    # --- Presence -------------------------------------------------------------------------------

    def enter(self, channel: str, info: ClientInfo, ttl: float) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        stream = self._stream(channel)
        is_new = info.client not in stream.present
        until = self._clock.seconds() + ttl
        stream.present[info.client] = (info, until)
        self._present[channel] = stream
        self._look_at(stream, until)
        if is_new and channel in self._followed and self._sink is not None:
            self._sink.joined(channel, info)
        return succeed(None)

    def leave(self, channel: str, client: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        stream = self._streams.get(channel)
        if stream is not None:
            self._leave(stream, client)
        return succeed(None)

    def presence(self, channel: str) -> Deferred[Mapping[str, ClientInfo]]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return succeed(self._who(channel))

    def presence_stats(self, channel: str) -> Deferred[PresenceStats]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        who = self._who(channel)
        return succeed(PresenceStats(len(who), len({info.user for info in who.values()})))

    def _who(self, channel: str) -> dict[str, ClientInfo]:
        stream = self._present.get(channel)
        if stream is None:
            return {}
        now = self._clock.seconds()
        return {client: info for client, (info, until) in stream.present.items() if until > now}

    def _leave(self, stream: _Stream, client: str) -> None:
        lease = stream.present.pop(client, None)
        if not stream.present:
            self._present.pop(stream.name, None)
        if lease is not None and stream.name in self._followed and self._sink is not None:
            self._sink.left(stream.name, lease[0])

    # --- Nodes ----------------------------------------------------------------------------------

    def control(self, message: bytes) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`. There is this node only."""
        if self._sink is not None:
            self._sink.controlled(message)
        return succeed(None)

    def probe(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`. It is never deaf."""
        return succeed(None)

    # --- What expires ---------------------------------------------------------------------------

    def _stream(self, channel: str) -> _Stream:
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = _Stream(channel, self._new_epoch())
        return stream

    def _known(self, channel: str, key: str) -> Position | None:
        now = self._clock.seconds()
        for other in tuple(islice(self._keys, 2)):  # two go for each that comes
            if self._keys[other][1] <= now:
                del self._keys[other]
        known = self._keys.get((channel, key))
        return known[0] if known is not None and known[1] > now else None

    def _remember(self, channel: str, key: str, position: Position) -> None:
        self._keys[channel, key] = (position, self._clock.seconds() + _KEY_TTL)
        self._keys.move_to_end((channel, key))
        if len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)

    def _look_at(self, stream: _Stream, when: float) -> None:
        """Look at a stream then, or before."""
        if stream.due is None or when < stream.due:
            stream.due = when
            heappush(self._due, (when, stream.name))
            self._sleep()

    def _sleep(self) -> None:
        if self._timer is None and self._due:
            delay = max(self._due[0][0] - self._clock.seconds(), _TICK)
            self._timer = self._clock.call_later(delay, self._expire)
        elif self._timer is not None and self._due[0][0] < self._timer.getTime() - _TICK:
            self._timer.cancel()
            self._timer = None
            self._sleep()

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._due and self._due[0][0] <= now:
            when, name = heappop(self._due)
            stream = self._streams.get(name)
            if stream is not None and stream.due == when:
                stream.due = None
                self._look(stream, now)
        self._sleep()

    def _look(self, stream: _Stream, now: float) -> None:
        self._forget_expired(stream)
        for client in [c for c, (_, until) in stream.present.items() if until <= now]:
            self._leave(stream, client)
        ends: list[Any] = [until for _, until in stream.present.values()]
        if stream.offsets:
            ends.append(stream.expires)
        if ends:
            self._look_at(stream, min(ends))
