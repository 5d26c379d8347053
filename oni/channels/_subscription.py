"""A subscription: a cursor in a channel's stream, and what its carrier wants to hear."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from oni.channels._latest import Latest
from oni.channels._ring import join
from oni.interfaces import ICarrier, IDirectCarrier, ISubscription
from oni.values import Position

if TYPE_CHECKING:
    from oni.channels._channel import Channel
    from oni.channels._joining import Joining
    from oni.interfaces import IEntry

__all__ = ["Subscription"]

_log = Logger()


@implementer(ISubscription)
class Subscription:
    """Where a carrier stands in a channel. It keeps an offset and no publications.

    It is ``asleep`` when it has taken everything: then the next publication wakes its carrier.

    Attributes:
        channel_object: The channel.
        carrier: The carrier.
        client: The client's id, empty for none.
        offset: The last publication that was taken or passed over.
        life: The life of the ring in which ``offset`` means something.
        events: The names of the events it hears; None among them: all.
        wants: Says which publications it hears; None: all.
        is_direct: Whether its carrier is an :class:`oni.interfaces.IDirectCarrier`.
        is_plain: Whether it hears every publication as it comes, until it is closed.
        join_leave: Whether it hears who enters and leaves.
        begun: Whether publications flow.
        closed: Whether it has ended.
        asleep: See above.
        joining: The calls that are being answered, None when there are none.
    """

    __slots__ = (
        "_encode",
        "_latest",
        "asleep",
        "begun",
        "carrier",
        "channel_object",
        "client",
        "closed",
        "events",
        "is_direct",
        "is_plain",
        "join_leave",
        "joining",
        "life",
        "offset",
        "wants",
    )

    def __init__(
        self,
        channel: Channel,
        carrier: ICarrier,
        events: set[str | None],
        wants: Callable[[IEntry], bool] | None = None,
        client: str = "",
        join_leave: bool = False,
    ) -> None:
        self.channel_object = channel
        self.carrier = carrier
        self.is_direct = bool(IDirectCarrier.providedBy(carrier))
        self._encode: Callable[[IEntry], bytes] = carrier.encode
        self.client = client
        self.wants = wants
        self.join_leave = join_leave
        self.offset = 0
        self.life = -1
        self.begun = False
        self.closed = False
        self.asleep = False
        self.joining: Joining | None = None
        self._latest = channel.options.behind == "latest"
        self.hear(events)

    def __repr__(self) -> str:
        """Name it."""
        return f"<Subscription {self.channel!r} at {self.offset}>"

    @property
    def channel(self) -> str:
        """See :class:`oni.interfaces.ISubscription`."""
        return self.channel_object.name

    @property
    def position(self) -> Position:
        """See :class:`oni.interfaces.ISubscription`."""
        return Position(self.channel_object.ring.epoch, self.offset)

    def hear(self, events: set[str | None]) -> None:
        """Hear these events, from now on."""
        self.events = events
        everything = None in events and self.wants is None
        self.is_plain = everything and not self._latest and not self.closed

    def count_in(self, number: int) -> None:
        """Let a carrier that sends directly know that it hears so many channels more."""
        if self.is_direct:
            self.carrier.heard += number  # type: ignore[attr-defined]

    def stand(self, offset: int) -> None:
        """Stand at this offset in the ring's present life."""
        self.life = self.channel_object.ring.life
        self.offset = offset

    def begin(self) -> None:
        """See :class:`oni.interfaces.ISubscription`."""
        if not self.begun and not self.closed:
            self.begun = True
            self.channel_object.ring.readers += 1
            self.wake()

    def close(self) -> None:
        """See :class:`oni.interfaces.ISubscription`."""
        self.channel_object.drop(self)

    def wake(self) -> None:
        """Let the carrier know that there is something. It must not be asleep any more."""
        if self.closed:
            return
        try:
            self.carrier.wake(self)
        except Exception:  # noqa: BLE001 - a carrier's fault must not reach the others
            self.fail()

    def fail(self) -> None:
        """End it, because the carrier raised what is being handled."""
        _log.failure("a carrier failed and hears channel {channel} no more", channel=self.channel)
        self.close()

    def is_wanted(self, entry: Any) -> bool:
        """Say whether the carrier shall hear this."""
        events = self.events
        return (
            (None in events or entry.event in events)
            and not (entry.exclude and entry.exclude == self.client)
            and (self.wants is None or self.wants(entry))
        )

    # Hot: once per delivery. benchmarks/fanout.py.
    def take(self, limit: int) -> bytes:
        """See :class:`oni.interfaces.ISubscription`."""
        if self.closed or not self.begun:
            return b""
        ring = self.channel_object.ring
        while self.life == ring.life and self.offset >= ring.base:
            if self.offset >= ring.top:
                if not self.asleep:
                    self.asleep = True
                    ring.readers -= 1
                return b""
            if self.is_plain and not ring.excluding:
                hot = ring.hot
                if hot[0] == self.offset and hot[1] is self._encode and hot[2] == limit:
                    data: bytes = hot[3]
                    self.offset = hot[4]
                else:
                    data, self.offset = ring.chunk(self.offset, self._encode, limit)
            else:
                data = self._take_some(limit)
            if data:
                if self.offset >= ring.top and not self.asleep:
                    self.asleep = True
                    ring.readers -= 1
                return data
        return self._take_kept(limit)

    def _take_some(self, limit: int) -> bytes:
        """Take from the ring; empty when nothing is wanted, then all is passed over."""
        ring = self.channel_object.ring
        if not self._latest:
            return self._take_wanted(ring.walk(self.offset), limit)
        if None not in self.events or self.wants is not None or ring.excluding:
            return self._take_newest(ring.walk(self.offset), limit)
        start, latest = self.offset, ring.latest(self.channel_object.options.latest_by)
        data, end = join(latest.walk(start), self._encode, limit)
        taken = latest.count(start, end)
        self.offset = ring.top if end == latest.top else end
        self.channel_object.node.passed_over += ring.count(start, self.offset) - taken
        return data

    def _take_wanted(self, entries: Iterator[Any], limit: int) -> bytes:
        """Take what is wanted of these; empty when nothing is, then all are passed over."""
        if self._latest:
            return self._take_newest(entries, limit)
        frames: list[bytes] = []
        size, offset = 0, self.offset
        for entry in entries:
            if self.is_wanted(entry):
                frame = entry.encoded(self._encode)
                size += len(frame)
                if frames and size > limit:
                    break
                frames.append(frame)
            offset = entry.offset
        self.offset = offset
        return b"".join(frames)

    def _take_newest(self, entries: Iterator[Any], limit: int) -> bytes:
        """Take the newest of what is wanted, for each value of the tag that is the key.

        Whoever hears a part only looks at all of it: what is superseded for one is not for
        another.
        """
        latest = Latest(self.channel_object.options.latest_by)
        wanted: list[int] = []
        last = self.offset
        for entry in entries:
            last = entry.offset
            if self.is_wanted(entry):
                latest.add(entry)
                wanted.append(last)
        if not wanted:
            self.offset = last
            return b""
        data, end = join(latest.walk(self.offset), self._encode, limit)
        # In the order of their offsets: what does not fit is all behind, and found again there.
        behind, taken = bisect_right(wanted, end), latest.count(self.offset, end)
        self.channel_object.node.passed_over += behind - taken
        self.offset = last if end == latest.top else end
        return data

    def _take_kept(self, limit: int) -> bytes:
        """Take what the ring does not have any more."""
        channel = self.channel_object
        ring = channel.ring
        if ring.epoch_life <= self.life < ring.life and self.offset >= ring.base:
            self.life = ring.life  # what is in doubt lies before
            return self.take(limit)
        wants_one = self._latest and not channel.options.latest_by
        if wants_one and self.life == ring.life and any(map(self.is_wanted, ring.newest())):
            self.offset = ring.base  # what lies between is superseded
            return self.take(limit)
        while self.life == ring.life and self.offset < ring.base:
            stretch = channel.kept.after(self)
            if stretch is None:
                return b""
            if self.offset < stretch.start:
                return self._lose(stretch.start, limit, stretch.cause)
            data = self._take_wanted(iter(stretch.after(self.offset)), limit)
            if data:
                return data
        if self.life == ring.life:
            return self.take(limit)
        return self._lose(ring.base, limit, "epoch" if self.life < ring.epoch_life else "feed")

    def _lose(self, offset: int, limit: int, cause: str) -> bytes:
        """Go on after a gap, and tell of it."""
        self.stand(offset)
        self.channel_object.node.gap_causes[cause] += 1
        told = self.carrier.lost(self, self.position)
        return told if told or self.closed else self.take(limit)
