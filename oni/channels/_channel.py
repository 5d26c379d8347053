"""A channel in memory: who hears it, and where its stream stands."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from oni.channels._entry import Entry
from oni.channels._names import check_event
from oni.interfaces import ICarrier, IChannel
from oni.values import Position

__all__ = ["Channel"]

_log = Logger()


class _Subscriber:
    """What a carrier hears of a channel: which events (None: all), and after which offset."""

    __slots__ = ("after", "events")

    def __init__(self, after: int) -> None:
        self.after = after
        self.events: set[str | None] = set()


@implementer(IChannel)
class Channel:
    """A stream of publications that keeps none: who is subscribed hears them, nobody else.

    Everything happens within the call: the Deferreds that its methods return have fired. Each
    subscriber hears the publications in the order of their offsets, also where a carrier
    publishes while it is delivered to.

    Attributes:
        name: The channel's name.
    """

    def __init__(
        self, name: str, epoch: str, in_use: Callable[[Channel, bool], None] | None = None
    ) -> None:
        """Begin a stream.

        Args:
            name: The channel's name.
            epoch: Names this life of the stream.
            in_use: Is told when the channel gets its first subscriber, and loses its last.
        """
        self.name = name
        self._epoch = epoch
        self._in_use = in_use
        self._top = 0
        self._subscribers: dict[ICarrier, _Subscriber] = {}
        self._due: deque[Entry] = deque()
        self._delivering = False

    def __repr__(self) -> str:
        """Name it."""
        return f"<Channel {self.name!r}>"

    @property
    def position(self) -> Position:
        """Where the last publication stands."""
        return Position(self._epoch, self._top)

    @property
    def subscribers(self) -> int:
        """How many carriers are subscribed."""
        return len(self._subscribers)

    def start(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`. There is nothing to consume from."""
        return succeed(None)

    def publish(
        self, event: str, data: Any, *, tags: Mapping[str, str] | None = None, info: Any = None
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannel`.

        The data is encoded here and now, so that nobody can change it later.

        Args:
            event: The event's name.
            data: Anything that msgspec can encode as JSON; a :class:`msgspec.Raw` is JSON already.
            tags: Short strings that travel beside the data.
            info: Who published it, where a client did.

        Raises:
            EventNameError: No event may have this name.
            TypeError: The data or a tag is not JSON.
        """
        check_event(event)
        encoded = bytes(data) if isinstance(data, msgspec.Raw) else _encode(data)
        kept = _checked(tags or {})
        prev, self._top = self._top, self._top + 1
        position = Position(self._epoch, self._top)
        self._due.append(Entry(self.name, event, encoded, kept, position, prev, info))
        if not self._delivering:
            self._deliver_due()
        return succeed(position)

    def subscribe(
        self, event: str | None, carrier: ICarrier, since: Position | None = None
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannel`.

        What was published after ``since`` is gone: where the position that comes back is another
        one, the subscriber has missed something.
        """
        if event is not None:
            check_event(event)
        subscriber = self._subscribers.get(carrier)
        if subscriber is None:
            if not self._subscribers and self._in_use is not None:
                self._in_use(self, True)
            subscriber = self._subscribers[carrier] = _Subscriber(self._top)
        subscriber.events.add(event)
        return succeed(self.position)

    def unsubscribe(self, event: str | None, carrier: ICarrier) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`."""
        subscriber = self._subscribers.get(carrier)
        if subscriber is not None:
            subscriber.events.discard(event)
            if not subscriber.events:
                self._detach(carrier)
        return succeed(None)

    def _detach(self, carrier: ICarrier) -> None:
        if self._subscribers.pop(carrier, None) is None:
            return
        if not self._subscribers and self._in_use is not None:
            self._in_use(self, False)

    def _deliver_due(self) -> None:
        self._delivering = True
        try:
            while self._due:
                self._deliver(self._due.popleft())
        finally:
            self._delivering = False

    def _deliver(self, entry: Entry) -> None:
        event, offset = entry.event, entry.position.offset
        for carrier, subscriber in tuple(self._subscribers.items()):
            events = subscriber.events  # empty where it was unsubscribed since this loop began
            if offset <= subscriber.after or (None not in events and event not in events):
                continue
            try:
                carrier.deliver(entry)
            except Exception:  # noqa: BLE001 - a carrier's fault must not reach the others
                _log.failure(
                    "a carrier failed and hears channel {channel} no more", channel=self.name
                )
                self._detach(carrier)


def _encode(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TypeError(f"the data is not JSON: {error}") from error


def _checked(tags: Mapping[str, str]) -> Mapping[str, str]:
    for name, tag in tags.items():
        if not isinstance(name, str) or not isinstance(tag, str):
            raise TypeError(f"tags are strings by name, not {name!r}: {tag!r}")
    return MappingProxyType(dict(tags))
