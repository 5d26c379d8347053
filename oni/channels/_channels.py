"""All channels of a process, one object per name, and the backend that they share."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary, finalize, ref

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni._clock import Clock
from oni.channels._channel import Channel
from oni.channels._feed import Feed
from oni.channels._health import Health
from oni.channels._kept import Kept
from oni.channels._leases import Leases
from oni.channels._names import check_name, namespace_of
from oni.channels._repairs import Repairs
from oni.channels._ring import Ring, Rings
from oni.channels.backends.memory import MemoryBackend
from oni.interfaces import IBackendSink, IChannelBackend, IChannels
from oni.values import ClientInfo, StreamOptions

__all__ = ["Channels"]

_log = Logger()

_MAX_PAGES = 32
_DEFAULTS = StreamOptions()
_MAX_NAMESPACES = 1000  # whose publications are counted apart
_GAP_CAUSES = ("history", "backend", "feed", "epoch")
_OTHERS = ":others"  # no namespace has this name


def _default_options(name: str) -> StreamOptions:
    return _DEFAULTS


@implementer(IChannels, IBackendSink)
class Channels:
    """Makes each channel at its first use, and lets it go when nobody needs it.

    A channel lives as long as it has subscribers or somebody holds it. Its stream is the
    backend's; on the memory backend its next life has an epoch of its own.

    Attributes:
        backend: Where channels keep their data.
        clock: The time.
        rings: The memory that all rings share.
        leases: Who is present through this node.
        kept_pages: Who has a page of history.
        published: Counts publications by this node, by namespace.
        gap_causes: Counts the gaps that subscribers were told of, by what had happened:
            ``history`` did not keep it (any more); ``backend``, history could not be read;
            ``feed``, the backend could not say what came before; ``epoch``, the stream began
            anew.
        deliveries, passed_over, pages, repairs, overdue, recoveries: Counters, see
            :meth:`statistics`.
    """

    def __init__(
        self,
        backend: IChannelBackend | None = None,
        *,
        options: Callable[[str], StreamOptions] = _default_options,
        ring_bytes: int = 64 * 1024 * 1024,
        reactor: IReactorTime | None = None,
    ) -> None:
        """Begin without channels.

        Args:
            backend: Where they keep their data; in memory if None.
            options: Gives the options of a channel by its name, whenever the channel is made.
            ring_bytes: Bytes that the rings of all channels may have together.
            reactor: The clock; the global reactor, when first needed, if None.
        """
        self.clock = Clock(reactor)
        if backend is None:
            backend = MemoryBackend(reactor)
        verifyObject(IChannelBackend, backend)
        self.backend: IChannelBackend = backend
        self.rings = Rings(ring_bytes)
        self.leases = Leases(backend, self.clock)
        self.published: Counter[str] = Counter()
        self.gap_causes = Counter(dict.fromkeys(_GAP_CAUSES, 0))
        self.deliveries = self.passed_over = 0
        self.pages = self.repairs = self.overdue = 0
        self.kept_pages: OrderedDict[Kept, None] = OrderedDict()
        self.recoveries = {True: 0, False: 0}
        self._options = options
        self._channels: WeakValueDictionary[str, Channel] = WeakValueDictionary()
        self._in_use: set[Channel] = set()
        self._followed: dict[str, int] = {}
        self._gone: deque[tuple[str, int, Ring, ref[Feed]]] = deque()
        self._health = Health(backend, self.clock, self._health_changed)
        self._repairs = Repairs(backend, self.clock, self._names_followed, self._feed_of)
        self._receivers: list[Callable[[bytes], object]] = []
        self._state = "new"  # starting, started
        self._waiters: list[Deferred[None]] = []

    # --- What applications use ------------------------------------------------------------------

    def get(self, name: str) -> Channel:
        """See :class:`oni.interfaces.IChannels`."""
        channel = self._channels.get(name) if isinstance(name, str) else None
        if channel is None:
            channel = Channel(check_name(name), self, self._options(name))
            self._channels[name] = channel
        return channel

    def names(self) -> Sequence[str]:
        """See :class:`oni.interfaces.IChannels`."""
        return sorted(self._channels.keys())

    def survey(self) -> Sequence[ref[Channel]]:
        """Refer to every channel there is, at the price of copying a list."""
        return self._channels.valuerefs()

    def start(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannels`."""
        return self.ready()

    def stop(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannels`."""
        for channel in tuple(self._channels.values()):
            channel.end()
            channel.stop()
        self._in_use.clear()
        self._followed.clear()
        self._gone.clear()
        self.leases.stop()
        self._repairs.stop()
        self._health.stop()
        self._receivers.clear()
        self._state = "new"
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.cancel()
        return self.backend.stop()

    def statistics(self) -> Mapping[str, int]:
        """Give numbers by name.

        Gauges: ``channels``, ``subscriptions``, ``ring_bytes``, ``leases``,
        ``waiting_for_history``, ``deaf`` (1 when a probe that this node sent through the backend
        did not come back) and ``backend_up`` (1 when the backend says so and this node is not
        deaf). Counters: ``failed_probes``, ``publications`` by this node,
        ``deliveries`` that became due (a publication for each subscription of its channel),
        ``gaps`` that subscribers were told of, ``passed_over`` publications where only the newest
        is wanted, ``pages`` of history that were read for those who are behind, ``repairs`` of
        the feed, ``reconnects`` of the backend, ``overdue`` clients, ``recoveries`` and
        ``failed_recoveries``, ``evicted`` publications for want of memory; and the backend's
        own, which begin with ``backend_``.
        """
        self._clean()
        own = {
            "channels": len(self._channels),
            "subscriptions": sum(channel.subscribers for channel in self._in_use),
            "ring_bytes": self.rings.size,
            "leases": len(self.leases),
            "waiting_for_history": sum(channel.waiting for channel in self._in_use),
            "backend_up": int(self._health.is_well),
            "deaf": int(self._health.is_deaf),
            "failed_probes": self._health.failed_probes,
            "publications": self.published.total(),
            "deliveries": self.deliveries,
            "gaps": self.gaps,
            "passed_over": self.passed_over,
            "pages": self.pages,
            "repairs": self.repairs,
            "reconnects": self._health.reconnects,
            "overdue": self.overdue,
            "recoveries": self.recoveries[True],
            "failed_recoveries": self.recoveries[False],
            "evicted": self.rings.evicted,
        }
        return own | {f"backend_{name}": n for name, n in self.backend.statistics().items()}

    @property
    def gaps(self) -> int:
        """How many gaps subscribers were told of."""
        return self.gap_causes.total()

    def lags(self) -> Counter[int]:
        """Count the subscriptions by how many publications of the ring they have not taken.

        It looks at each subscription of a channel in which one has not taken everything.
        """
        lags: Counter[int] = Counter()
        for channel in self._in_use:
            channel.count_lags(lags)
        return lags

    def control(self, message: bytes) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannels`."""
        return self.ready().addCallback(lambda _: self.backend.control(message))

    def hear_control(self, receiver: Callable[[bytes], object]) -> None:
        """See :class:`oni.interfaces.IChannels`."""
        self._receivers.append(receiver)
        self._health.watch()

    # --- What channels use ----------------------------------------------------------------------

    def namespace_for(self, name: str) -> str:
        """Say under which name a channel's publications are counted: its namespace, mostly."""
        namespace = namespace_of(name)
        if namespace not in self.published and len(self.published) >= _MAX_NAMESPACES:
            namespace = _OTHERS
        self.published.setdefault(namespace, 0)
        return namespace

    @property
    def is_ready(self) -> bool:
        """Whether the backend is started."""
        return self._state == "started"

    @property
    def is_hearing(self) -> bool:
        """Whether the backend works, and what it brings is heard: feeds can be trusted."""
        return self._health.is_well

    def ready(self) -> Deferred[None]:
        """Give a Deferred that fires when the backend is started; start it where it is not."""
        if self._gone:
            self._clean()
        if self._state == "started":
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._stop_waiting)
        self._waiters.append(waiter)
        if self._state == "new":
            self._state = "starting"
            self.backend.start(self).addCallbacks(self._started, self._not_started)
        return waiter

    def keep(self, channel: Channel) -> None:
        """Keep a channel that has subscribers."""
        self._in_use.add(channel)

    def follows(self, channel: Channel) -> None:
        """Note that a channel is heard, so that this ends when nobody has it any more."""
        number = self._followed[channel.name] = id(channel)
        if not channel.is_watched:
            channel.is_watched = True
            # Any thread may be the last to have it: what is to be done waits for the next call.
            left = (channel.name, number, channel.ring, ref(channel.feed))
            finalize(channel, self._gone.append, left).atexit = False
        self._repairs.watch()
        self._health.watch()

    def keep_page(self, kept: Kept) -> None:
        """Keep a page that was read; the one that was read longest ago goes for it."""
        self.kept_pages[kept] = None
        self.kept_pages.move_to_end(kept)
        if len(self.kept_pages) > _MAX_PAGES:
            next(iter(self.kept_pages)).drop_page()

    def let_go(self, channel: Channel) -> None:
        """Keep a channel no more: it has no subscribers."""
        self._in_use.discard(channel)
        if not channel.is_pinned:
            self._unfollow(channel.name)  # first: what ends with it may follow it anew
            channel.stop()

    def _names_followed(self) -> Sequence[str]:
        self._clean()
        return tuple(self._followed)

    def _feed_of(self, name: str) -> Feed | None:
        channel = self._channels.get(name)
        return None if channel is None else channel.feed

    def _stop_waiting(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _started(self, _: object) -> None:
        if self._state != "starting":
            return  # it was stopped meanwhile
        self._state = "started"
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _not_started(self, failure: Failure) -> None:
        self._state = "new"
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(failure)

    def _clean(self) -> None:
        while self._gone:
            name, number, ring, left = self._gone.popleft()
            ring.clear()
            feed = left()
            if feed is not None:
                feed.stop()
            if self._followed.get(name) == number and name not in self._channels:
                self._unfollow(name)

    def _unfollow(self, name: str) -> None:
        self._followed.pop(name, None)
        if self._state == "started":
            self.backend.unfollow(name).addErrback(
                lambda failure: _log.warn("a channel is still heard: {failure}", failure=failure)
            )

    # --- What the backend reports ---------------------------------------------------------------

    def received(self, channel: str, entries: Sequence[Any]) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        known = self._channels.get(channel)
        if known is not None:
            known.feed.received(entries)
        elif self._gone:
            self._clean()

    def lost(self, channel: str | None, reason: str) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        _log.warn("the feed of {channel} is broken: {reason}", channel=channel, reason=reason)
        if channel is None:
            self._repairs.doubt()
            self._repairs.repair()
        else:
            feed = self._feed_of(channel)
            if feed is not None:
                feed.lost()

    def up(self) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self._health.up()

    def down(self) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self._health.down()

    def _health_changed(self, is_well: bool) -> None:
        """Ask for every channel again when all is well, and trust nothing until then."""
        if is_well:
            self._repairs.repair()
        else:
            self._repairs.doubt()

    def controlled(self, message: bytes) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        for receiver in tuple(self._receivers):
            try:
                receiver(message)
            except Exception:  # noqa: BLE001 - one receiver's fault must not reach the others
                _log.failure("a message from a node was not understood")

    def joined(self, channel: str, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        known = self._channels.get(channel)
        if known is not None:
            known.moved(info, True)

    def left(self, channel: str, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        known = self._channels.get(channel)
        if known is not None:
            known.moved(info, False)
