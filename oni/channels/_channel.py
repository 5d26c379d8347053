"""A channel: its ring, which the backend's feed fills, and who reads it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oni.channels._draft import draft_of
from oni.channels._joining import Joining
from oni.channels._kept import Kept, is_seamless
from oni.channels._names import check_event
from oni.channels._ring import Ring
from oni.channels._subscription import Subscription
from oni.errors import AlreadySubscribedError, UnrecoverablePositionError
from oni.interfaces import ICarrier, IChannel, IEntry
from oni.values import Attachment, ClientInfo, Page, Position, PresenceStats, StreamOptions

if TYPE_CHECKING:
    from oni.channels._channels import Channels

__all__ = ["MAX_RECOVERED", "Channel"]

_log = Logger()

#: So many missed publications go into the answer to a subscribe; more follow as pushes.
MAX_RECOVERED = 300

_MAX_RECOVERED_BYTES = 256 * 1024
_PAUSE = 1.0  # seconds after following failed
_MARKS = 4  # how often within ``max_lag`` is looked at who lags


@implementer(IChannel)
class Channel:
    """A stream of publications, its newest ones in a ring, and a cursor for each subscriber.

    Attributes:
        name: The channel's name.
        options: How its stream is kept.
        node: The channels of this process.
        ring: The newest publications.
        is_watched: Whether the node will learn of its end.
        heard: How many publications have come, so far.
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
        self.ring = Ring(node.rings, options.ring_entries, options.ring_bytes)
        self._namespace = node.namespace_for(name)
        self._kept: Kept | None = None
        self._stream = node.backend.hold(name)
        self._subscriptions: dict[ICarrier, Subscription] = {}
        self._readers: tuple[Subscription, ...] | None = None
        self._state = "new"  # following, started
        self._is_pinned = False
        self.is_watched = False
        self.heard = 0
        self._follows = 0
        self._has_heard = False
        self._was_heard = True
        self._waiters: list[Deferred[None]] = []
        self._marks: deque[tuple[float, int, int]] = deque()
        self._lag_check: IDelayedCall | None = None

    def __repr__(self) -> str:
        """Name it."""
        return f"<Channel {self.name!r}>"

    @property
    def subscribers(self) -> int:
        """How many carriers are subscribed."""
        return len(self._subscriptions)

    @property
    def kept(self) -> Kept:
        """What reads for those who have fallen off the ring."""
        if self._kept is None:
            self._kept = Kept(self)
        return self._kept

    @property
    def waiting(self) -> int:
        """How many subscriptions wait for history."""
        return 0 if self._kept is None else self._kept.waiting

    @property
    def is_pinned(self) -> bool:
        """Whether the feed is followed without subscribers, too."""
        return self._is_pinned

    @property
    def is_quiet(self) -> bool:
        """Whether it is followed, and nothing was heard since this was asked last."""
        was_quiet, self._was_heard = not self._was_heard, False
        return was_quiet and self._state == "started"

    # --- The feed -------------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`. It lasts while somebody has this object."""
        self._is_pinned = True
        return self._started()

    def _started(self) -> Deferred[None]:
        if self._state == "started":
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._stop_waiting)
        self._waiters.append(waiter)
        if self._state == "new":
            self.follow()
        return waiter

    def _stop_waiting(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def follow(self) -> None:
        """Ask the backend for the feed, (again) from where the stream stands now."""
        self._state = "following"
        self._follows += 1
        self._has_heard = False
        self.node.follows(self)
        position = self.node.ready().addCallback(lambda _: self.node.backend.follow(self.name))
        position.addCallbacks(
            self._followed, self._not_followed, (self._follows,), errbackArgs=(self._follows,)
        )
        position.addErrback(lambda failure: _log.failure("a channel could not start", failure))

    def _followed(self, position: Position, number: int) -> None:
        if number != self._follows or self._state == "new":
            return  # it was asked for again since, or is not wanted any more
        ring = self.ring
        if not self._has_heard and (position.epoch != ring.epoch or position.offset < ring.top):
            ring.begin(position)
        elif position.epoch == ring.epoch and position.offset > ring.top:
            ring.skip(position.offset)
        self._state = "started"
        self._wake_sleepers()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _not_followed(self, failure: Failure, number: int) -> None:
        if number != self._follows or self._state == "new":
            return
        waiters, self._waiters = self._waiters, []
        if self.ring.epoch:
            _log.warn(
                "channel {channel} is not heard, and asked for again: {error}",
                channel=self.name,
                error=failure.value,
            )
            self.node.clock.call_later(_PAUSE, self._follow_again, number)
        else:
            self._state = "new"
        for waiter in waiters:
            waiter.errback(failure)

    def _follow_again(self, number: int) -> None:
        if number == self._follows and self._state == "following":
            self.follow()

    def compare(self, top: Position) -> None:
        """Follow anew if the stream is further than what was heard of it."""
        ring = self.ring
        if self._state == "started" and not self._was_heard and top != ring.position:
            self.node.repairs += 1
            self.follow()

    def lost(self) -> None:
        """See :meth:`oni.interfaces.IBackendSink.lost`."""
        if self._state != "new":
            self.follow()

    def stop(self) -> None:
        """Hear nothing more."""
        self._state = "new"
        self._follows += 1
        self.ring.begin(Position("", 0))
        self._release()
        self._stop_lag_check()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.cancel()

    def _release(self) -> None:
        """Let the page go; what reads it refers to the channel, which shall go with its users."""
        if self._kept is not None:
            self._kept.drop_page()
            self._kept = None

    def received(self, entries: Sequence[Any]) -> None:
        """See :meth:`oni.interfaces.IBackendSink.received`."""
        if self._state == "new":
            return
        ring = self.ring
        self._has_heard = self._was_heard = True
        top = ring.top if ring.epoch else -1
        for entry in entries:
            if entry.position.epoch != ring.epoch:
                ring.begin(Position(entry.position.epoch, entry.prev))
            elif entry.offset <= ring.top:
                continue  # it came before
            elif entry.prev == 0 < ring.top:
                ring.begin(Position(ring.epoch, entry.offset - 1))
            elif entry.prev > ring.top:
                self.node.repairs += 1
                ring.skip(entry.prev)
            ring.append(entry)
            self.heard += 1
            self.node.deliveries += len(self._subscriptions)
        if ring.top != top:
            self._wake_sleepers()

    # Hot: once per delivery. benchmarks/fanout.py.
    def _wake_sleepers(self) -> None:
        if self._kept is not None and not self.ring.readers and not self._kept.waiting:
            self._release()
        readers = self._readers
        if readers is None:
            readers = self._readers = tuple(self._subscriptions.values())
        ring = self.ring
        for subscription in readers:
            if subscription.asleep and not subscription.closed:
                subscription.asleep = False
                ring.readers += 1
                try:
                    subscription.carrier.wake(subscription)
                except Exception:  # noqa: BLE001 - a carrier's fault must not reach the others
                    subscription.fail()
        if self._lag_check is None and self.options.behind == "disconnect" and ring.readers:
            self._check_lag()

    # --- Who lags -------------------------------------------------------------------------------

    def count_lags(self, lags: Counter[int]) -> None:
        """Count, by how many publications of the ring each subscription has not taken."""
        ring = self.ring
        if not ring.readers:
            lags[0] += len(self._subscriptions)
            return
        for subscription in self._subscriptions.values():
            if subscription.asleep:
                lags[0] += 1
            elif subscription.life == ring.life:
                lags[ring.count_after(subscription.offset)] += 1
            else:
                lags[len(ring)] += 1

    def _check_lag(self) -> None:
        """Note where the stream stands, and look who does not stand where it stood long ago."""
        self._lag_check = None
        now, limit, ring = self.node.clock.seconds(), self.options.max_lag, self.ring
        self._marks.append((now, ring.life, ring.top))
        due = None
        while self._marks and now - self._marks[0][0] >= limit:
            due = self._marks.popleft()
        if due is not None:
            _, life, top = due
            for subscription in self.behind(life, top):
                self.node.overdue += 1
                subscription.carrier.overdue(subscription)
        if ring.readers:
            self._lag_check = self.node.clock.call_later(limit / _MARKS, self._check_lag)
        else:
            self._marks.clear()

    def behind(self, life: int, offset: int) -> Sequence[Subscription]:
        """Give those who have not taken everything up to this offset of a life of the ring."""
        return [
            subscription
            for subscription in self._subscriptions.values()
            if subscription.begun and (subscription.life, subscription.offset) < (life, offset)
        ]

    def _stop_lag_check(self) -> None:
        self._marks.clear()
        if self._lag_check is not None:
            self._lag_check.cancel()
            self._lag_check = None

    # --- Subscribers ----------------------------------------------------------------------------

    def subscribe(
        self, event: str | None, carrier: ICarrier, since: Position | None = None
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannel`."""
        if event is not None:
            check_event(event)
        subscription = self._subscriptions.get(carrier)
        if subscription is None:
            subscription = self._add(Subscription(self, carrier, set()))
        else:
            if subscription.begun:
                subscription.hear(subscription.events | {event})
                return succeed(subscription.position)
            since = None
        return Deferred.fromCoroutine(self._subscribe(subscription, event, since))

    async def _subscribe(
        self, subscription: Subscription, event: str | None, since: Position | None
    ) -> Position:
        return (await self._join(subscription, event, since, attaches=False)).position

    def unsubscribe(self, event: str | None, carrier: ICarrier) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannel`."""
        subscription = self._subscriptions.get(carrier)
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
        return Deferred.fromCoroutine(self._attach(subscription, since))

    async def _attach(self, subscription: Subscription, since: Position | None) -> Attachment:
        if subscription.carrier in self._subscriptions:
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
            await self._started()
            await joining.turn.acquire()
            try:
                if subscription.life < 0:
                    limit = MAX_RECOVERED if attaches else 0
                    recovered, missed = await self._recover(subscription, since, limit)
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

    async def _recover(
        self, subscription: Subscription, since: Position | None, limit: int
    ) -> tuple[bool, Sequence[Any]]:
        """Let a subscription stand where its client stands, if nothing is missing in between.

        Returns:
            Whether that is so, and all that was missed if it is no more than the limit: then the
            subscription stands behind it.
        """
        ring = self.ring
        if since is None or since.epoch != ring.epoch or since.offset < 0:
            subscription.stand(ring.top)
            return False, ()
        if ring.base <= since.offset <= ring.top:
            subscription.stand(ring.top)
            missed, end = ring.after(since.offset), ring.top
        else:
            page = await self.node.backend.read(self.name, since, limit + 1)
            subscription.stand(ring.top)
            if not since.epoch == page.top.epoch == ring.epoch:
                return False, ()
            if since.offset > page.top.offset or not is_seamless(page, since.offset):
                return False, ()
            missed, end = page.entries, page.top.offset
        if not missed and since.offset < end:
            return False, ()
        subscription.stand(since.offset)
        if not missed:
            return True, ()
        is_whole = missed[-1].offset >= end and len(missed) <= limit
        if is_whole and sum(len(entry.data) for entry in missed) <= _MAX_RECOVERED_BYTES:
            subscription.stand(missed[-1].offset)
            return True, missed
        if self.options.behind == "latest":
            subscription.stand(ring.top)  # of what follows as pushes only the newest would come
            return False, ()
        return True, ()

    def _add(self, subscription: Subscription) -> Subscription:
        if not self._subscriptions:
            self.node.keep(self)
        self._subscriptions[subscription.carrier] = subscription
        self._readers = None
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """End a subscription; the feed too, if it was the last one."""
        if subscription.closed:
            return
        subscription.closed = True
        if self._subscriptions.get(subscription.carrier) is not subscription:
            return  # it never was one
        del self._subscriptions[subscription.carrier]
        self._readers = None
        if self._kept is not None:
            self._kept.forget(subscription)
        if subscription.begun and not subscription.asleep:
            self.ring.readers -= 1
        if not self._subscriptions:
            self.node.let_go(self)

    def end(self) -> None:
        """End every subscription."""
        for subscription in tuple(self._subscriptions.values()):
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
        """Tell those who asked that a client has entered or left."""
        for subscription in tuple(self._subscriptions.values()):
            if subscription.join_leave and subscription.begun:
                carrier = subscription.carrier
                tell = carrier.joined if has_entered else carrier.left
                maybeDeferred(tell, subscription, info).addErrback(
                    lambda failure: _log.failure(
                        "a carrier could not be told of presence", failure
                    )
                )
