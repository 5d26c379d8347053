"""Pages of a backend's history, for subscriptions that have fallen off the ring."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.channels._ring import Ring
from oni.values import Page, Position

if TYPE_CHECKING:
    from oni.channels._channels import Channels
    from oni.channels._subscription import Subscription

__all__ = ["Kept", "Stretch", "is_seamless"]

_log = Logger()

PAGE = 100  # publications that are asked for at once
_ATTEMPTS = 5
_PAUSE = 1.0  # seconds after a failed attempt


def is_seamless(page: Page, since: int) -> bool:
    """Say whether nothing is missing between an offset and the page that was read with it.

    The link says so, or that there is no number in between.
    """
    if page.entries and page.entries[0].offset == since + 1:
        return True
    return page.first_prev <= since and not (page.first_prev == 0 < since)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the stream that was read.

    Attributes:
        life: In which life of the ring it was read.
        asked: After which offset it was asked for.
        start: After which offset it begins; where it is above ``asked``, there is a gap.
        entries: The publications, oldest first.
        offsets: Their offsets.
        cause: Why there is a gap, where there is one.
    """

    life: int
    asked: int
    start: int
    entries: Sequence[Any]
    offsets: Sequence[int]
    cause: str = "history"

    @property
    def end(self) -> int:
        """The offset where it ends."""
        return self.offsets[-1] if self.offsets else self.start

    def covers(self, life: int, offset: int) -> bool:
        """Say whether it tells what comes after an offset: publications, or a gap."""
        if life != self.life or offset < self.asked:
            return False
        return offset < self.start or offset < self.end

    def after(self, offset: int) -> Sequence[Any]:
        """Give the publications after an offset."""
        return self.entries[bisect_right(self.offsets, offset) :]


class Kept:
    """Reads a channel's history for its subscriptions: one page at a time, for all of them.

    Only the last page is kept, while somebody needs it, and only so many on a node.
    """

    __slots__ = (
        "_asking",
        "_attempts",
        "_for_whom",
        "_name",
        "_node",
        "_reading",
        "_ring",
        "_stretch",
        "_waiting",
    )

    def __init__(self, name: str, node: Channels, ring: Ring) -> None:
        self._name = name
        self._node = node
        self._ring = ring
        self._stretch: Stretch | None = None
        self._for_whom: frozenset[Subscription] | None = None
        self._waiting: dict[Subscription, None] = {}
        self._asking: Subscription | None = None
        self._reading = False
        self._attempts = 0

    @property
    def waiting(self) -> int:
        """How many subscriptions wait for a page."""
        return len(self._waiting)

    def after(self, subscription: Subscription) -> Stretch | None:
        """Give what comes after a subscription's offset, or None: then it is woken later."""
        stretch = self._stretch
        is_for_it = self._for_whom is None or subscription in self._for_whom
        if (
            stretch is not None
            and is_for_it
            and stretch.covers(subscription.life, subscription.offset)
        ):
            return stretch
        if not self._reading:
            self._asking = subscription
            self._read(subscription.offset)
            self._asking = None
            if not self._reading:
                return self._stretch  # the backend has answered at once
        self._waiting[subscription] = None
        return None

    def forget(self, subscription: Subscription) -> None:
        """Let a subscription wait no more."""
        self._waiting.pop(subscription, None)

    def drop_page(self) -> None:
        """Drop the page; it is read again where it is needed."""
        self._stretch = self._for_whom = None
        self._node.kept_pages.pop(self, None)

    def _read(self, offset: int) -> None:
        self._reading = True
        ring = self._ring
        life, since = ring.life, Position(ring.epoch, offset)
        page: Deferred[Page] = maybeDeferred(self._node.backend.read, self._name, since, PAGE)
        page.addCallbacks(self._came, self._failed, (life, since), errbackArgs=(life, since))
        page.addErrback(lambda failure: _log.failure("history was not understood", failure))

    def _came(self, page: Page, life: int, since: Position) -> None:
        self._attempts = 0
        asked, entries = since.offset, page.entries
        if page.top.epoch != since.epoch or (entries and entries[-1].offset <= asked):
            entries = ()
        self._node.pages += 1
        if not entries:
            # Nothing is left of what was missed, or it was never known to the backend.
            self._end(life, asked, page.top.offset if page.top.epoch == since.epoch else None)
            return
        start = asked
        if not is_seamless(page, asked):
            start = page.first_prev or entries[0].offset - 1
            if life == self._ring.life and asked < self._ring.base < start:
                self._end(life, asked)  # the ring has more than history
                return
        offsets = [entry.offset for entry in entries]
        self._done(Stretch(life, asked, start, entries, offsets))

    def _failed(self, failure: Failure, life: int, since: Position) -> None:
        self._attempts += 1
        if self._attempts < _ATTEMPTS and (self._waiting or self._asking is not None):
            _log.warn(
                "the history of channel {channel} could not be read: {error}",
                channel=self._name,
                error=failure.value,
            )
            self._node.clock.call_later(_PAUSE, self._again)
            return
        self._attempts = 0
        if not self._waiting:
            self._reading = False  # nobody wants to know any more
            return
        _log.error(
            "the history of channel {channel} cannot be read, those behind are told of a gap: "
            "{error}",
            channel=self._name,
            error=failure.value,
        )
        # Who comes later, when history can be read, shall not be told so.
        self._end(life, since.offset, None, "backend", frozenset(self._waiting))

    def _again(self) -> None:
        self._reading = False
        if self._waiting:
            self._read(min(subscription.offset for subscription in self._waiting))
        else:
            self._attempts = 0

    def _end(
        self,
        life: int,
        asked: int,
        top: int | None = None,
        cause: str = "history",
        for_whom: frozenset[Subscription] | None = None,
    ) -> None:
        """Tell of the gap up to where the ring begins now, or only up to where all is gone."""
        start = max(self._ring.base, asked + 1)
        if top is not None and asked < top < start:
            start = top
        self._done(Stretch(life, asked, start, (), (), cause), for_whom)

    def _done(self, stretch: Stretch, for_whom: frozenset[Subscription] | None = None) -> None:
        self._reading = False
        self._stretch = stretch
        self._for_whom = for_whom
        self._node.keep_page(self)
        waiting, self._waiting = self._waiting, {}
        for subscription in waiting:
            subscription.wake()
