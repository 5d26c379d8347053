"""A channel: its ring, which the backend's feed fills, and who reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from oni.channels._audience import Audience
from oni.channels._draft import draft_of
from oni.channels._feed import Feed
from oni.channels._joining import Joining
from oni.channels._kept import Kept
from oni.channels._names import check_event
from oni.channels._recovery import MAX_RECOVERED, recover
from oni.channels._ring import Ring
from oni.channels._subscription import Subscription
from oni.errors import AlreadySubscribedError, UnrecoverablePositionError
from oni.interfaces import ICarrier, IChannel, IEntry
from oni.values import Attachment, ClientInfo, Page, Position, PresenceStats, StreamOptions

if TYPE_CHECKING:
    from oni.channels._channels import Channels

__all__ = ["Channel"]


@implementer(IChannel)
class Channel:
    """A stream of publications, its newest ones in a ring, and a cursor for each subscriber.

    Attributes:
        name: The channel's name.
        options: How its stream is kept.
        node: The channels of this process.
        ring: The newest publications.
        feed: What fills it.
        is_watched: Whether the node will learn of its end.
    """

    def __init__(self, name: str, node: Channels, options: StreamOptions) -> None:
        """Begin; nothing is heard before somebody subscribes, or ``start``.

        Args:
            name: The channel's name.
            node: The channels of this process.
            options: How its stream is kept.
        """
        self.name = name
        self.options = options
        self.node = node
        self._namespace = node.namespace_for(name)
        self.ring = Ring(node.rings, options.ring_entries, options.ring_bytes)
        self._audience = Audience(name, node, self.ring, options)
        self.feed = Feed(name, node, self.ring, self._audience)
        self._stream = node.backend.hold(name)
        self._is_pinned = False
        self.is_watched = False

    def __repr__(self) -> str:
        """Name it."""
        return f"<Channel {self.name!r}>"

    @property
    def subscribers(self) -> int:
        """How many carriers are subscribed."""
        return len(self._audience)

    @property
    def kept(self) -> Kept:
        """What reads for those who have fallen off the ring."""
        return self._audience.kept

    @property
    def waiting(self) -> int:
        """How many subscriptions wait for history."""
        return self._audience.waiting

    @property
    def heard(self) -> int:
        """How many publications have come, so far."""
        return self.feed.heard

    def behind(self, life: int, offset: int) -> Sequence[Subscription]:
        """Give those who have not taken everything up to this offset of a life of the ring."""
        return self._audience.behind(life, offset)

    def count_lags(self, lags: Counter[int]) -> None:
        """Count, by how many publications of the ring each subscription has not taken."""
        self._audience.count_lags(lags)

    @property
    def is_pinned(self) -> bool:
        """Whether the feed is followed without subscribers, too."""
        return self._is_pinned

    def start(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`. It lasts while somebody has this object."""
        self._is_pinned = True
        return self._started()

    def _started(self) -> Deferred[None]:
        if self.feed.is_new:
            self.node.follows(self)
        return self.feed.started()

    def hold(self) -> object:
        """See :class:`oni.interfaces.IChannel`."""
        return self._stream

    def stop(self) -> None:
        """Hear nothing more."""
        self.feed.stop()
        self._audience.stop()

    # --- Subscribers ----------------------------------------------------------------------------

    def subscribe(
        self, event: str | None, carrier: ICarrier, since: Position | None = None
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannel`."""
        if event is not None:
            check_event(event)
        subscription = self._audience.of(carrier)
        if subscription is None:
            subscription = self._add(Subscription(self, carrier, set()))
        elif subscription.begun:
            subscription.hear(subscription.events | {event})
            return succeed(subscription.position)
        return Deferred.fromCoroutine(self._subscribe(subscription, event, since))

    async def _subscribe(
        self, subscription: Subscription, event: str | None, since: Position | None
    ) -> Position:
        return (await self._join(subscription, event, since, attaches=False)).position

    def unsubscribe(self, event: str | None, carrier: ICarrier) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`."""
        subscription = self._audience.of(carrier)
        if subscription is not None:
            events = subscription.events - {event}
            if events:
                subscription.hear(events)
            else:
                self.drop(subscription)
        return succeed(None)

    def attach(
        self,
        carrier: ICarrier,
        since: Position | None = None,
        *,
        wants: Callable[[IEntry], bool] | None = None,
        client: str = "",
        join_leave: bool = False,
    ) -> Deferred[Attachment]:
        """See :class:`oni.interfaces.IChannel`."""
        subscription = Subscription(self, carrier, set(), wants, client, join_leave)
        if since is None and self.ring.epoch and self._audience.of(carrier) is None:
            # What joining comes to for one who has missed nothing, with nothing to wait for.
            self._add(subscription)
            subscription.hear({None})
            subscription.stand(self.ring.top)
            return succeed(Attachment(subscription, False, subscription.position, ()))
        return Deferred.fromCoroutine(self._attach(subscription, since))

    async def _attach(self, subscription: Subscription, since: Position | None) -> Attachment:
        if self._audience.of(subscription.carrier) is not None:
            raise AlreadySubscribedError(self.name)
        self._add(subscription)
        attachment = await self._join(subscription, None, since, attaches=True)
        if since is not None:
            self.node.recoveries[attachment.recovered] += 1
        return attachment

    async def _join(
        self,
        subscription: Subscription,
        event: str | None,
        since: Position | None,
        *,
        attaches: bool,
    ) -> Attachment:
        """Hear an event too, and recover, after other calls and only if none of them has.

        A call that fails takes back its own event; the subscription ends if none is left.
        """
        joining = subscription.joining
        if joining is None:
            joining = subscription.joining = Joining(subscription.events)
        joining.pending.append(event)
        subscription.hear(subscription.events | {event})
        recovered = False
        missed: Sequence[Any] = ()
        try:
            await joining.turn.acquire()
            try:
                if subscription.closed:
                    raise CancelledError
                if subscription.life < 0:
                    if since is not None or not self.ring.epoch:
                        await self._started()  # what was missed is known where that is trusted
                    limit = MAX_RECOVERED if attaches else 0
                    try:
                        recovered, missed = await recover(self, subscription, since, limit)
                    except BaseException:
                        subscription.life = -1  # it stands nowhere: the next call may find where
                        raise
                wanted = tuple(entry for entry in missed if subscription.is_wanted(entry))
                attachment = Attachment(subscription, recovered, subscription.position, wanted)
                if not attaches:
                    subscription.begin()
                joining.joined.add(event)
            finally:
                joining.turn.release()
        except BaseException:
            joining.pending.remove(event)
            self._take_back(subscription, joining, event)
            raise
        joining.pending.remove(event)
        if not joining.pending:
            subscription.joining = None
        return attachment

    def _take_back(self, subscription: Subscription, joining: Joining, event: str | None) -> None:
        """Hear an event no more that no other call asked for."""
        if not joining.pending:
            subscription.joining = None
        events = subscription.events
        if event not in joining.joined and event not in joining.pending:
            events = events - {event}
        if events:
            subscription.hear(events)
        else:
            self.drop(subscription)

    def _add(self, subscription: Subscription) -> Subscription:
        if not self._audience:
            self.node.keep(self)
        self._audience.add(subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """End a subscription; the feed too, if it was the last one."""
        if subscription.closed:
            return
        subscription.closed = True
        subscription.is_plain = False
        if self._audience.remove(subscription) and not self._audience:
            self.node.let_go(self)

    def end(self) -> None:
        """End every subscription."""
        for subscription in self._audience:
            self.drop(subscription)

    # --- Publications ---------------------------------------------------------------------------

    def publish(
        self,
        event: str,
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        info: ClientInfo | None = None,
        exclude: str = "",
        idempotency_key: str | None = None,
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannel`."""
        draft = draft_of(event, data, tags, info, exclude)
        self.node.published[self._namespace] += 1
        backend = self.node.backend
        if self.node.is_ready:
            return backend.publish(self.name, draft, self.options, idempotency_key)
        return self.node.ready().addCallback(
            lambda _: backend.publish(self.name, draft, self.options, idempotency_key)
        )

    def history(
        self, limit: int | None = None, since: Position | None = None, reverse: bool = False
    ) -> Deferred[Page]:
        """See :class:`oni.interfaces.IChannel`."""
        return Deferred.fromCoroutine(self._history(limit, since, reverse))

    async def _history(self, limit: int | None, since: Position | None, reverse: bool) -> Page:
        await self.node.ready()
        backend = self.node.backend
        if limit is not None and limit <= 0:
            top = await backend.top(self.name)
            page = Page((), top.offset, top)
        else:
            page = await backend.read(self.name, since, limit, reverse)
        if since is not None and since.epoch != page.top.epoch:
            raise UnrecoverablePositionError(self.name, since.epoch)
        return page

    def remove_history(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`."""
        return self.node.ready().addCallback(lambda _: self.node.backend.trim(self.name))

    # --- Presence -------------------------------------------------------------------------------

    def enter(self, info: ClientInfo) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`."""
        return self.node.ready().addCallback(
            lambda _: self.node.leases.enter(self.name, info, self.options.presence_ttl)
        )

    def leave(self, client: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`."""
        return self.node.ready().addCallback(lambda _: self.node.leases.leave(self.name, client))

    def presence(self) -> Deferred[Mapping[str, ClientInfo]]:
        """See :class:`oni.interfaces.IChannel`."""
        return self.node.ready().addCallback(lambda _: self.node.backend.presence(self.name))

    def presence_stats(self) -> Deferred[PresenceStats]:
        """See :class:`oni.interfaces.IChannel`."""
        return self.node.ready().addCallback(lambda _: self.node.backend.presence_stats(self.name))

    def moved(self, info: ClientInfo, has_entered: bool) -> None:
        """Learn that a client has entered or left."""
        self._audience.moved(info, has_entered)
