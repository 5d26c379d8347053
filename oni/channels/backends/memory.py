"""Channels in the memory of this process: the backend that is always there."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oni._clock import Clock
from oni.channels._entry import Entry
from oni.channels.backends._agenda import Agenda
from oni.channels.backends._keys import Keys
from oni.channels.backends._stream import Stream
from oni.interfaces import IBackendSink, IChannelBackend
from oni.values import ClientInfo, Draft, Page, Position, PresenceStats, StreamOptions

__all__ = ["MemoryBackend"]


def _new_epoch() -> str:
    return secrets.token_urlsafe(6)


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
        next_offset: Callable[[int], int] | None = None,
    ) -> None:
        """Begin without streams.

        Args:
            reactor: The clock; the global reactor, when first needed, if None.
            max_bytes: Bytes of data that all history may have together.
            new_epoch: Gives each stream's epoch, never the same twice.
            next_offset: Gives the offset that follows another one, as media do that leave
                numbers out; None: the next number.
        """
        self._clock = Clock(reactor)
        self._max_bytes = max_bytes
        self._new_epoch = new_epoch
        self._next_offset = next_offset
        self._sink: IBackendSink | None = None
        self._streams: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._followed: dict[str, Stream] = {}
        self._kept: OrderedDict[str, Stream] = OrderedDict()
        self._present: dict[str, Stream] = {}
        self._bytes = 0
        self._trimmed = self._suppressed = 0
        self._keys = Keys(self._clock)
        self._agenda = Agenda(self._clock, self._look)

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
        self._agenda.clear()
        return succeed(None)

    def statistics(self) -> Mapping[str, int]:
        """Give the gauges ``streams``, ``history_bytes``, ``keys``, and counters.

        ``trimmed`` for want of memory, and ``suppressed``, see
        :meth:`oni.interfaces.IChannelBackend.statistics`.
        """
        return {
            "streams": len(self._streams),
            "history_bytes": self._bytes,
            "keys": len(self._keys),
            "trimmed": self._trimmed,
            "suppressed": self._suppressed,
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
            known = self._keys.position(channel, idempotency_key)
            if known is not None:
                self._suppressed += 1
                return succeed(known)
        stream = self._stream(channel)
        following = self._next_offset
        offset = stream.top + 1 if following is None else following(stream.top)
        entry = stream.add(draft, offset)
        if options.keeps_history:
            self._keep(stream, entry, options)
        if idempotency_key is not None:
            self._keys.remember(channel, idempotency_key, entry.position)
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
        return succeed(stream.page(since, limit, reverse))

    def top(self, channel: str) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return succeed(self._stream(channel).position)

    def trim(self, channel: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        stream = self._streams.get(channel)
        if stream is not None:
            self._drop(stream, len(stream.offsets))
        return succeed(None)

    def _keep(self, stream: Stream, entry: Entry, options: StreamOptions) -> None:
        self._forget_expired(stream)
        stream.expires = self._clock.seconds() + options.history_ttl
        stream.keep(entry)
        self._bytes += len(entry.data)
        self._kept[stream.name] = stream
        self._kept.move_to_end(stream.name)
        self._look_at(stream, stream.expires)
        self._drop(stream, len(stream.offsets) - options.history_size)
        while self._bytes > self._max_bytes:
            self._trimmed += 1
            self._drop(next(iter(self._kept.values())), 1)

    def _drop(self, stream: Stream, number: int) -> None:
        for _ in range(number):
            self._bytes -= stream.drop_oldest()
        if not stream.offsets:
            self._kept.pop(stream.name, None)

    def _forget_expired(self, stream: Stream) -> None:
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

    def _leave(self, stream: Stream, client: str) -> None:
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

    def _stream(self, channel: str) -> Stream:
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = Stream(channel, self._new_epoch())
        return stream

    def _look_at(self, stream: Stream, when: float) -> None:
        """Look at a stream then, or before."""
        if stream.due is None or when < stream.due:
            stream.due = when
            self._agenda.note(stream.name, when)

    def _look(self, name: str, when: float) -> None:
        stream = self._streams.get(name)
        if stream is None or stream.due != when:
            return
        stream.due = None
        now = self._clock.seconds()
        self._forget_expired(stream)
        for client in [c for c, (_, until) in stream.present.items() if until <= now]:
            self._leave(stream, client)
        ends: list[Any] = [until for _, until in stream.present.values()]
        if stream.offsets:
            ends.append(stream.expires)
        if ends:
            self._look_at(stream, min(ends))
