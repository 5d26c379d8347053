"""How a channel's ring is filled: the backend's feed, and what is done where it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.channels._ring import Ring
from oni.values import Position

if TYPE_CHECKING:
    from oni.channels._audience import Audience
    from oni.channels._channels import Channels

__all__ = ["Feed"]

_log = Logger()

_PAUSE = 1.0  # seconds after following failed; twice as long each time
_MAX_PAUSE = 30.0
_GRACE = 1.0  # seconds that the feed may be later than another answer of the backend


class Feed:
    """Follows a channel, and puts what comes into its ring: linked, or after a gap.

    It knows nothing of the channel's object, which shall go with its last user. It is in one of
    four states. ``new``: nothing is heard. ``following``: the backend was asked, and has not
    answered. ``started``: everything is heard. ``doubted``: it was, but may not be any more; who
    needs to know asks the backend again.

    Attributes:
        heard: How many publications have come, so far.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_follows",
        "_has_heard",
        "_name",
        "_node",
        "_audience",
        "_ring",
        "_state",
        "_timer",
        "_waiters",
        "_was_heard",
        "heard",
    )

    def __init__(self, name: str, node: Channels, ring: Ring, audience: Audience) -> None:
        """Begin; nothing is heard yet.

        Args:
            name: The channel's name.
            node: The channels of this process.
            ring: What it fills.
            audience: Who is woken when there is something.
        """
        self._name = name
        self._node = node
        self._ring = ring
        self._audience = audience
        self.heard = 0
        self._state = "new"
        self._follows = 0
        self._attempts = 0
        self._has_heard = False
        self._was_heard = True
        self._waiters: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing is heard, and nobody has asked."""
        return self._state == "new"

    @property
    def is_quiet(self) -> bool:
        """Whether it is followed, and nothing was heard since this was asked last."""
        was_quiet, self._was_heard = not self._was_heard, False
        return was_quiet and self._state == "started"

    # --- Following ------------------------------------------------------------------------------

    def started(self) -> Deferred[None]:
        """Give a Deferred that fires when everything is heard; follow where that is not so."""
        if self._state == "started":
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._stop_waiting)
        self._waiters.append(waiter)
        if self._state != "following" or self._timer is not None:
            self._follow()
        return waiter

    def _stop_waiting(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def doubt(self) -> None:
        """Trust the feed no more, until it is followed again."""
        if self._state == "started":
            self._state = "doubted"
            self._stop_timer()

    def repair(self) -> None:
        """Follow again, where the feed is not trusted or could not be followed."""
        if self._state == "doubted" or self._timer is not None:
            self._follow()

    def lost(self) -> None:
        """Follow again, for something was lost."""
        if self._state != "new":
            self._follow()

    def stop(self) -> None:
        """Hear nothing more, and forget what was heard."""
        self._state = "new"
        self._follows += 1
        self._stop_timer()
        self._ring.begin(Position("", 0))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _follow(self) -> None:
        """Ask the backend for the feed, (again) from where the stream stands now."""
        self._stop_timer()
        self._state = "following"
        self._follows += 1
        self._has_heard = False
        node, number = self._node, self._follows
        position = node.ready().addCallback(lambda _: node.backend.follow(self._name))
        position.addCallbacks(self._followed, self._not_followed, (number,), errbackArgs=(number,))
        position.addErrback(lambda failure: _log.failure("a channel could not start", failure))

    def _followed(self, position: Position, number: int) -> None:
        if number != self._follows or self._state == "new":
            return  # it was asked for again since, or is not wanted any more
        ring = self._ring
        if not self._has_heard and (position.epoch != ring.epoch or position.offset < ring.top):
            ring.begin(position)
        elif position.epoch == ring.epoch and position.offset > ring.top:
            ring.skip(position.offset)
        self._state = "started" if self._node.is_hearing else "doubted"
        self._attempts = 0
        self._audience.wake_sleepers()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _not_followed(self, failure: Failure, number: int) -> None:
        if number != self._follows or self._state == "new":
            return
        waiters, self._waiters = self._waiters, []
        if self._ring.epoch:
            if self._attempts == 0:
                _log.warn(
                    "channel {channel} is not heard, and asked for again: {error}",
                    channel=self._name,
                    error=failure.value,
                )
            pause = min(_PAUSE * 2**self._attempts, _MAX_PAUSE)
            self._attempts = min(self._attempts + 1, 10)
            self._timer = self._node.clock.call_later(pause, self._follow_again)
        else:
            self._state = "new"
        for waiter in waiters:
            waiter.errback(failure)

    def _follow_again(self) -> None:
        self._timer = None
        self._follow()

    # --- What comes -----------------------------------------------------------------------------

    def received(self, entries: Sequence[Any]) -> None:
        """See :meth:`oni.interfaces.IBackendSink.received`."""
        if self._state == "new":
            return
        ring = self._ring
        self._has_heard = self._was_heard = True
        stood = (ring.life, ring.top) if ring.epoch else None
        for entry in entries:
            if entry.position.epoch != ring.epoch:
                # Without a link there may have been others before, which are gone.
                ring.begin(Position(entry.position.epoch, entry.prev or entry.offset - 1))
            elif entry.offset <= ring.top:
                continue  # it came before
            elif entry.prev == 0 < ring.top:
                ring.begin(Position(ring.epoch, entry.offset - 1))
            elif entry.prev > ring.top:
                self._node.repairs += 1
                ring.skip(entry.prev)
            ring.append(entry)
            self.heard += 1
            self._node.deliveries += len(self._audience)
        if (ring.life, ring.top) != stood:
            self._audience.wake_sleepers()

    def compare(self, top: Position) -> None:
        """Follow again if the stream is further than what was heard of it.

        What is on its way may still come, so that is looked at once more a little later.
        """
        if self._timer is None and self._state == "started" and self._is_behind(top):
            self._timer = self._node.clock.call_later(_GRACE, self._compare_again, top)

    def _compare_again(self, top: Position) -> None:
        self._timer = None
        if self._is_behind(top):
            self._node.repairs += 1
            self._follow()

    def _is_behind(self, top: Position) -> bool:
        ring = self._ring
        return top.epoch != ring.epoch or top.offset > ring.top
