"""A backend that does what real ones do on bad days."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oni.errors import BackendError
from oni.interfaces import IBackendSink, IChannelBackend
from oni.testing._fake_streams import Streams
from oni.values import ClientInfo, Draft, Page, Position, PresenceStats, StreamOptions

__all__ = ["FakeBackend"]


def _first(number: int) -> int:
    return 0


@implementer(IChannelBackend)
class FakeBackend:
    """Streams in memory, with a feed and answers that come when the test lets them.

    What it is asked for happens at once, in the order in which it was asked. Its answers are held
    until :meth:`answer`, in any order, what the feed brings until :meth:`deliver`, in its order.
    In between, the feed can be lost and repeated, and everything can fail. Further nodes on the
    same streams are made with :meth:`peer`.

    Attributes:
        memory: Where the streams are.
        is_down: Whether everything that is asked for fails, and happens not.
        is_deaf: Whether what the feed brings is lost, in silence.
        reads: How often history was read.
        follows: How often a channel was asked for.
        probes: How often was asked whether this node is deaf.
    """

    def __init__(
        self,
        reactor: IReactorTime | None = None,
        choose: Callable[[int], int] = _first,
        *,
        holds: bool = True,
        step: Callable[[], int] | None = None,
    ) -> None:
        """Begin without streams.

        Args:
            reactor: The clock.
            choose: Gives a number below the one it gets: which answer comes first.
            holds: Whether answers and feed are held; if not, they come at once.
            step: Gives by how much the next offset grows, as with media that leave numbers out;
                None: by 1.
        """
        self._share(Streams(reactor, step))
        self.is_down = self.is_deaf = False
        self.reads = self.follows = self.probes = 0
        self.holds = holds
        self._choose = choose
        self._lives = 0
        self._sink: IBackendSink | None = None
        self._answers: list[tuple[Deferred[Any], Any]] = []
        self._feed: deque[Callable[[IBackendSink], None]] = deque()
        self._last: Callable[[IBackendSink], None] | None = None

    @classmethod
    def from_url(cls, url: str, reactor: IReactorTime | None = None) -> FakeBackend:
        """Make one that holds nothing back."""
        return cls(reactor, holds=False)

    def _share(self, streams: Streams) -> None:
        self._streams = streams
        self.memory = streams.memory

    def peer(self) -> FakeBackend:
        """Make another node's backend, on the same streams."""
        other = FakeBackend(None, self._choose, holds=self.holds)
        other._share(self._streams)
        return other

    # --- What the test decides ------------------------------------------------------------------

    @property
    def held_answers(self) -> int:
        """How many answers are held."""
        return len(self._answers)

    @property
    def held_feed(self) -> int:
        """How much the feed holds."""
        return len(self._feed)

    def answer(self) -> bool:
        """Give one answer. Say whether there was one."""
        if not self._answers:
            return False
        deferred, result = self._answers.pop(self._choose(len(self._answers)))
        if not deferred.called:
            deferred.callback(result)
        return True

    def deliver(self) -> bool:
        """Let the feed bring one thing. Say whether there was one."""
        if not self._feed:
            return False
        self._last = self._feed.popleft()
        if self._sink is not None:
            self._last(self._sink)
        return True

    def repeat(self) -> None:
        """Let the feed bring again what it brought last."""
        if self._last is not None and self._sink is not None:
            self._last(self._sink)

    def lose_feed(self, tell: bool = True) -> None:
        """Lose what the feed holds, and say so or not."""
        self._feed.clear()
        if tell and self._sink is not None:
            self._sink.lost(None, "the feed was lost")

    def forget(self, channel: str) -> None:
        """Forget what is kept of a channel, and that there was anything.

        The next publication says that there was none before it.
        """
        self.memory.trim(channel)
        stream: Any = self.memory.hold(channel)
        stream.link = 0

    def begin_anew(self, channel: str) -> None:
        """Lose a channel's stream as a whole, as a server does that is emptied.

        What it goes on with is another life: it has another epoch, and begins at 0.
        """
        self.memory.trim(channel)
        stream: Any = self.memory.hold(channel)
        self._lives += 1
        stream.epoch = f"{stream.epoch}+{self._lives}"
        stream.top = stream.link = 0

    def hears(self, channel: str) -> bool:
        """Say whether what is published on a channel now gets into this node's feed."""
        return not self.is_deaf and self._streams.is_followed(self, channel)

    def settle(self) -> None:
        """Let everything come that is held, and what it causes."""
        while self._answers or self._feed:
            if self._choose(2) and self.deliver():
                continue
            if not self.answer():
                self.deliver()

    def go_down(self) -> None:
        """Fail from now on."""
        self.is_down = True
        if self._sink is not None:
            self._sink.down()

    def come_up(self) -> None:
        """Work again."""
        self.is_down = False
        if self._sink is not None:
            self._sink.up()

    # --- What the engine asks for ---------------------------------------------------------------

    def _ask(self, call: Callable[..., Deferred[Any]], *args: Any) -> Deferred[Any]:
        if self.is_down:
            result: Any = fail(BackendError("the backend is down"))
        else:
            result = call(*args)
        if not self.holds:
            return result  # type: ignore[no-any-return]
        held: Deferred[Any] = Deferred()
        result.addBoth(lambda value: self._answers.append((held, value)))
        return held

    def start(self, sink: IBackendSink) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self._sink = sink
        self.bring(lambda sink: sink.up())
        return self._ask(self._streams.join, self)

    def stop(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self._sink = None
        self._feed.clear()
        for deferred, _ in self._answers:
            deferred.addErrback(lambda failure: None)
        self._answers.clear()
        return self._streams.part(self)

    def hold(self, channel: str) -> object:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self.memory.hold(channel)

    def follow(self, channel: str) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self.follows += 1
        return self._ask(self._streams.follow, self, channel)

    def unfollow(self, channel: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self._streams.unfollow, self, channel)

    def publish(
        self,
        channel: str,
        draft: Draft,
        options: StreamOptions,
        idempotency_key: str | None = None,
    ) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.publish, channel, draft, options, idempotency_key)

    def read(
        self, channel: str, since: Position | None, limit: int | None, reverse: bool = False
    ) -> Deferred[Page]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self.reads += 1
        return self._ask(self.memory.read, channel, since, limit, reverse)

    def top(self, channel: str) -> Deferred[Position]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.top, channel)

    def trim(self, channel: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.trim, channel)

    def enter(self, channel: str, info: ClientInfo, ttl: float) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.enter, channel, info, ttl)

    def leave(self, channel: str, client: str) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.leave, channel, client)

    def presence(self, channel: str) -> Deferred[Mapping[str, ClientInfo]]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.presence, channel)

    def presence_stats(self, channel: str) -> Deferred[PresenceStats]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.presence_stats, channel)

    def control(self, message: bytes) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self._ask(self.memory.control, message)

    def probe(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        self.probes += 1
        if self.is_down:
            return fail(BackendError("the backend is down"))
        if not self.holds and not self.is_deaf:
            return succeed(None)
        arrived: Deferred[None] = Deferred()
        self.bring(lambda sink: None if arrived.called else arrived.callback(None))
        return arrived

    def statistics(self) -> Mapping[str, int]:
        """See :class:`oni.interfaces.IChannelBackend`."""
        return self.memory.statistics()

    # --- What the streams report ----------------------------------------------------------------

    def bring(self, thing: Callable[[IBackendSink], None]) -> None:
        """Let the feed bring this."""
        if self.is_deaf:
            return
        self._feed.append(thing)
        if not self.holds:
            self.deliver()
