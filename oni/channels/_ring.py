"""The newest publications of a channel, bounded: what its subscribers read."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oni.channels._latest import Latest
from oni.interfaces import IEntry
from oni.values import Position

__all__ = ["Ring", "Rings"]

_Encode = Callable[[IEntry], bytes]

_CHUNKS = 8  # joined frames that are kept until the next publication comes
_SEARCHED = 64  # rings that are looked at, in search of an idle one
_NO_CHUNK: tuple[Any, Any, Any, Any, Any] = (None, None, None, None, None)
_COMPACT_AT = 64  # dropped entries whose places are kept


class Rings:
    """All rings of a node, and the bytes that they may have together.

    When there are too many, rings that nobody is reading are emptied first, those that were
    filled longest ago before others; then the oldest publications of the others go.

    Attributes:
        size: Bytes now.
        max_size: Bytes that are allowed.
        evicted: Publications that were dropped for want of room, so far.
    """

    def __init__(self, max_size: int) -> None:
        self.size = 0
        self.max_size = max_size
        self.evicted = 0
        self._filled: OrderedDict[Ring, None] = OrderedDict()

    def used(self, ring: Ring) -> None:
        """Note that a ring was filled just now, and make room."""
        self._filled[ring] = None
        self._filled.move_to_end(ring)
        if self.size > self.max_size:
            self._make_room(ring)

    def emptied(self, ring: Ring) -> None:
        """Note that a ring has nothing any more."""
        self._filled.pop(ring, None)

    def _make_room(self, newest: Ring) -> None:
        idle = [r for r, _ in zip(self._filled, range(_SEARCHED), strict=False) if not r.readers]
        for ring in idle:
            if self.size <= self.max_size:
                return
            if ring is not newest:
                self.evicted += len(ring)
                ring.clear()
        while self.size > self.max_size:
            ring = next(iter(self._filled))
            if ring is newest and len(ring) == 1:
                return
            self.evicted += 1
            ring.drop_oldest()


class Ring:
    """Publications of one channel in the order of their offsets, without a gap.

    It stands for a stretch of the stream, from ``base`` (not included) to ``top`` (included).

    Attributes:
        base: The offset of the publication before the oldest one here.
        top: The offset of the newest one, or ``base``.
        epoch: The stream's epoch.
        life: Grows whenever it begins anew, and who read it before may have missed something.
        epoch_life: The life with which the epoch began.
        size: Bytes that are kept.
        readers: How many subscriptions have not taken everything.
        excluding: How many of its publications exclude somebody.
        hot: The chunk that was given last: offset, encoder, limit, bytes and offset of its end.
    """

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_entries",
        "_head",
        "_latest",
        "_max_entries",
        "_max_size",
        "_offsets",
        "_rings",
        "base",
        "epoch",
        "epoch_life",
        "excluding",
        "hot",
        "life",
        "readers",
        "size",
        "top",
    )

    def __init__(self, rings: Rings, max_entries: int, max_size: int) -> None:
        self._rings = rings
        self._max_entries = max(max_entries, 1)
        self._max_size = max_size
        self._entries: list[Any] = []
        self._offsets: list[int] = []
        self._head = 0
        self._chunks: dict[Any, tuple[bytes, int]] = {}
        self._latest: Latest | None = None
        self.hot = _NO_CHUNK
        self.base = 0
        self.top = 0
        self.epoch = ""
        self.life = self.epoch_life = 0
        self.size = 0
        self.readers = 0
        self.excluding = 0

    def __len__(self) -> int:
        """Count the publications."""
        return len(self._entries) - self._head

    @property
    def position(self) -> Position:
        """Where the newest publication stands."""
        return Position(self.epoch, self.top)

    def begin(self, position: Position) -> None:
        """Begin another life, in which nothing of what was read before has a place."""
        self.clear()
        self.life += 1
        if position.epoch != self.epoch:
            self.epoch_life = self.life
        self.epoch = position.epoch
        self.base = self.top = position.offset

    def skip(self, offset: int) -> None:
        """Go on after this offset: what lies between was never received."""
        self.clear()
        self.base = self.top = offset

    def clear(self) -> None:
        """Drop every publication."""
        for entry in self._entries[self._head :]:
            entry.on_growth = None
        self._entries.clear()
        self._offsets.clear()
        self._chunks.clear()
        if self._latest is not None:
            self._latest.clear()
        self.hot = _NO_CHUNK
        self._head = self.excluding = 0
        self._rings.size -= self.size
        self.size = 0
        self.base = self.top
        self._rings.emptied(self)

    def append(self, entry: Any) -> None:
        """Add the publication that comes next, and drop old ones where there are too many."""
        self._chunks.clear()
        self.hot = _NO_CHUNK
        self._entries.append(entry)
        self._offsets.append(entry.offset)
        self.top = entry.offset
        if entry.exclude:
            self.excluding += 1
        if self._latest is not None:
            self._latest.add(entry)
        entry.on_growth = self._grow
        self._grow(entry.size)
        while len(self) > self._max_entries or (self.size > self._max_size and len(self) > 1):
            self.drop_oldest()
        self._rings.used(self)

    def drop_oldest(self) -> None:
        """Drop one publication."""
        head = self._head
        entry = self._entries[head]
        self._entries[head] = None
        self._chunks.clear()
        self.hot = _NO_CHUNK
        self.base = entry.offset
        entry.on_growth = None
        self._grow(-entry.size)
        if entry.exclude:
            self.excluding -= 1
        if self._latest is not None:
            self._latest.drop(entry)
        self._head = head + 1
        if self._head == len(self._entries):
            self.clear()
        elif self._head >= _COMPACT_AT and self._head * 2 > len(self._entries):
            del self._entries[: self._head], self._offsets[: self._head]
            self._head = 0

    def covers(self, offset: int) -> bool:
        """Say whether everything that comes after this offset is here, as far as it was heard."""
        return self.base <= offset <= self.top

    def after(self, offset: int) -> Sequence[Any]:
        """Give the publications after this offset, which must not be before ``base``."""
        return self._entries[bisect_right(self._offsets, offset, self._head) :]

    def walk(self, offset: int) -> Iterator[Any]:
        """Give the same, each when it is asked for; the ring must not change meanwhile."""
        start = bisect_right(self._offsets, offset, self._head)
        return map(self._entries.__getitem__, range(start, len(self._entries)))

    def count(self, start: int, end: int) -> int:
        """Count the publications after one offset, up to another one."""
        first = bisect_right(self._offsets, start, self._head)
        return bisect_right(self._offsets, end, self._head) - first

    def latest(self, tag: str) -> Latest:
        """Give the newest publication for each value of a tag, from the first call on kept up."""
        latest = self._latest
        if latest is None or latest.tag != tag:
            latest = self._latest = Latest(tag, self.newest())
        return latest

    def newest(self) -> Sequence[Any]:
        """Give all publications that are kept."""
        return self._entries[self._head :]

    def chunk(self, offset: int, encode: _Encode, limit: int) -> tuple[bytes, int]:
        """Give the encodings after this offset, joined, and the offset of the last one.

        At least one, and no more than fit into ``limit`` bytes. Subscriptions that stand at the
        same place get the same bytes.
        """
        key = (offset, encode, limit)
        chunk = self._chunks.get(key)
        if chunk is None:
            if len(self._chunks) >= _CHUNKS:
                self._chunks.clear()
            chunk = join(self.walk(offset), encode, limit)
            self._chunks[key] = chunk
        self.hot = (*key, *chunk)
        return chunk

    def _grow(self, size: int) -> None:
        self.size += size
        self._rings.size += size


def join(entries: Iterator[Any], encode: _Encode, limit: int) -> tuple[bytes, int]:
    """Join the encodings of the first entries, as many as fit, at least one."""
    first = next(entries)
    offset = first.offset
    data = first.encoded(encode)
    size = len(data)
    frames = None
    for entry in entries:
        frame = entry.encoded(encode)
        size += len(frame)
        if size > limit:
            break
        if frames is None:
            frames = [data]
        frames.append(frame)
        offset = entry.offset
    return data if frames is None else b"".join(frames), offset
