"""One life of one channel in memory: what is kept of it, and who is present."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from typing import Any

from oni.channels._entry import Entry
from oni.values import ClientInfo, Draft, Page, Position

__all__ = ["Stream"]

_PAGE = 1000  # publications in a page, at most
_PAGE_BYTES = 1024 * 1024  # of data in a page, unless one publication has more
_NONE: deque[Any] = deque()  # of all streams that keep nothing; an empty one takes 600 bytes


class Stream:
    """Publications of one channel by their offsets, each linked to the one before it.

    Attributes:
        name: The channel's name.
        epoch: Names this life.
        top: The offset of the newest publication, 0 before the first one.
        link: What the next publication says is before it.
        offsets: Those of the publications that are kept, oldest first.
        expires: When these go.
        present: Who is present, and until when, by the client's id.
        due: When somebody looks at what has expired; None: never.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_drafts",
        "due",
        "epoch",
        "expires",
        "link",
        "name",
        "offsets",
        "present",
        "top",
    )

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.top = 0
        self.link = 0
        self.offsets: deque[int] = _NONE
        self.expires = 0.0
        self.present: dict[str, tuple[ClientInfo, float]] = {}
        self.due: float | None = None
        self._drafts: deque[Draft] = _NONE
        self._base = 0  # what the oldest one that is kept says is before it

    @property
    def position(self) -> Position:
        """Where the newest publication stands."""
        return Position(self.epoch, self.top)

    def add(self, draft: Draft, offset: int) -> Entry:
        """Let this be the newest publication; it is not kept by that."""
        entry = self._entry(offset, draft, self.link)
        self.top = self.link = offset
        return entry

    def keep(self, entry: Entry) -> None:
        """Keep the newest publication."""
        if not self.offsets:
            self._base = entry.prev
            self.offsets, self._drafts = deque(), deque()
        self.offsets.append(entry.offset)
        self._drafts.append(entry.draft)

    def drop_oldest(self) -> int:
        """Keep the oldest publication no more; say how many bytes of data it had."""
        self._base = self.offsets.popleft()
        size = len(self._drafts.popleft().data)
        if not self.offsets:
            self.offsets = self._drafts = _NONE
        return size

    def page(self, since: Position | None, limit: int | None, reverse: bool) -> Page:
        """Read what is kept, see :meth:`oni.interfaces.IChannelBackend.read`."""
        offsets = self.offsets
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
            draft = self._drafts[index]
            size += len(draft.data)
            if entries and size > _PAGE_BYTES:
                break
            prev = offsets[index - 1] if index else self._base
            entries.append(self._entry(offsets[index], draft, prev))
        if entries:
            first_prev = entries[-1 if reverse else 0].prev
        elif reverse and since is not None:
            first_prev = max(min(since.offset - 1, self._base if offsets else self.top), 0)
        else:
            first_prev = self.top
        return Page(tuple(entries), first_prev, self.position)

    def _entry(self, offset: int, draft: Draft, prev: int) -> Entry:
        return Entry(self.name, draft, Position(self.epoch, offset), prev)
